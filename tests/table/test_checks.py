"""Checks: every fault in one run, counted and located, and never a cell in a message."""

import datetime
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hg3.errors import TableError
from hg3.table.checks import check_table, checked_cohort
from hg3.table.cohort import Cohort
from hg3.table.findings import Findings
from hg3.table.read import read_table
from hg3.table.schema import TableSchema
from tests.table.cases import make_schema, make_table, tiny_columns

CANARY_NUMBER, CANARY_TEXT = 987654.321, "ZZCANARY"
ARROW_TEXT = pa.dictionary(pa.int32(), pa.string())
Spoil = Callable[[pd.DataFrame], pd.DataFrame]


def errors_of(table: pd.DataFrame, schema: TableSchema | None = None) -> list[str]:
    """Return the errors of a check; no message may hold a canary."""
    cohort, found = check_table(table, schema or make_schema(tiny_columns()))
    assert (cohort is None) == bool(found.errors)
    messages = " ".join(found.errors + found.warnings)
    assert not any(canary in messages for canary in ("987654", "9.87", "ZZ", "CANARY")), messages
    return found.errors


def put(name: str, rows: list[int], value: Any) -> Spoil:
    """Return what puts `value` in column `name` on `rows`, counted from 1."""

    def spoil(table: pd.DataFrame) -> pd.DataFrame:
        cells = table[name].astype(object)
        for row in rows:
            cells.iat[row - 1] = value
        return table.assign(**{name: cells})

    return spoil


CELL_FAULTS: list[tuple[Spoil, str]] = [
    (
        put("id", [2, 4], None),
        "column 'id' has 2 rows without a patient (rows 2, 4); fill them or drop the rows",
    ),
    (put("month", [3], None), "column 'month' has 1 rows without a finite number (row 3); count months"),
    (
        put("month", [3], CANARY_TEXT),
        "column 'month' has 1 rows without a finite number (row 3); count months",
    ),
    (put("month", [3], np.inf), "column 'month' has 1 rows without a finite number (row 3); count months"),
    (
        put("month", [3], 0.321987654),
        "column 'month' has 1 times that are not whole months (row 3); bin them",
    ),
    (
        put("month", [5, 6], 987654),
        "column 'month' has 2 times outside the grid 0 to 5 (rows 5, 6); set `first",
    ),
    (
        put("month", [5], -987654),
        "column 'month' has 1 times outside the grid 0 to 5 (row 5); set `first_time`",
    ),
    (
        put("CD4", [7], CANARY_TEXT),
        "column 'CD4' has 1 cells that are text or dates, not numbers (row 7); mend",
    ),
    (
        put("CD4", [7], datetime.date(1987, 6, 5)),
        "column 'CD4' has 1 cells that are text or dates, not numbers",
    ),
    (
        put("CD4", [7], [CANARY_NUMBER]),
        "column 'CD4' has 1 cells that are text or dates, not numbers (row 7)",
    ),
    (put("CD4", [1, 2], -np.inf), "column 'CD4' has 2 cells that are infinite or beyond 1e+30 (rows 1, 2)"),
    (put("CD4", [1], 1.7976931348623157e308), "column 'CD4' has 1 cells that are infinite or beyond 1e+30"),
    (
        put("CD4", [9], CANARY_NUMBER),
        "column 'CD4' has 1 cells outside its bounds 0 to 5000 (row 9); mend them",
    ),
    (
        put("CD4", [9], -CANARY_NUMBER),
        "column 'CD4' has 1 cells outside its bounds 0 to 5000 (row 9); mend them",
    ),
    (put("CD4", list(range(1, 10)), ""), "column 'CD4' has "),
    (
        put("drug", [3], CANARY_TEXT),
        "column 'drug' has 1 cells with codes that are not in the schema, which ",
    ),
    (put("drug", [3], 987654.321), "which allows [-1, 0, 3] (row 3); mend them or extend `categories`"),
    (put("drug", [3], [CANARY_TEXT]), "column 'drug' has 1 cells with codes that are not in the schema"),
    (
        put("drug", [3], None),
        "column 'drug' has 1 missing cells and the schema says missing = \"never\" (row 3)",
    ),
    (
        put("drug", [3], " "),
        "column 'drug' has 1 missing cells and the schema says missing = \"never\" (row 3)",
    ),
    (put("sex", [1], "M"), "column 'sex' is static and changes within 1 patients, on "),
    (put("height", [7], CANARY_NUMBER), "column 'height' is static and changes within 1 patients, on "),
    (
        put("sex", [1, 2, 3, 4, 5, 6], None),
        "column 'sex' is static and empty for 1 patients and the schema says",
    ),
    (lambda t: t.assign(VL=np.nan), "column 'VL' has no usable cell; take it out of the schema"),
    (lambda t: t.assign(CD4=pd.Timestamp("1987-06-05")), "column 'CD4' has 76 cells that are text or dates"),
    (
        lambda t: t.assign(month=pd.Timestamp("1987-06-05")),
        "column 'month' has 76 rows without a finite number",
    ),
    (lambda t: t.assign(CD4=t["CD4"] + 1j), "column 'CD4' has 76 cells that are text or dates, not numbers"),
    (
        lambda t: t.drop(columns="CD4"),
        "the table lacks 1 of the 9 columns of the schema: ['CD4']; add them or",
    ),
    (
        lambda t: t.assign(extra=CANARY_TEXT),
        "the table has 1 columns that the schema does not know: ['extra']",
    ),
    (
        lambda t: t.assign(**{"5": 1}),
        "the table has 1 columns that the schema does not know: ['5']; add them",
    ),
    (lambda t: pd.concat([t, t[["CD4"]]], axis=1), "the table has column 'CD4' 2 times; keep one"),
    (
        lambda t: pd.concat([t, t.iloc[:2]]),
        "2 rows repeat a pair (id, month) that stands above them (rows 77, 78)",
    ),
    (lambda t: t.iloc[:0], "the table holds no rows; it needs at least one row a patient"),
    (lambda t: pd.DataFrame(), "the table holds no rows; it needs at least one row a patient"),
]


@pytest.mark.parametrize(("spoil", "sentence"), CELL_FAULTS)
def test_a_fault_is_told_with_its_rows_and_without_its_cell(spoil: Spoil, sentence: str) -> None:
    table = make_table()
    assert len(table) == 76
    table["CD4 (M)"] = 1
    table.loc[0, "CD4 (M)"] = 0
    errors = errors_of(spoil(table))
    assert len(errors) == 1 and sentence in errors[0]


def test_a_sound_table_has_no_findings(tiny_schema: TableSchema, tiny_table: pd.DataFrame) -> None:
    cohort, found = check_table(tiny_table, tiny_schema)
    assert found == Findings() and isinstance(cohort, Cohort)
    assert cohort.patients.tolist() == list(range(100, 116)) and cohort.n_patients == 16
    assert cohort.values["drug"].dtype == np.int32 and cohort.values["VL"].dtype == np.float64


def test_all_faults_are_found_in_one_run(tiny_table: pd.DataFrame) -> None:
    table = put("VL", [1], CANARY_TEXT)(tiny_table)
    table = put("drug", [2], CANARY_TEXT)(table)
    table = put("sex", [3], "M")(table)
    table = put("month", [4], -987654)(table)
    table = put("id", [5], None)(table)
    table = pd.concat([table, table.iloc[[9]]]).drop(columns="stage").assign(more=CANARY_NUMBER)
    sentences = (
        "lacks 1 of the 9 columns",
        "1 columns that the schema does not know",
        "'id' has 1 rows without a patient (row 5)",
        "'month' has 1 times outside the grid 0 to 5 (row 4)",
        "1 rows repeat a pair (id, month) that stands above them (row 77)",
        "'VL' has 1 cells that are text",
        "'drug' has 1 cells with codes",
        "'sex' is static and changes within 1 patients, on 1 rows (row 3)",
    )
    errors = errors_of(table)
    assert len(errors) == len(sentences)
    assert all(any(sentence in error for error in errors) for sentence in sentences), errors
    with pytest.raises(TableError) as caught:
        checked_cohort(table, make_schema(tiny_columns(), name="tiny"))
    assert str(caught.value).startswith("the table does not fit schema 'tiny': ")
    assert all(error in str(caught.value) for error in errors)


def test_more_than_five_positions_are_counted(tiny_table: pd.DataFrame) -> None:
    errors = errors_of(put("VL", list(range(11, 31)), CANARY_TEXT)(tiny_table))
    assert "has 20 cells that are text" in errors[0] and "(rows 11, 12, 13, 14, 15 and 15 more)" in errors[0]


def test_a_table_without_a_header_tells_none_of_its_first_patient(tiny_table: pd.DataFrame) -> None:
    names = [CANARY_TEXT, str(CANARY_NUMBER), *(f"{CANARY_TEXT}{i}" for i in range(7))]
    errors = errors_of(tiny_table.set_axis(names, axis=1))
    assert len(errors) == 2 and "the table has 9 columns that the schema does not know (has it a header" in errors[1]


def test_negative_cells_under_box_cox() -> None:
    schema = make_schema([{"name": "x", "kind": "real", "transform": "box-cox"}])
    table = pd.DataFrame({"id": 1, "month": [0, 1, 2], "x": [1.0, -CANARY_NUMBER, 3.0]})
    sentence = "column 'x' has 1 negative cells, which box-cox cannot take (row 2); mend them, set a lower bound"
    assert sentence in errors_of(table, schema)[0]


@pytest.mark.parametrize(("choice", "done"), [("missing", "made missing"), ("clip", "clipped")])
def test_cells_outside_the_bounds_are_counted(choice: str, done: str) -> None:
    column = {
        "name": "x",
        "kind": "real",
        "bounds": [0.0, 10.0],
        "out_of_bounds": choice,
        "missing": "modelled",
    }
    table = pd.DataFrame({"id": 1, "month": range(4), "x": [CANARY_NUMBER, 3.0, 4.0, -CANARY_NUMBER]})
    schema = make_schema([column])
    assert errors_of(table, schema) == []
    cohort, warnings = checked_cohort(table, schema)
    assert warnings == [f"column 'x': 2 cells outside its bounds were {done}"]
    expected = [10.0, 3.0, 4.0, 0.0] if choice == "clip" else [np.nan, 3.0, 4.0, np.nan]
    np.testing.assert_array_equal(cohort.values["x"], expected)


def test_cells_made_missing_where_none_may_be_are_an_error() -> None:
    column = {"name": "x", "kind": "real", "bounds": [0.0, 10.0], "out_of_bounds": "missing"}
    table = pd.DataFrame({"id": 1, "month": range(3), "x": [CANARY_NUMBER, 3.0, 4.0]})
    assert "column 'x' has 1 missing cells" in errors_of(table, make_schema([column]))[0]


def test_cells_that_a_mask_hides_may_be_empty(tiny_schema: TableSchema, tiny_table: pd.DataFrame) -> None:
    tiny_table.loc[tiny_table["CD4 (M)"] == 0, "CD4"] = np.nan
    assert errors_of(tiny_table, tiny_schema) == []
    tiny_table["CD4 (M)"] = 1
    assert "column 'CD4' has " in errors_of(tiny_table, tiny_schema)[0]


@pytest.mark.parametrize("column", [{"kind": "real"}, {"kind": "categorical"}, {"kind": "real", "static": True}])
def test_a_constant_column_is_told(column: dict[str, Any]) -> None:
    table = pd.DataFrame({"id": 1, "month": range(3), "x": 987654})
    _, found = check_table(table, make_schema([{"name": "x", **column}]))
    assert found.warnings == ["column 'x' has one value only; it is kept as a constant"]


IDS: list[tuple[list[Any], list[Any]]] = [
    (["b", "a", "b"], ["a", "b"]),
    ([2.0, 1.0, 2.0], [1, 2]),
    (["10", "9", "10"], [9, 10]),
    (["01", "1", "01"], ["01", "1"]),
    ([1, "a", 1], ["1", "a"]),
    ([2**62, -5, 2**62], [-5, 2**62]),
    ([2**70, 3, 2**70], [str(2**70), "3"]),
    ([datetime.date(2020, 1, 2), 7, datetime.date(2020, 1, 2)], ["2020-01-02", "7"]),
    ([decimal.Decimal(4), decimal.Decimal(3), decimal.Decimal(4)], [3, 4]),
    ([True, False, True], [0, 1]),
]


@pytest.mark.parametrize(("ids", "patients"), IDS)
def test_patient_ids_of_any_type(ids: list[Any], patients: list[Any]) -> None:
    table = pd.DataFrame({"id": pd.Series(ids, dtype=object), "month": [0, 0, 1], "x": [1.0, 2.0, 3.0]})
    cohort, _ = checked_cohort(table, make_schema([{"name": "x", "kind": "real"}]))
    assert cohort.patients.tolist() == patients
    last = cohort.patient_index[0]
    assert cohort.patient_index.tolist() == [last, 1 - last, last]


CODES: list[tuple[list[Any] | None, list[Any], list[int], list[Any]]] = [
    ([0, 1], [0.0, "1", True], [0, 1, 1], [0, 1]),
    ([0, 1], [False, True, False], [0, 1, 0], [0, 1]),
    (["True", "False"], [True, False, True], [0, 1, 0], ["True", "False"]),
    (["01", "1"], ["01", "1", 1.0], [0, 1, 1], ["01", "1"]),
    ([-2, 5], [-2.0, " 5 ", "-2"], [0, 1, 0], [-2, 5]),
    (["not known", "A b"], ["A b", "not known", " A b"], [1, 0, 1], ["not known", "A b"]),
    ([10**17 + 1, 10**17], [10**17, 10**17 + 1, 10**17], [1, 0, 1], [10**17 + 1, 10**17]),
    (None, ["10", "9", 9.0], [1, 0, 0], [9, 10]),
    (None, ["10", "x", 9], [0, 2, 1], ["10", "9", "x"]),
    (None, [1.5, 2.0, 2], [0, 1, 1], ["1.5", "2"]),
    (None, [2**70, 1, 1], [1, 0, 0], ["1", str(2**70)]),
]


@pytest.mark.parametrize(("listed", "cells", "index", "codes"), CODES)
def test_codes_of_any_type(listed: list | None, cells: list, index: list[int], codes: list) -> None:
    schema = make_schema([{"name": "c", "kind": "categorical", "categories": listed}])
    table = pd.DataFrame({"id": 1, "month": range(3), "c": pd.Series(cells, dtype=object)})
    cohort, _ = checked_cohort(table, schema)
    assert list(cohort.categories["c"]) == codes and cohort.values["c"].tolist() == index


REALS: list[Any] = [
    pd.Series(["1", " 2 ", "3e0"]),
    pd.Series([1, 2, 3], dtype="Int64"),
    pd.Series([1, 2, 3], dtype="int64[pyarrow]"),
    pd.Series([1, 2, 3]).astype("category"),
    pd.Series([decimal.Decimal(1), 2.0, "3"], dtype=object),
]


@pytest.mark.parametrize("cells", REALS, ids=lambda cells: str(cells.dtype))
def test_numbers_of_any_type(cells: pd.Series) -> None:
    schema = make_schema([{"name": "x", "kind": "real"}])
    cohort, _ = checked_cohort(pd.DataFrame({"id": 1, "month": range(3), "x": cells}), schema)
    assert cohort.values["x"].tolist() == [1.0, 2.0, 3.0]


STRANGE: dict[str, Callable[[int], pd.Series]] = {
    "dates": lambda n: pd.Series(pd.date_range("1987-06-05", periods=n)),
    "zoned": lambda n: pd.Series(pd.date_range("1987-06-05", periods=n, tz="UTC")),
    "durations": lambda n: pd.Series(pd.to_timedelta(range(n), unit="D")),
    "periods": lambda n: pd.Series(pd.period_range("1987", periods=n)),
    "lists": lambda n: pd.Series([[CANARY_NUMBER]] * n),
    "arrow lists": lambda n: pd.Series([[CANARY_NUMBER]] * n, dtype=pd.ArrowDtype(pa.list_(pa.float64()))),
    "arrow dictionary": lambda n: pd.Series([CANARY_TEXT] * n, dtype=pd.ArrowDtype(ARROW_TEXT)),
    "bytes": lambda n: pd.Series([CANARY_TEXT.encode()] * n),
    "complex": lambda n: pd.Series(np.full(n, CANARY_NUMBER * 1j)),
    "nullable bool": lambda n: pd.Series([True, None] * n, dtype="boolean")[:n],
    "mixed": lambda n: pd.Series([1, CANARY_TEXT, None, 2.5, (1, 2), b"x"] * n, dtype=object)[:n],
    "none": lambda n: pd.Series([None] * n, dtype=object),
    "wide": lambda n: pd.Series([2**70 + i for i in range(n)], dtype=object),
    "unsigned": lambda n: pd.Series(np.full(n, 2**64 - 1, np.uint64)),
    "long": lambda n: pd.Series(["9876543210" * 500] * n),
}


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("name", make_table().columns)
def test_a_column_of_any_type_is_checked_and_not_told(kind: str, name: str) -> None:
    table = make_table()
    errors_of(table.assign(**{name: STRANGE[kind](len(table))}))
    columns = [column | {"categories": None, "labels": None} for column in tiny_columns()[5:6]]
    errors_of(table[["id", "month"]].assign(drug=STRANGE[kind](len(table))), make_schema(columns))


def test_empty_text_is_a_missing_number() -> None:
    schema = make_schema([{"name": "x", "kind": "real", "missing": "modelled"}])
    table = pd.DataFrame({"id": 1, "month": range(4), "x": ["1", "", " ", None]})
    assert np.isnan(checked_cohort(table, schema)[0].values["x"]).tolist() == [False, True, True, True]


def test_column_names_that_are_numbers_and_an_index_that_repeats() -> None:
    table = pd.DataFrame({"id": [1, 1, 2], "month": [1.0, 0.0, 0.0], 5: [1.0, 2.0, 3.0]}, index=[7, 7, 7])
    cohort, _ = checked_cohort(table, make_schema([{"name": "5", "kind": "real"}]))
    assert cohort.time_index.tolist() == [1, 0, 0] and cohort.values["5"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("name", ["a{b}", "{", "{0}", "{n!r:>9}", "%s"])
def test_names_and_codes_may_hold_braces(name: str) -> None:
    schema = make_schema([{"name": name, "kind": "categorical", "categories": ["{x}", "}"]}])
    table = pd.DataFrame({"id": [1, 1], "month": [0, 1], name: ["{x}", "no code"]})
    (error,) = errors_of(table, schema)
    assert f"column {name!r} has 1 cells with codes that are not in the schema" in error and "'{x}', '}'" in error


def test_a_whole_number_of_hundreds_of_digits_is_infinite(tmp_path: Path) -> None:
    schema = make_schema([{"name": "x", "kind": "real"}])
    path = tmp_path / "t.csv"
    path.write_text("id,month,x\n1,0,1.5\n2,0," + "9" * 400 + "\n")
    _, found = check_table(read_table(path, schema), schema)
    assert len(found.errors) == 1 and "'x' has 1 cells that are infinite or beyond 1e+30 (row 2)" in found.errors[0]
