"""Proposed schemas: their tables fit them at once, and nothing in them is a patient's."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from hg3.errors import ConfigError, SchemaError, TableError
from hg3.table.checks import check, check_table
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.cohorts.from_schema import simulate_schema
from hg3.table.column import Column
from hg3.table.infer import infer_schema, propose_schema
from hg3.table.schema import TableSchema, load_schema, parse_schema, shipped_schemas
from hg3.table.write import write_table
from tests.table.cases import make_table, real_table
from tests.table.strategies import Case, cases

N, MONTHS = 40, 12


def table_of(**columns: Any) -> pd.DataFrame:
    """Return 40 patients of 12 months with `columns`, each a function of patient and month, or cells."""
    patient, month = np.repeat(np.arange(N), MONTHS), np.tile(np.arange(MONTHS), N)
    cells = {name: cell(patient, month) if callable(cell) else cell for name, cell in columns.items()}
    return pd.DataFrame({"id": patient, "month": month, **cells})


def proposed(table: pd.DataFrame, **wishes: Any) -> TableSchema:
    """Return the proposal for a table, which fits it."""
    schema = parse_schema(infer_schema(table, "id", "month", "made", **wishes), "proposed")
    assert check_table(table, schema)[1].errors == []
    return schema


def column(cell: Any) -> Column:
    return proposed(table_of(x=cell)).by_name["x"]


def line_of(cell: Any, start: str) -> str:
    """Return the line of a proposed column that begins with `start`."""
    lines = infer_schema(table_of(x=cell), "id", "month", "made").splitlines()
    (found,) = (line for line in lines[lines.index('name = "x"') :] if line.startswith(start))
    return found


# Kinds.


@pytest.mark.parametrize(
    ("cell", "kind", "categories"),
    [
        (lambda p, t: p / 7 + t, "real", None),
        (lambda p, t: p * 12 + t, "real", None),  # whole numbers, many of them
        (lambda p, t: np.where(p + t == 0, 1, 0), "binary", (0, 1)),  # the default codes tell nobody's
        (lambda p, t: (p + t) % 2 + 1, "binary", (1, 2)),
        (lambda p, t: (p + t) % 2 == 0, "binary", (0, 1)),
        (lambda p, t: np.array(["no", "yes"])[(p + t) % 2], "binary", ("no", "yes")),
        (lambda p, t: (p + t) % 5, "categorical", (0, 1, 2, 3, 4)),
        (lambda p, t: ((p + t) % 5).astype(float), "categorical", (0, 1, 2, 3, 4)),
        (lambda p, t: (p + t) % 15, "categorical", tuple(range(15))),
        (lambda p, t: (p + t) % 16, "real", None),
        (lambda p, t: np.array(["01", "02", "1"])[(p + t) % 3], "categorical", ("01", "02", "1")),
        (lambda p, t: np.char.zfill(((p + t) % 30).astype(str), 2), "categorical", tuple(f"{i:02}" for i in range(30))),
        (lambda p, t: np.array(["a", "b", "3"])[(p + t) % 3], "categorical", ("3", "a", "b")),
        (lambda p, t: np.full(len(p), "same"), "categorical", ("same",)),
        (lambda p, t: (p + t) % 5 + 0.5, "real", None),
    ],
)
def test_kind(cell: Any, kind: str, categories: tuple[Any, ...] | None) -> None:
    found = column(cell)
    assert (found.kind, found.categories) == (kind, categories)
    assert (found.missing == "never" and not found.static) or categories == ("same",)


def test_a_real_has_the_decimals_of_the_table() -> None:
    assert column(lambda p, t: p + t / 4).decimals == 2
    assert column(lambda p, t: p * 12 + t).decimals == 0
    assert column(lambda p, t: p * 12.3 + t / 4 * 1e-4).decimals == 6
    assert column(lambda p, t: p / 7 + t).decimals is None
    assert "more than 6 in the table" in line_of(lambda p, t: p / 7 + t, "# decimals")


def test_a_hint_that_a_person_must_choose() -> None:
    assert "ordinal if their order means something" in line_of(lambda p, t: (p + t) % 5, "kind")
    assert line_of(lambda p, t: (p + t) % 2 + 1, "kind") == 'kind = "binary"'
    assert line_of(lambda p, t: np.array(["a", "b", "c"])[(p + t) % 3], "kind") == 'kind = "categorical"'


# Static columns and missing cells.


def first_row_alone(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.where(t == 0, p % 4 + 0.5, np.nan)


@pytest.mark.parametrize(
    ("cell", "static", "missing"),
    [
        (lambda p, t: p % 2 + 1, True, "never"),
        (lambda p, t: p / 7, True, "never"),
        (first_row_alone, True, "never"),
        (lambda p, t: np.where(t == p % 12, p % 4 + 0.5, np.nan), False, "modelled"),  # once, but when tells something
        (lambda p, t: np.where(t == p % 12, p % 3, np.nan), False, "modelled"),
        (lambda p, t: np.where(p < 4, np.nan, p / 7), True, "modelled"),
        (lambda p, t: np.where(t % 5 == 3, np.nan, p / 7), False, "modelled"),  # there and not there tells something
        (lambda p, t: np.where((p + t) % 5 == 3, 1.0, np.nan), False, "modelled"),
        (lambda p, t: np.where((p == 7) & (t == 7), 3, p % 3), False, "modelled"),  # 3 is rare
        (lambda p, t: [f"{x % 3}.{'0' * (1 + y % 2)}5" for x, y in zip(p, t, strict=True)], False, "never"),
        (lambda p, t: [f"{x % 3}.5{'0' * (y % 2)}" for x, y in zip(p, t, strict=True)], True, "never"),
    ],
)
def test_static_and_missing(cell: Any, static: bool, missing: str) -> None:
    found = column(cell)
    assert (found.static, found.missing) == (static, missing)


def test_one_row_a_patient_says_nothing_of_what_stays() -> None:
    table = table_of(x=lambda p, t: p / 7)
    assert not proposed(table[table["month"] == 0]).by_name["x"].static


@pytest.mark.parametrize(
    ("share", "words"), [(0.25, "25% missing"), (1 / 480, "under 1% missing"), (479 / 480, "over 99%"), (0.5, "50%")]
)
def test_shares_are_rounded(share: float, words: str) -> None:
    cells = np.arange(480) / 7
    cells[: round(480 * share)] = np.nan
    text = infer_schema(table_of(x=cells, y=lambda p, t: p + t), "id", "month", "made")
    if "over" in words:  # the one cell that is left is a patient's
        assert '"x", # filled for fewer than 10 patients' in text
    else:
        assert f'missing = "modelled" # {words}' in text
    assert "of patients missing" not in text


def test_the_share_of_a_static_column_is_of_patients() -> None:
    assert "10% of patients missing" in line_of(lambda p, t: np.where(p < 4, np.nan, p / 7), "missing")


# What nobody may see.


def test_no_bound_is_a_value_of_the_data() -> None:
    found = column(lambda p, t: p * 12.0 + t + 17.25)
    assert found.bounds == (0.0, np.inf)
    assert column(lambda p, t: p * 12.0 + t - 17.25).bounds == (-np.inf, np.inf)
    text = infer_schema(table_of(x=lambda p, t: p * 12.0 + t + 17.25), "id", "month", "made")
    assert "17.25" not in text and "496.25" not in text


def test_codes_of_few_patients_are_not_named() -> None:
    rare = np.where(np.arange(480) < 9 * MONTHS, "rare", np.array(["a", "b"])[np.arange(480) % 2])  # 9 patients
    text = infer_schema(table_of(x=rare), "id", "month", "made")
    assert "rare" not in text.replace("rare codes then count", "")
    assert "# categories: 1 of 3 codes have fewer than 10 patients and are not named" in text
    found = column(rare)
    assert (found.kind, found.categories, found.missing) == ("categorical", None, "modelled")
    named = np.where(np.arange(480) < 10 * MONTHS, "rare", np.array(["a", "b"])[np.arange(480) % 2])
    assert column(named).categories == ("a", "b", "rare")


def test_the_canary_is_not_in_a_proposal() -> None:
    table = make_table(60)
    table.loc[3, "VL"], table.loc[4, "stage"] = 7731.7731, "sekrit-7731"
    assert "7731" not in infer_schema(table, "id", "month", "made")


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (lambda p, t: [f"note {i}" for i in range(480)], "free text, dates or identifiers"),
        (lambda p, t: pd.date_range("2020-01-01", periods=480), "free text, dates or identifiers"),
        (lambda p, t: [None] * 480, "empty"),
        (lambda p, t: np.where(p < 9, p + t / 7, np.nan), "filled for fewer than 10 patients"),
    ],
)
def test_what_cannot_be_modelled_is_ignored(cell: Any, reason: str) -> None:
    table = table_of(x=cell, y=lambda p, t: p + t / 7)
    assert f'    "x", # {reason}\n' in infer_schema(table, "id", "month", "made")
    assert proposed(table).ignore == ("x",)


def test_a_few_texts_among_numbers_are_told() -> None:
    cells = [f"{i / 7:.3f}" for i in range(479)] + ["<20"]
    text = infer_schema(table_of(x=cells), "id", "month", "made")
    assert 'kind = "real" # 1 cells are not numbers: mend them' in text and "<20" not in text
    found = check_table(table_of(x=cells), parse_schema(text, "proposed"))[1]
    assert ["'x' has 1 cells that are text" in error for error in found.errors] == [True]


# The grid.


@pytest.mark.parametrize(
    ("n_first", "n_last", "first", "length"), [(10, 10, 3, 9), (9, 10, 0, 12), (10, 9, 3, 10), (0, 0, 0, 20)]
)
def test_ends_of_the_grid_that_few_patients_reach_are_rounded_outward(
    n_first: int, n_last: int, first: int, length: int
) -> None:
    table = table_of(x=lambda p, t: p + t / 7)
    month, patient = table["month"], table["id"]
    table = table[month.between(4, 10) | (month == 3) & (patient < n_first) | (month == 11) & (patient < n_last)]
    if n_first == 0:
        table = table[table["id"] < 9]
    schema = proposed(table)
    assert (schema.first_time, schema.length) == (first, length)


def test_times_before_and_at_0() -> None:
    table = table_of(x=lambda p, t: p + t / 7)
    assert proposed(table[table["id"] < 9]).first_time == 0
    schema = proposed(table[table["id"] < 9].assign(month=lambda t: t["month"] - 3))
    assert (schema.first_time, schema.length) == (-10, 20)


@pytest.mark.parametrize(
    ("time", "step"), [("Hour", "hour"), ("study_day", "day"), ("Timestep", "visit"), ("weeks", "week"), ("t", "visit")]
)
def test_step_is_what_the_name_says(time: str, step: str) -> None:
    table = table_of(x=lambda p, t: p + t / 7).rename(columns={"month": time})
    assert parse_schema(infer_schema(table, "id", time, "made"), "proposed").step == step
    assert parse_schema(infer_schema(table, "id", time, "made", "year"), "proposed").step == "year"


BAD_TIMES = [
    (lambda t: t + 0.5, "column 'month' has 480 of 480 times that are not whole numbers; give --bin"),
    (lambda t: t.astype(str) + "th", "480 of 480 times that are no finite numbers; mend them"),
    (lambda t: t * 10_000, "column 'month' spans more than 100,000 times; count in a coarser step"),
]


@pytest.mark.parametrize(("change", "sentence"), BAD_TIMES)
def test_times_that_make_no_grid(change: Any, sentence: str) -> None:
    table = table_of(x=lambda p, t: p + t / 7)
    with pytest.raises(TableError, match=sentence):
        infer_schema(table.assign(month=change(table["month"])), "id", "month", "made")


def test_visits_at_any_time_are_binned() -> None:
    """Bins of two weeks in months: a visit at 0.5, 1.5, ... months beside those at whole ones, in the odd bins."""
    table = table_of(x=lambda p, t: p + t / 7, month_within="taken")
    uneven = table.assign(month=table["month"] + np.where(table["id"] % 2, 0.6, 0.0))
    text = infer_schema(uneven, "id", "month", "made", width=0.5)
    schema = parse_schema(text, "proposed")
    assert (schema.bin, schema.within, schema.step) == (0.5, "month_within_bin", "month")
    last = int(table["month"].max())
    assert (schema.first_time, schema.length) == (0, 2 * last + 2)
    assert check_table(uneven, schema)[1].errors == []


def test_a_static_value_on_the_first_visit_alone_outlives_its_bin() -> None:
    """Of two visits in a bin the last stays, and takes the static value that only the first one has."""
    table = table_of(x=lambda p, t: p + t / 7, sex=lambda p, t: np.where(t == 0, np.where(p % 2, "F", "M"), " "))
    schema = parse_schema(infer_schema(table, "id", "month", "made", width=2.0), "proposed")
    assert schema.by_name["sex"].static and schema.by_name["sex"].categories == ("F", "M")
    cohort, found = check_table(table, schema)
    assert found.errors == [] and cohort is not None
    assert sorted(set(cohort.values["sex"][cohort.time_index == 0])) == [0, 1]


@pytest.mark.parametrize("width", [0.0, -1.0, math.inf, math.nan, 1e7, 1_000_001.0])
def test_no_width_of_a_bin(width: float) -> None:
    with pytest.raises(ConfigError, match=r"its width is above 0 and at most 1,000,000: give such a width"):
        infer_schema(table_of(x=1.5), "id", "month", "made", width=width)


def test_the_widest_bin_of_large_times() -> None:
    table = table_of(x=1.5)
    table["month"] = 1e12 + 1e6 * table["month"]
    assert parse_schema(infer_schema(table, "id", "month", "made", width=1e6), "proposed").bin == 1e6
    table["month"] = 1e12 * table["month"]
    with pytest.raises(ConfigError, match=r"choose a wider one, up to 1,000,000, or count the times in a coarser unit"):
        infer_schema(table, "id", "month", "made", width=1e6)


@pytest.mark.parametrize("width", [1e-300, 1e-5])
def test_a_width_of_more_bins_than_a_grid_has(width: float) -> None:
    sentence = (
        rf"a bin of {width:g} was asked for, and column 'month' then spans more than 100,000 bins; choose a wider"
    )
    with pytest.raises(ConfigError, match=sentence):
        infer_schema(table_of(x=1.5), "id", "month", "made", width=width)


def test_a_binned_time_may_have_any_name() -> None:
    table = table_of(x=lambda p, t: p + t / 7).rename(columns={"month": 'mon\nth # "in"'})
    schema = parse_schema(infer_schema(table, "id", 'mon\nth # "in"', "made", width=2.0), "proposed")
    assert (schema.time, schema.within) == ('mon\nth # "in"', 'mon\nth # "in"_within')


# Wishes that cannot be met.


@pytest.mark.parametrize(
    ("table", "keys", "error", "sentence"),
    [
        (table_of(x=1.5), ("no", "month"), TableError, "the table has no column 'no'; name the columns"),
        (table_of(x=1.5), ("id", "no"), TableError, "the table has no column 'no'"),
        (table_of(x=1.5), ("id", "id"), TableError, "'id' was given as both patient and time"),
        (table_of(), ("id", "month"), TableError, "no column to model besides 'id' and 'month'"),
        (
            table_of(x=1.5).set_axis(["id", "month", "id"], axis=1),
            ("id", "month"),
            TableError,
            "1 columns more than",
        ),
        (table_of(**{"(record goes on)": 1.5}), ("id", "month"), SchemaError, "names that hg3 needs for itself"),
    ],
)
def test_refusals(table: pd.DataFrame, keys: tuple[str, str], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=re.escape(sentence)):
        infer_schema(table, *keys, "made")


def test_an_unknown_step() -> None:
    with pytest.raises(ConfigError, match="--step fortnight was given; it is one of minute, hour, day, week, month"):
        infer_schema(table_of(x=1.5), "id", "month", "made", "fortnight")


def test_a_schema_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    table_of(x=lambda p, t: p + t).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "s.toml").write_text("corrected by hand")
    with pytest.raises(ConfigError, match=r"s\.toml is there already"):
        propose_schema(tmp_path / "t.csv", "id", "month", tmp_path / "s.toml")
    assert (tmp_path / "s.toml").read_text() == "corrected by hand"
    with pytest.raises(ConfigError, match=r"the folder .* does not exist"):
        propose_schema(tmp_path / "t.csv", "id", "month", tmp_path / "no" / "s.toml")
    with pytest.raises(TableError, match="there is no table at"):
        propose_schema(tmp_path / "no.csv", "id", "month", tmp_path / "new.toml")
    assert not (tmp_path / "new.toml").exists()


# Whole tables.


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_a_proposal_from_a_file_fits_the_file(ending: str, tmp_path: Path) -> None:
    codes = np.array(["01", "02", "1"])
    table = table_of(site=lambda p, t: codes[(p + t) % 3], x=lambda p, t: p + t / 4)
    write_table(table, tmp_path / f"my-cohort.v2.{ending}")
    propose_schema(tmp_path / f"my-cohort.v2.{ending}", "id", "month", tmp_path / "s.toml")
    schema = load_schema(tmp_path / "s.toml")
    assert (schema.name, schema.by_name["site"].categories) == ("my-cohort", ("01", "02", "1"))
    assert check(tmp_path / f"my-cohort.v2.{ending}", tmp_path / "s.toml").errors == []


def test_the_stand_in_cohort(tmp_path: Path) -> None:
    write_table(simulate(600, seed=1), tmp_path / "cohort.csv")
    propose_schema(tmp_path / "cohort.csv", "PatientID", "Timestep", tmp_path / "s.toml", "month")
    found = check(tmp_path / "cohort.csv", tmp_path / "s.toml")
    assert (found.errors, found.warnings) == ([], [])
    mine, shipped = load_schema(tmp_path / "s.toml"), load_schema("art-hiv-v2")
    assert (mine.length, mine.first_time, mine.step) == (shipped.length, shipped.first_time, shipped.step)
    for one in shipped.columns:
        other = mine.by_name[one.name]
        assert (other.kind, other.static, other.decimals) == (one.kind, one.static, one.decimals)
        assert other.categories in (one.categories, None)


@pytest.mark.parametrize("name", shipped_schemas())
def test_a_table_of_each_shipped_schema(name: str) -> None:
    table, schema = simulate_schema(load_schema(name), 200, seed=2), load_schema(name)
    mine = parse_schema(infer_schema(table, schema.patient, schema.time, "made"), "proposed")
    assert check_table(table, mine)[1].errors == []
    assert [c.name for c in mine.columns if c.static] == [c.name for c in schema.columns if c.static]


@settings(max_examples=100)
@given(cases())
def test_the_table_of_any_case_fits_its_proposal(case: Case) -> None:
    try:
        text = infer_schema(case.table, "id", "month", "made")
    except TableError as error:
        assert "no column to model" in str(error)
        return
    assert check_table(case.table, parse_schema(text, "proposed"))[1].errors == []


ICU_STATIC = ["Age", "Gender", "Height", "ICUType", "Weight0", "In-hospital_death"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "patient", "time", "static"),
    [
        ("renal_monthly.csv.gz", "id", "month", ["fuyears", "failure", "weight", "age", "gender"]),
        ("icu_48h.csv.gz", "RecordID", "Hour", ICU_STATIC),
    ],
)
def test_a_real_table(file: str, patient: str, time: str, static: list[str], tmp_path: Path) -> None:
    table = real_table(file)
    propose_schema(table, patient, time, tmp_path / "s.toml")
    assert check(table, tmp_path / "s.toml").errors == []
    schema = load_schema(tmp_path / "s.toml")
    assert [c.name for c in schema.columns if c.static] == static
    assert schema.step == time.lower()


def test_a_real_table_of_uneven_times(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"'year' has 1,633 of 1,945 times that are not whole numbers; give --bin"):
        propose_schema(real_table("pbc2.csv"), "id", "year", tmp_path / "s.toml")
    assert not any(tmp_path.iterdir())
    propose_schema(real_table("pbc2.csv"), "id", "year", tmp_path / "s.toml", width=0.25)
    assert check(real_table("pbc2.csv"), tmp_path / "s.toml").errors == []
