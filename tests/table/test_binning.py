"""Visits at any time: which bin, when within it, and what becomes of those that share one."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hg3.errors import SchemaError
from hg3.table.binning import bins_of
from hg3.table.checks import check_table, checked_cohort
from hg3.table.cohort import Cohort
from hg3.table.decoding import decode
from hg3.table.encoding import encode, fit_encoder
from hg3.table.schema import TableSchema, parse_schema
from tests.table.cases import make_schema, train_mask

X: dict[str, Any] = {"name": "x", "kind": "real"}


def binned_schema(width: float = 0.5, columns: tuple[dict[str, Any], ...] = (X,), **table: Any) -> TableSchema:
    return make_schema(list(columns), **{"step": "year", "bin": width, "within": "since", **table})


def visits(*times: Any, patient: Any = 1) -> pd.DataFrame:
    return pd.DataFrame({"id": patient, "month": times, "x": np.arange(len(times)) + 0.25})


def binned(table: pd.DataFrame, schema: TableSchema) -> tuple[Cohort, list[str]]:
    return checked_cohort(table, schema)


def test_the_schema_gains_the_column_within_and_survives_toml() -> None:
    schema = binned_schema()
    column = schema.columns[0]
    assert (column.name, column.unit, column.decimals, column.bounds) == ("since", "years", 4, (0.0, 0.4999))
    assert "start of the bin, which is 0.5 years wide" in column.description
    assert parse_schema(schema.to_toml(), "again") == schema
    assert [c.name for c in schema.columns] == ["since", "x"]


@pytest.mark.parametrize(
    ("width", "decimals", "high"),
    [(7, 3, 6.999), (0.25, 5, 0.24999), (1e6, 3, 999999.999), (1e-9, 9, 0.0), (1 / 3, 9, 0.333333332)],
)
def test_decimals_follow_the_width(width: float, decimals: int, high: float) -> None:
    if high == 0:
        with pytest.raises(ValueError, match="lowest < highest"):
            binned_schema(width)
        return
    column = binned_schema(width).columns[0]
    assert column.decimals == decimals and column.bounds[1] == high < width


def test_the_column_within_may_be_described_by_hand() -> None:
    mine = {"name": "since", "kind": "real", "decimals": 1, "bounds": [0, 0.4]}
    schema = binned_schema(columns=(X, mine))
    assert [c.name for c in schema.columns] == ["x", "since"]
    cohort, _ = binned(visits(0.0, 0.77, 1.49), schema)
    np.testing.assert_allclose(cohort.values["since"], [0, 0.3, 0.4])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"within": ""}, "has one of `bin` and `within`"),
        ({"bin": None}, "has one of `bin` and `within`"),
        ({"bin": 0}, "greater than 0"),
        ({"bin": float("nan")}, "bin"),
        ({"bin": float("inf")}, "bin"),
        ({"bin": "wide"}, "bin"),
        ({"within": "month"}, "names ['month'] more than once"),
        ({"within": "x"}, "which must be real, not static, never missing and with `decimals`"),
        ({"columns": [X, {"name": "since", "kind": "real", "decimals": 1, "bounds": [0, 0.5]}]}, "0 to less than 0.5"),
        ({"columns": [X, {"name": "since", "kind": "real", "decimals": 1, "bounds": [-1, 0.4]}]}, "0 to less than 0.5"),
        ({"columns": [X, {"name": "since", "kind": "binary"}]}, "which must be real"),
        ({"columns": [X, {"name": "since", "kind": "real", "decimals": 1, "static": True}]}, "not static"),
        ({"columns": [X, {"name": "since", "kind": "real", "decimals": 1, "missing": "modelled"}]}, "never missing"),
    ],
)
def test_a_schema_that_contradicts_itself_is_refused(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError) as error:
        make_schema(**{"columns": [X], "step": "year", "bin": 0.5, "within": "since", **change})
    assert fault in str(error.value)


@pytest.mark.parametrize("number", [0, 1])
def test_a_fault_is_that_of_its_column(number: int) -> None:
    """hg3 puts the column `within` before the others, which moves the numbers that a fault is found by."""
    text = binned_schema(columns=tuple({**X, "name": f"c{i}"} for i in range(2))).to_toml()
    written = [part for part in text.split("[[columns]]") if 'name = "since"' not in part]
    written[number + 1] += "decimals = 99\n"
    with pytest.raises(SchemaError, match=f"^schema made column 'c{number}'.decimals: Input should be less"):
        parse_schema("[[columns]]".join(written), "made")


def test_times_become_bins_and_offsets() -> None:
    cohort, warnings = binned(visits(0.0, 0.4999, 0.5, 1.25, 2.9), binned_schema())
    assert warnings[0].startswith("1 rows share a bin of 0.5 years with a later one of their patient")
    assert cohort.time_index.tolist() == [0, 1, 2, 5]
    np.testing.assert_allclose(cohort.values["since"], [0.4999, 0, 0.25, 0.4])
    assert cohort.values["x"].tolist() == [1.25, 2.25, 3.25, 4.25]


def test_the_last_of_a_bin_stays_whatever_the_order_and_only_within_a_patient() -> None:
    table = pd.concat([visits(0.3, 0.1, 1.0), visits(0.2, 0.45, 0.4, patient=2)])
    cohort, warnings = binned(table, binned_schema())
    assert warnings[0].startswith("3 rows share a bin")
    assert cohort.patient_index.tolist() == [0, 0, 1] and cohort.time_index.tolist() == [0, 2, 0]
    assert cohort.values["x"].tolist() == [0.25, 2.25, 1.25]


def test_no_warning_where_no_bin_is_shared() -> None:
    assert binned(visits(0.1, 0.7), binned_schema())[1] == []


def test_the_first_bin_may_be_another_one() -> None:
    cohort, _ = binned(visits(-0.75, -0.5, 0.2), binned_schema(first_time=-2))
    assert cohort.time_index.tolist() == [0, 1, 2]
    np.testing.assert_allclose(cohort.values["since"], [0.25, 0, 0.2])


@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.25, 0.3, 1 / 3, 1.0, 7.0]), st.floats(0, 0.999))
def test_the_time_comes_back(number: int, width: float, share: float) -> None:
    schema = binned_schema(width)
    column = schema.by_name["since"]
    assert column.decimals is not None
    time = number * width + share * width
    bins, offset = bins_of(np.array([time, number * width]), schema)
    step = 10.0**-column.decimals
    assert bins.tolist() == [number, number]
    assert 0 <= offset[0] <= column.bounds[1] and offset[1] == 0
    assert abs(bins[0] * width + offset[0] - time) <= max(step, 1e-9 * width) * 1.01


@pytest.mark.parametrize("empty", [None, "", " ", np.nan])
def test_a_static_column_that_changes_between_visits_of_a_bin_is_told(empty: Any) -> None:
    """And one that only an earlier visit of the bin has passes to the one that stays."""
    schema = binned_schema(columns=(X, {"name": "sex", "kind": "binary", "static": True, "categories": ["F", "M"]}))
    table = pd.concat([visits(0.0, 0.1, 0.2, 0.9), visits(0.0, 0.1, patient=2)], ignore_index=True)
    cohort, _ = binned(table.assign(sex=["F", empty, empty, "F", "M", empty]), schema)
    assert cohort.values["sex"].tolist() == [0, 0, 1]
    _, found = check_table(table.assign(sex=["F", "M", empty, "M", "M", "M"]), schema)
    (error,) = found.errors
    assert error.startswith("column 'sex' is static and changes within 1 patients between visits of one bin; mend")


def test_a_table_with_the_column_within_is_binned_already() -> None:
    table = visits(0, 1, 3).assign(since=[0.1, 0.2, 0.3])
    cohort, warnings = binned(table, binned_schema())
    assert warnings == [] and cohort.time_index.tolist() == [0, 1, 3]
    _, found = check_table(table.assign(month=[0, 0.5, 1]), binned_schema())
    assert "column 'month' has 1 times that are not whole years (row 2)" in found.errors[0]


FAULTS: list[tuple[pd.DataFrame, str]] = [
    (visits(0.1, "soon", 1.2), "column 'month' has 1 rows without a finite number (row 2)"),
    (visits(0.1, np.inf, 1.2), "column 'month' has 1 rows without a finite number (row 2)"),
    (visits(0.1, 3.0), "column 'month' has 1 times outside the grid 0 to 5 (row 2)"),
    (visits(0.1, -0.01), "column 'month' has 1 times outside the grid 0 to 5 (row 2)"),
    (visits(0.1, 0.7, 0.7), "1 rows repeat a pair (id, month) that stands above them (row 3)"),
    (visits(0.1, 0.7).drop(columns="month"), "the table lacks 1 of the 4 columns of the schema: ['month']"),
    (visits(0.1, 0.7).drop(columns="id"), "the table lacks 1 of the 4 columns of the schema: ['id']"),
    (visits(0.1, 0.2, patient=["", None]), "column 'id' has 2 rows without a patient (rows 1, 2)"),
    (visits(0.1, 0.2, 0.7).assign(x=[1, 2, "a"]), "column 'x' has 1 cells that are text or dates, not numbers (row 3)"),
]


@pytest.mark.parametrize(("table", "fault"), FAULTS, ids=[fault for _, fault in FAULTS])
def test_a_fault_is_told_once_with_the_row_of_the_table(table: pd.DataFrame, fault: str) -> None:
    _, found = check_table(table, binned_schema())
    assert len(found.errors) == 1 and fault in found.errors[0]


def test_dropped_rows_do_not_shift_positions() -> None:
    columns = (*({"name": name, "kind": "real", "static": True} for name in "ab"), X)
    rules = [{"kind": "order", "columns": ["a", "b"], "on_table": "error"}]
    table = visits(0.1, 0.2, 0.7).assign(a=5.0, b=1.0)
    _, found = check_table(table, binned_schema(columns=columns, rules=rules))
    assert "(rows 2, 3)" in found.errors[0]


def test_ids_and_times_may_be_text() -> None:
    table = pd.DataFrame({"id": ["a", "a", "b"], "month": ["0.1", "0.2", "0.3"], "x": [1.0, 2.0, 3.0]})
    cohort, _ = binned(table, binned_schema())
    assert cohort.values["x"].tolist() == [2, 3]


def test_a_binned_table_comes_back_through_the_encoding() -> None:
    rng = np.random.default_rng(0)
    table = pd.concat([visits(*np.sort(rng.uniform(0, 2.99, 4)), patient=p) for p in range(20)], ignore_index=True)
    schema = binned_schema()
    cohort, _ = binned(table, schema)
    encoder, _ = fit_encoder(cohort, train_mask(20))
    encoded = encode(cohort, encoder)
    made = decode(encoded.x_static, encoded.x_dynamic, cohort.patients, encoder).to_pandas()
    released = encoder.released_schema()
    back, warnings = checked_cohort(made, released)
    assert warnings == [] and (back.time_index == cohort.time_index).all()
    np.testing.assert_allclose(back.values["since"], cohort.values["since"], atol=1e-9)
    raw = table.sort_values(["id", "month"]).groupby(["id", table["month"] // 0.5])["month"].max()
    np.testing.assert_allclose(np.sort(made["month"] * 0.5 + made["since"]), np.sort(raw), atol=1e-4)
    again, _ = checked_cohort(table, released)  # the schema of a release fits the visits too
    assert (again.time_index == cohort.time_index).all()
