"""Where rules are broken: counted as slowly as the rules read, and told of a real table by counts only."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hg3.table.checks import check_table, checked_cohort
from hg3.table.cohort import cells_of
from hg3.table.violations import counted, violations
from tests.table.cases import make_schema
from tests.table.ruled import RULES, random_cells, ruled_schema, ruled_table, slow_violations

SCHEMA = ruled_schema()


@given(st.integers(0, 2**32))
def test_violations_are_those_of_plain_loops(seed: int) -> None:
    cells = random_cells(SCHEMA, seed)
    for rule in SCHEMA.rules:
        broken, could = violations(rule, cells, SCHEMA.by_name)
        assert not (broken & ~could).any()
        assert (int(broken.sum()), int(could.sum())) == slow_violations(rule, cells, SCHEMA), rule.sentence


def test_random_cells_break_every_rule() -> None:
    cells = random_cells(SCHEMA, 0, n=50)
    assert all(slow_violations(rule, cells, SCHEMA)[0] > 0 for rule in SCHEMA.rules)


def test_what_is_counted_has_a_name() -> None:
    kinds = [counted(rule, SCHEMA.by_name) for rule in SCHEMA.rules]
    assert kinds == ["rows", "patients", "rows", "rows", "values", "values", "values", "rows"]


def test_a_real_table_is_warned_of_with_counts_and_no_cell() -> None:
    table = ruled_table()
    cohort, found = check_table(table, SCHEMA)
    assert cohort is not None and found.errors == []
    assert len(found.warnings) == len(RULES)
    for rule, warning in zip(SCHEMA.rules, found.warnings, strict=True):
        broken, could = slow_violations(rule, cells_of(cohort, rule.columns), SCHEMA)
        of = counted(rule, SCHEMA.by_name)
        assert broken > 0
        assert warning == (
            f"the rule {rule.sentence!r} is broken by {broken} of the {could} {of} it is about "
            f"({broken / could:.2%}); a release will keep it"
        )


def test_counts_do_not_depend_on_the_order_of_the_rows() -> None:
    table = ruled_table()
    shuffled = table.sample(frac=1, random_state=1)
    assert check_table(shuffled, SCHEMA)[1].warnings == check_table(table, SCHEMA)[1].warnings


def test_a_table_that_keeps_its_rules_is_not_warned_of() -> None:
    table = pd.DataFrame({"id": 1, "month": range(6), "x": range(6), "y": [0, 1, None, 5, 5, 9]})
    columns = [{"name": name, "kind": "real", "missing": "modelled"} for name in "xy"]
    up = [{"kind": "monotone", "column": name, "direction": "increasing"} for name in "xy"]
    found = check_table(table.assign(y=table["x"] + 1), make_schema(columns, rules=[*up, *order("x", "y")]))[1]
    assert (found.errors, found.warnings) == ([], [])


def order(*columns: str, **more: str) -> list[dict[str, object]]:
    return [{"kind": "order", "columns": columns, **more}]


def test_a_rule_may_be_an_error_and_then_names_the_rows() -> None:
    table = pd.DataFrame({"id": [1, 1, 2, 2], "month": [0, 1, 0, 1], "x": [1.5, 9.25, 1.5, 9.75], "y": 4.5})
    columns = [{"name": "x", "kind": "real"}, {"name": "y", "kind": "real"}]
    cohort, found = check_table(table, make_schema(columns, rules=order("x", "y", on_table="error")))
    assert cohort is None and found.warnings == ["column 'y' has one value only; it is kept as a constant"]
    assert found.errors == [
        "the rule 'x <= y' is broken by 2 of the 4 rows it is about, on 2 rows (rows 2, 4); mend them, or set "
        'on_table = "warn" for the rule'
    ]


def test_the_error_of_a_static_rule_names_all_rows_of_a_patient() -> None:
    table = pd.DataFrame({"id": [1, 1, 2, 2], "month": [0, 1, 0, 1], "x": [5, 5, 1, 1], "y": [4, 4, 9, 9]})
    columns = [{"name": name, "kind": "real", "static": True} for name in "xy"]
    _, found = check_table(table, make_schema(columns, rules=order("x", "y", on_table="error")))
    assert "broken by 1 of the 2 patients it is about, on 2 rows (rows 1, 2)" in found.errors[0]


def test_rules_are_looked_at_only_where_the_table_is_right() -> None:
    table = ruled_table()
    table.loc[0, "low"] = 1e6
    _, found = check_table(table, SCHEMA)
    assert len(found.errors) == 1 and not any("rule" in text for text in found.errors + found.warnings)


def test_masked_cells_break_no_rule() -> None:
    columns: list[dict[str, Any]] = [
        *({"name": name, "kind": "real"} for name in "xy"),
        {"name": "measured", "kind": "binary", "indicates": "x", "masks": True},
    ]
    table = pd.DataFrame({"id": 1, "month": range(4), "x": 9.0, "y": [1.0, 2.0, 3.0, 4.0], "measured": [1, 0, 1, 0]})
    cohort, warnings = checked_cohort(table, make_schema(columns, rules=order("x", "y")))
    assert "broken by 2 of the 2 rows" in warnings[-1]
    assert np.isnan(cells_of(cohort, ["x"]).values["x"][0]).tolist() == [False, True, False, True, True, True]


@pytest.mark.parametrize("gap", [True, False])
def test_time_counts_over_gaps(gap: bool) -> None:
    months = [0, 3, 5] if gap else [0, 1, 2]
    table = pd.DataFrame({"id": 1, "month": months, "x": [2.0, 1.0, 3.0]})
    rule = {"kind": "monotone", "column": "x", "direction": "increasing"}
    _, found = check_table(table, make_schema([{"name": "x", "kind": "real"}], rules=[rule]))
    assert "broken by 1 of the 2 values" in found.warnings[0]
