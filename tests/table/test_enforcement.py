"""Rules kept: no violation is left, nothing else is touched, and no patient depends on another."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hg3.table.checks import check_table, checked_cohort
from hg3.table.cohort import cells_of
from hg3.table.decoding import decode, decode_counted
from hg3.table.encoding import Encoder, fit_encoder
from hg3.table.enforcement import Enforcer, RuleCount, total
from hg3.table.schema import TableSchema
from hg3.table.violations import Cells, violations
from tests.table.cases import make_schema, train_mask
from tests.table.ruled import RULES, random_cells, ruled_schema, ruled_table, slow_violations

SCHEMA = ruled_schema()
ROWS_OF = ["id", "month"]


def enforcer(schema: TableSchema, cells: Cells, seed: int = 0) -> Enforcer:
    """Return the enforcer of a sample whose codes have scores by chance."""
    n, length = cells.has_row.shape
    rng = np.random.default_rng(seed)
    decimals = {c.name: c.decimals for c in schema.columns if c.decimals is not None}
    codes = {c.name: c for c in schema.columns if c.categories}
    shapes = {name: (n, len(c.categories or ()), 1 if c.static else length) for name, c in codes.items()}
    return Enforcer(schema, decimals, {name: rng.normal(size=shape) for name, shape in shapes.items()})


def enforced(rules: list[dict[str, Any]], seed: int) -> tuple[TableSchema, Cells, Cells, list[RuleCount]]:
    schema = ruled_schema(rules)
    before = random_cells(schema, seed)
    after, counts = enforcer(schema, before, seed).enforce(before)
    return schema, before, after, counts


def same(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one == other) | (np.isnan(one) & np.isnan(other))


def names_of(rule: dict[str, Any]) -> str:
    return f"{rule['kind']} {rule.get('column', '')}"


@pytest.mark.parametrize("rules", [RULES, RULES[::-1], *([rule] for rule in RULES)], ids=lambda r: names_of(r[0]))
@given(st.integers(0, 2**32))
def test_no_violation_is_left_and_counts_are_true(rules: list[dict[str, Any]], seed: int) -> None:
    schema, before, after, counts = enforced(rules, seed)
    for rule, count in zip(schema.rules, counts, strict=True):
        assert slow_violations(rule, after, schema)[0] == 0 == count.violations_after
        broken, could = slow_violations(rule, before, schema)
        assert (count.violations_before, count.eligible) == (broken, could)
        if len(rules) == 1:
            assert (broken > 0) == (count.cells_changed + count.rows_dropped > 0)


@pytest.mark.parametrize("rule", RULES, ids=names_of)
@given(st.integers(0, 2**32))
def test_a_rule_changes_only_what_breaks_it(rule: dict[str, Any], seed: int) -> None:
    schema, before, after, (count,) = enforced([rule], seed)
    broken, _ = violations(schema.rules[0], before, schema.by_name)
    changed = {name: ~same(before.values[name], after.values[name]) for name in before.values}
    touched = set(schema.rules[0].columns) if rule["kind"] != "ends" else set(before.values)
    for name, where in changed.items():
        assert not (where & ~broken).any() if name in touched else not where.any()
        assert rule["kind"] == "ends" or (np.isnan(before.values[name]) == np.isnan(after.values[name])).all()
    if rule["kind"] == "ends":
        assert count == RuleCount(count.eligible, count.violations_before, 0, count.violations_before, 0)
        assert ((before.has_row & ~after.has_row) == broken).all()
    else:
        assert (after.has_row == before.has_row).all()
        assert count.cells_changed == sum(int(where.sum()) for where in changed.values())


@given(st.integers(0, 2**32))
def test_keeping_rules_twice_is_keeping_them_once(seed: int) -> None:
    schema, _, after, _ = enforced(RULES, seed)
    again, counts = enforcer(schema, after, seed + 1).enforce(after)
    assert all(same(again.values[name], after.values[name]).all() for name in after.values)
    assert all(c.cells_changed == c.rows_dropped == c.violations_before == 0 for c in counts)


@given(st.integers(0, 2**32))
def test_order_sorts_the_values_of_a_row(seed: int) -> None:
    _, before, after, _ = enforced(RULES[:1], seed)
    stacked = [np.stack([cells.values[name] for name in ("low", "mid", "high")]) for cells in (before, after)]
    np.testing.assert_array_equal(np.sort(stacked[0], axis=0), np.sort(stacked[1], axis=0).clip(None, 150))


def one_patient(**cells: list[float]) -> Cells:
    """Return the cells of a patient with a row at each time given."""
    values = {name: np.array([given], np.float64) for name, given in cells.items()}
    return Cells(values, np.ones((1, max(map(len, cells.values()))), bool))


def enforced_alone(schema: TableSchema, cells: Cells) -> tuple[Cells, list[RuleCount]]:
    return enforcer(schema, cells).enforce(cells)


def test_sorted_values_fit_decimals_and_bounds_of_their_new_columns() -> None:
    schema = ruled_schema(RULES[:1])
    cells = one_patient(low=[80, 80, 149, np.nan], mid=[79.99, 80.5, 12.34, 120.25], high=[70.5, 80.6, 10, 120.2])
    after, _ = enforced_alone(schema, cells)
    low, mid, high = (after.values[name][0].tolist() for name in ("low", "mid", "high"))
    assert (low[0], mid[0], high[0]) == (70, 79.99, 80)  # 70.5 to whole numbers, like its column
    assert (low[1], mid[1], high[1]) == (80, 80.5, 80.6)  # nothing is broken, nothing is rounded
    assert (low[2], mid[2], high[2]) == (10, 12.34, 149)
    assert (mid[3], high[3]) == (120.2, 120.2)


def test_the_most_probable_code_that_nothing_forbids_is_taken() -> None:
    schema = ruled_schema(RULES[2:4])
    cells = one_patient(sex=[1], drug=[1, 0, 1], lab=[0, 0, 1])
    score = np.array([[[0.9, 0.9, 0.1], [0.8, 0.8, 0.9], [0.1, 0.1, 0.05]]])
    after, (first, second) = Enforcer(schema, {}, {"lab": score}).enforce(cells)
    # Men have no a, drug 3 no b: c stays at time 0, b is more probable at time 1, and at time 2 only c is left.
    assert after.values["lab"][0].tolist() == [2, 1, 2]
    assert (first, second) == (RuleCount(3, 2, 2, 0, 0), RuleCount(3, 1, 1, 0, 0))


def test_scores_beyond_any_probability_do_no_harm() -> None:
    cells = one_patient(sex=[1], drug=[0], lab=[0])
    score = np.array([[[np.inf], [-1e38], [-np.inf]]])
    after, _ = Enforcer(ruled_schema(RULES[2:4]), {}, {"lab": score}).enforce(cells)
    assert after.values["lab"][0].tolist() == [1]


def test_a_column_gives_way_where_another_will_then_have_to() -> None:
    rules = [{"kind": "forbidden", "codes": {"a": 1, "b": 1}}, {"kind": "forbidden", "codes": {"b": 0, "c": 1}}]
    schema = make_schema([{"name": name, "kind": "binary"} for name in "abc"], rules=rules)
    after, counts = enforced_alone(schema, one_patient(a=[1], b=[1], c=[1]))
    assert [after.values[name].item() for name in "abc"] == [1, 0, 0]
    assert [c.violations_after for c in counts] == [0, 0]


def test_a_code_that_another_rule_would_mend_is_taken_only_if_it_must_be() -> None:
    columns: list[dict[str, Any]] = [{"name": name, "kind": "binary"} for name in "ac"]
    columns.append({"name": "b", "kind": "ordinal", "categories": [0, 1, 2]})
    rules = [{"kind": "forbidden", "codes": {"a": 1, "b": 1}}, {"kind": "forbidden", "codes": {"b": 2, "c": 1}}]
    schema = make_schema(columns, rules=rules)
    score = np.array([[[-0.9, -0.9], [0.9, 0.9], [0.5, 0.5]]])
    scores = {"b": score, "c": np.zeros((1, 2, 2))}
    after, _ = Enforcer(schema, {}, scores).enforce(one_patient(a=[1, 1], b=[1, 1], c=[1, 0]))
    assert after.values["b"][0].tolist() == [0, 2] and after.values["c"][0].tolist() == [1, 0]


def test_rules_that_undo_each_other_are_applied_again() -> None:
    rules = [{"kind": "order", "columns": pair} for pair in (("b", "c"), ("a", "b"))]
    schema = make_schema([{"name": name, "kind": "real"} for name in "abc"], rules=rules)
    after, counts = enforced_alone(schema, one_patient(a=[3], b=[2], c=[1]))
    assert [after.values[name].item() for name in "abc"] == [1, 2, 3]
    assert [c.cells_changed for c in counts] == [4, 2] and [c.violations_after for c in counts] == [0, 0]


LATTICES = [
    {"name": "a", "kind": "real", "decimals": 1, "bounds": [0.2, 0.8], "missing": "modelled"},
    {"name": "b", "kind": "real", "decimals": 3, "bounds": [0.25, 0.9], "missing": "modelled"},
    {"name": "c", "kind": "real", "decimals": 0, "bounds": [1, 10], "missing": "modelled"},
    {"name": "d", "kind": "real", "decimals": 1, "bounds": [1, 12], "missing": "modelled"},
]
DIRECTIONS = st.sampled_from(["increasing", "decreasing", None])


@given(st.lists(DIRECTIONS, min_size=4, max_size=4), st.integers(0, 2**32))
def test_order_and_direction_hold_together_on_any_decimals(directions: list[str | None], seed: int) -> None:
    """Rounding to one column's decimals must not undo the other rule, nor leave the bounds."""
    rules: list[dict[str, Any]] = [{"kind": "order", "columns": ["a", "b", "c", "d"]}]
    rules += [
        {"kind": "monotone", "column": name, "direction": direction}
        for name, direction in zip("abcd", directions, strict=True)
        if direction
    ]
    schema = make_schema(LATTICES, rules=rules)
    rng = np.random.default_rng(seed)
    has_row = rng.random((5, 6)) < 0.9
    values = {
        c.name: np.where(
            has_row & (rng.random((5, 6)) < 0.8), np.round(rng.uniform(*c.bounds, (5, 6)), c.decimals or 0), np.nan
        )
        for c in schema.columns
    }
    after, counts = enforced_alone(schema, Cells(values, has_row))
    assert all(count.violations_after == 0 for count in counts)
    for column in schema.columns:
        kept = after.values[column.name]
        kept = kept[~np.isnan(kept)]
        assert ((kept >= column.bounds[0]) & (kept <= column.bounds[1])).all()
        assert np.array_equal(kept, np.round(kept, column.decimals or 0))


def test_a_row_that_no_change_can_mend_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every way out of one rule breaks the other; a patient's last row stays, and the count says so.

    The schema refuses these rules, as it does all that it can look through.
    """
    monkeypatch.setattr("hg3.table.schema.check_rules", lambda rules, columns: None)
    rules = [
        {"kind": "forbidden", "codes": {"a": 1, "b": 1}},
        {"kind": "forbidden", "codes": {"c": 1, "b": 0}},
    ]
    schema = make_schema([{"name": name, "kind": "binary"} for name in "abc"], rules=rules)
    after, counts = enforced_alone(schema, one_patient(a=[1, 0], b=[1, 0], c=[1, 1]))
    assert after.has_row.tolist() == [[False, True]] and after.values["b"][0, 1] == 1
    assert [(c.rows_dropped, c.violations_after) for c in counts] == [(1, 0), (0, 0)]
    after, counts = enforced_alone(schema, one_patient(a=[1], b=[1], c=[1]))
    assert after.has_row.all() and [(c.rows_dropped, c.violations_after) for c in counts] == [(0, 1), (0, 0)]


def test_a_static_column_gives_way_among_static_ones() -> None:
    columns = [{"name": name, "kind": "binary", "static": True} for name in "ab"] + [{"name": "c", "kind": "binary"}]
    rules = [{"kind": "forbidden", "codes": {"a": 1, "b": 1}}, {"kind": "forbidden", "codes": {"b": 0, "c": 1}}]
    schema = make_schema(columns, rules=rules)
    after, counts = enforced_alone(schema, one_patient(a=[1], b=[1], c=[1, 0]))
    assert after.values["b"].tolist() == [[0]] and after.values["c"].tolist() == [[0, 0]]
    assert [c.violations_after for c in counts] == [0, 0]


def test_time_rules_do_what_they_say() -> None:
    nan = np.nan
    cells = one_patient(dose=[3, 1, nan, 5, 4], stage=[2, nan, 0, 1, 2], state=[0, 1, 0, 2, 0])
    after, _ = enforced_alone(ruled_schema(RULES[4:7]), cells)
    np.testing.assert_array_equal(after.values["dose"][0], [3, 3, nan, 5, 5])
    np.testing.assert_array_equal(after.values["stage"][0], [2, nan, 0, 0, 0])
    np.testing.assert_array_equal(after.values["state"][0], [0, 1, 1, 1, 1])
    after, _ = enforced_alone(ruled_schema(RULES[7:]), cells)
    np.testing.assert_array_equal(after.has_row[0], [True, True, True, True, False])
    np.testing.assert_array_equal(after.values["dose"][0], [3, 1, nan, 5, nan])


def test_counts_add_up() -> None:
    one, two = RuleCount(1, 2, 3, 4, 5), RuleCount(10, 20, 30, 40, 50)
    assert total([[one, two], [two, two]]) == [RuleCount(11, 22, 33, 44, 55), RuleCount(20, 40, 60, 80, 100)]


# Through decoding.


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    cohort, _ = checked_cohort(ruled_table(), SCHEMA)
    return fit_encoder(cohort, train_mask(cohort.n_patients))[0]


def without_rules(encoder: Encoder) -> Encoder:
    return Encoder(encoder.schema.model_copy(update={"rules": ()}), encoder.columns, encoder.layout)


def sampled(encoder: Encoder, seed: int, n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = (n, encoder.layout.n_static), (n, encoder.layout.n_dynamic, encoder.layout.length)
    x_static, x_dynamic = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return x_static, x_dynamic


def strict(schema: TableSchema) -> TableSchema:
    """Return the schema with every rule an error."""
    rules = tuple(rule.model_copy(update={"on_table": "error"}) for rule in schema.rules)
    return schema.model_copy(update={"rules": rules})


@given(st.integers(0, 2**32))
def test_any_sample_decodes_to_a_table_that_keeps_the_rules(encoder: Encoder, seed: int) -> None:
    sample = sampled(encoder, seed)
    table, counts = decode_counted(*sample, np.arange(12), encoder)
    assert check_table(table.to_pandas(), strict(encoder.released_schema()), to_learn_from=False)[1].errors == []
    assert all(count.violations_after == 0 for count in counts)
    free, nothing = decode_counted(*sample, np.arange(12), without_rules(encoder))
    assert nothing == [] and free.schema == table.schema
    cohort, _ = check_table(free.to_pandas(), without_rules(encoder).released_schema(), to_learn_from=False)
    assert cohort is not None
    for rule, count in zip(SCHEMA.rules, counts, strict=True):
        broken_and_could = slow_violations(rule, cells_of(cohort, rule.columns), cohort.schema)
        assert (count.violations_before, count.eligible) == broken_and_could
    kept = free.to_pandas().merge(table.to_pandas()[ROWS_OF], on=ROWS_OF)
    assert len(kept) == len(table) == len(free) - sum(count.rows_dropped for count in counts)
    ruled = {name for rule in SCHEMA.rules for name in rule.columns}
    others = [c.name for c in SCHEMA.columns if c.name not in ruled]
    pd.testing.assert_frame_equal(kept[others], table.to_pandas()[others])
    pd.testing.assert_frame_equal(kept.isna(), table.to_pandas().isna())


def test_each_rule_has_work_in_decoding(encoder: Encoder) -> None:
    _, counts = decode_counted(*sampled(encoder, 0, n=64), np.arange(64), encoder)
    assert all(count.violations_before > 0 and count.cells_changed + count.rows_dropped > 0 for count in counts)


def test_a_patient_is_the_same_whoever_stands_beside(encoder: Encoder) -> None:
    x_static, x_dynamic = sampled(encoder, 3, n=20)
    whole = decode(x_static, x_dynamic, np.arange(20), encoder)
    counts = []
    for patient in range(20):
        part = slice(patient, patient + 1)
        alone, count = decode_counted(x_static[part], x_dynamic[part], np.arange(20)[part], encoder)
        counts.append(count)
        assert alone == whole.filter(pc.equal(whole["id"], patient))
    assert [asdict(c) for c in total(counts)] == [
        asdict(c) for c in decode_counted(x_static, x_dynamic, np.arange(20), encoder)[1]
    ]


def test_a_constant_column_gives_way_to_a_code_never_seen() -> None:
    columns: list[dict[str, Any]] = [{"name": "x", "kind": "binary"}]
    columns.append({"name": "y", "kind": "categorical", "categories": [5, 6]})
    rule = {"kind": "forbidden", "codes": {"x": 1, "y": 5}}
    table = pd.DataFrame({"id": np.arange(8).repeat(2), "month": np.tile([0, 1], 8), "x": np.tile([0, 1], 8), "y": 5})
    cohort, _ = checked_cohort(table, make_schema(columns, length=2, rules=[rule]))
    encoder, _ = fit_encoder(cohort, train_mask(8))
    made = decode(*sampled(encoder, 0), np.arange(12), encoder).to_pandas()
    assert (made["x"] == 1).any() and (made["y"] == np.where(made["x"] == 1, 6, 5)).all()
