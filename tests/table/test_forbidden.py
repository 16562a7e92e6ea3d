"""Forbidden combinations taken together, against looking at every state there is."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hg3.table.cohorts.from_schema import simulate_schema
from hg3.table.enforcement import Enforcer
from hg3.table.forbidden import dead_end, least_repaired
from hg3.table.schema import TableSchema
from hg3.table.violations import Cells
from tests.table.cases import make_schema

SIZES = {"a": 2, "b": 3, "c": 2, "d": 3}
State = dict[str, int]


@st.composite
def combinations(draw: st.DrawFn) -> list[State]:
    """Draw up to six forbidden combinations of two or three of the columns; the last one gives way."""
    found = []
    for _ in range(draw(st.integers(1, 6))):
        names = draw(st.lists(st.sampled_from("abcd"), min_size=2, max_size=3, unique=True))
        found.append({name: draw(st.integers(0, SIZES[name] - 1)) for name in names})
    return found


def states(names: str) -> Iterator[State]:
    for codes in product(*(range(SIZES[name]) for name in names)):
        yield dict(zip(names, codes, strict=True))


def breaks(state: State, forbidden: list[State]) -> bool:
    return any(all(state.get(name) == code for name, code in one.items()) for one in forbidden)


@given(combinations(), st.sets(st.sampled_from("abcd")))
def test_a_dead_end_is_one_and_none_is_missed(forbidden: list[State], givers: set[str]) -> None:
    held = "".join(name for name in "abcd" if name not in givers)
    free = "".join(sorted(givers))
    dead = [one for one in states(held) if all(breaks({**one, **other}, forbidden) for other in states(free))]
    found = dead_end(forbidden, SIZES, givers, [])
    assert (found is None) == (not dead)
    if found is not None:
        assert any(all(code in (-1, one[name]) for name, code in found.items()) for one in dead)


@given(combinations(), st.sets(st.sampled_from("abcd")), st.integers(0, 35))
def test_a_repair_changes_as_few_codes_as_can_be(forbidden: list[State], givers: set[str], number: int) -> None:
    start = list(states("abcd"))[number]
    choices = {name: list(range(SIZES[name])) for name in sorted(givers)}
    ways = [
        sum(one[name] != start[name] for name in start)
        for one in states("abcd")
        if not breaks(one, forbidden) and all(one[name] == start[name] for name in start if name not in givers)
    ]
    found = least_repaired(start, forbidden, choices, most=4)
    assert (found is None) == (not ways)
    if found is not None:
        assert not breaks(found, forbidden) and all(found[name] == start[name] for name in start if name not in givers)
        assert sum(found[name] != start[name] for name in start) == min(ways)


def accepted(forbidden: list[State], static: bool) -> TableSchema | None:
    columns: list[dict[str, Any]] = [
        {"name": name, "kind": "categorical", "categories": list(range(size)), "static": static, "missing": "modelled"}
        for name, size in SIZES.items()
    ]
    rules = [{"kind": "forbidden", "codes": codes, "on_table": "error"} for codes in forbidden]
    try:
        return make_schema([*columns, {"name": "x", "kind": "real"}], rules=rules, length=4)
    except ValueError:
        return None


@given(combinations(), st.booleans(), st.integers(0, 2**32))
def test_what_a_schema_accepts_can_be_kept_with_every_row(forbidden: list[State], static: bool, seed: int) -> None:
    schema = accepted(forbidden, static)
    if schema is None:
        return
    rng = np.random.default_rng(seed)
    length = 1 if static else 4
    values = {name: rng.integers(0, size, (12, length)).astype(float) for name, size in SIZES.items()}
    for cells in values.values():
        cells[rng.random(cells.shape) < 0.15] = np.nan
    scores = {name: rng.random((12, size, length)) for name, size in SIZES.items()}
    _, counts = Enforcer(schema, {}, scores).enforce(Cells(values, np.ones((12, 4), bool)))
    assert all(count.violations_after == 0 and count.rows_dropped == 0 for count in counts)


def test_a_simulated_table_with_every_row_keeps_every_row() -> None:
    forbidden = [{"a": 1, "b": 0}, {"c": 1, "b": 1}, {"b": 2, "d": 2}, {"a": 0, "d": 1}]
    schema = accepted(forbidden, static=False)
    assert schema is not None
    assert len(simulate_schema(schema, 50, seed=1, complete=True)) == 50 * 4
