"""Tables made from a schema: they fit it, whatever it says, and look like records of people."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hg3.errors import ConfigError, SchemaError
from hg3.table.checks import check_table, checked_cohort
from hg3.table.cohort import record_shape
from hg3.table.cohorts.from_schema import FACTOR_SHARE, OWN_SHARE, simulate_schema
from hg3.table.read import read_table
from hg3.table.schema import TableSchema
from hg3.table.write import write_table
from tests.table.cases import make_schema, tiny_columns
from tests.table.ruled import RULES, ruled_schema
from tests.table.strategies import Case, cases, schemas

REAL: dict[str, Any] = {"name": "x", "kind": "real"}


def simulated(schema: TableSchema, n_patients: int, seed: int = 0, complete: bool = False) -> pd.DataFrame:
    """Return a table that was held against its schema."""
    table = simulate_schema(schema, n_patients, seed, complete)
    assert check_table(table, schema)[1].errors == []
    return table


@given(cases(), st.integers(1, 30), st.integers(0, 2**32))
def test_a_table_fits_the_schema_of_any_case(case: Case, n_patients: int, seed: int) -> None:
    table = simulated(case.schema, n_patients, seed)
    assert list(table.columns) == ["id", "month", *(c.name for c in case.schema.columns)]
    assert table["id"].unique().tolist() == list(range(1, n_patients + 1))


@settings(max_examples=300)
@given(schemas(), st.integers(1, 30), st.booleans())
def test_a_table_fits_any_schema_or_none_can(schema: TableSchema, n_patients: int, complete: bool) -> None:
    try:
        simulated(schema, n_patients, complete=complete)
    except SchemaError as error:
        assert "allows no number by its bounds, decimals and transform; mend them" in str(error)
        logarithmic = [c for c in schema.columns if c.transform in ("box-cox", "log1p")]
        beyond = [c for c in schema.columns if c.bounds[1] < math.inf and c.decimals is not None and c.decimals < 0]
        assert logarithmic or beyond


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_a_table_still_fits_after_a_file(ending: str, tmp_path: Path) -> None:
    schema = make_schema([*tiny_columns(), {"name": "site", "kind": "categorical", "missing": "modelled"}])
    write_table(simulated(schema, 50), tmp_path / f"table.{ending}")
    read = read_table(tmp_path / f"table.{ending}", schema)
    cohort, warnings = checked_cohort(read, schema)
    assert (cohort.n_patients, warnings) == (50, [])
    assert cohort.categories["site"] == ("a", "b", "c")
    assert set(read["stage"]) == {"mild", "quite bad", "NA"}


def test_a_table_depends_on_its_arguments_alone() -> None:
    schema = make_schema(tiny_columns())
    one = simulate_schema(schema, 20, 3)
    pd.testing.assert_frame_equal(one, simulate_schema(schema, 20, 3), check_exact=True)
    others = (simulate_schema(schema, 20, 4), simulate_schema(schema, 21, 3), simulate_schema(schema, 20, 3, True))
    assert not any(one.equals(other) for other in others)


def test_two_seeds_are_two_samples_of_one_population() -> None:
    schema = make_schema([{"name": "c", "kind": "categorical", "categories": list("abcdef")}], length=20)
    shares = [simulated(schema, 2000, seed)["c"].value_counts(normalize=True).sort_index() for seed in (1, 2)]
    assert np.abs(shares[0] - shares[1]).max() < 0.02
    assert np.ptp(shares[0]) > 0.05  # and it is not the uniform one


def test_records_end_early_and_have_gaps_unless_complete() -> None:
    schema = make_schema([REAL], length=20, first_time=-3)
    cohort, _ = checked_cohort(simulated(schema, 1000), schema)
    lengths, present = record_shape(cohort)
    assert 0.55 < (lengths == 20).mean() < 0.70
    assert set(lengths) == set(range(1, 21))
    inside = np.arange(20) < lengths[:, None]
    assert 0.03 < 1 - present[inside].mean() < 0.06
    assert len(simulated(schema, 1000, complete=True)) == 20_000


def test_missing_cells_and_masks() -> None:
    schema = make_schema(tiny_columns())
    table = simulated(schema, 1000)
    assert 0.05 < table["VL"].isna().mean() < 0.6
    assert 0.05 < table.groupby("id")["height"].first().isna().mean() < 0.6
    assert (table["CD4"].notna() == (table["CD4 (M)"] == 1)).all()
    never = ["sex", "CD4 (M)", "drug", "stage"]
    assert table[never].notna().all(axis=None)
    assert (table.groupby("id")[["sex", "height"]].nunique() <= 1).all(axis=None)
    assert set(table["drug"]) == {-1, 0, 3} and table["VL"].round(2).equals(table["VL"])


def test_a_cell_that_an_unknown_indicator_would_mask_is_empty() -> None:
    flag = {"name": "m", "kind": "binary", "indicates": "x", "masks": True, "missing": "modelled"}
    table = simulated(make_schema([REAL | {"missing": "modelled"}, flag]), 300)
    assert table["m"].isna().any() and (table["x"].notna() & (table["m"] == 1)).any()
    assert not (table["x"].notna() & (table["m"] != 1).fillna(True)).any()
    assert (table["x"].isna() & (table["m"] == 1)).any()


@pytest.mark.parametrize("seed", range(5))
def test_every_rule_is_kept_from_the_start(seed: int) -> None:
    schema = ruled_schema([{**rule, "on_table": "error"} for rule in RULES])
    table = simulate_schema(schema, 60, seed=seed)
    cohort, _ = checked_cohort(table, schema)
    assert cohort.n_patients == 60
    broken = simulate_schema(ruled_schema([]), 60, seed=seed)
    assert len(check_table(broken, schema)[1].errors) == len(RULES)


def test_no_column_is_empty_however_few_patients_there_are() -> None:
    schema = make_schema([REAL | {"missing": "modelled"}], length=3)
    for seed in range(60):
        assert len(simulated(schema, 1, seed)) == 3


def test_reals_vary_as_much_at_the_first_time_as_later() -> None:
    table = simulated(make_schema([REAL], length=8), 4000, complete=True)
    spread = table["x"].to_numpy().reshape(4000, 8).std(axis=0)
    assert spread[0] == pytest.approx(spread[1:].mean(), rel=0.05)


def test_codes_persist_and_reals_are_autocorrelated() -> None:
    codes = {"name": "c", "kind": "categorical", "categories": [0, 1, 2]}
    ordered = {"name": "o", "kind": "ordinal", "categories": [0, 1, 2]}
    table = simulated(make_schema([codes, ordered, REAL], length=30), 500, complete=True)
    for name, least in (("c", 0.8), ("o", 0.5)):
        grid = table[name].to_numpy(np.int64).reshape(500, 30)
        kept = (grid[:, 1:] == grid[:, :-1]).mean()
        assert least < kept < 0.99
    grid = table["x"].to_numpy().reshape(500, 30)
    assert np.corrcoef(grid[:, 1:].ravel(), grid[:, :-1].ravel())[0, 1] > 0.7
    within = (grid - grid.mean(axis=1, keepdims=True)).std() / grid.std()
    assert 0.3 < within < 0.9  # neither constant within patients nor without a level of their own
    assert within < math.sqrt(1.1 * (1 - OWN_SHARE - FACTOR_SHARE))


def test_columns_correlate_through_the_patients() -> None:
    schema = make_schema([REAL | {"name": f"x{i}"} for i in range(6)], length=5)
    table = simulated(schema, 3000, complete=True)
    correlation = table[[f"x{i}" for i in range(6)]].corr().abs().to_numpy()
    between = correlation[np.triu_indices(6, 1)]
    assert 0.15 < between.max() < 0.6


@pytest.mark.parametrize(
    ("column", "low", "high", "middle"),
    [
        (REAL | {"bounds": [20.0, 250.0], "decimals": 0}, 20, 250, 135),
        (REAL | {"bounds": [20.0, 250.0], "transform": "box-cox"}, 20, 250, math.sqrt(20 * 250)),
        (REAL | {"bounds": [0.0, 1e4], "transform": "log1p"}, 0, 1e4, 1e4 * math.exp(-4)),
        (REAL | {"decimals": 0}, 0, 1000, 500),
        (REAL | {"bounds": [5.0, math.inf], "decimals": 2}, 5, 15, 10),
        (REAL | {"bounds": [-math.inf, 5.0], "decimals": 2}, -5, 5, 0),
    ],
)
def test_reals_fill_their_bounds(column: dict[str, Any], low: float, high: float, middle: float) -> None:
    values = simulated(make_schema([column]), 2000)["x"]
    assert values.between(low, high).all()
    assert values.nunique() > 100
    assert np.median(values) == pytest.approx(middle, rel=0.15, abs=0.3)


def test_a_schema_that_no_number_fits() -> None:
    with pytest.raises(SchemaError, match="column 'x' allows no number"):
        simulate_schema(make_schema([REAL | {"bounds": [-math.inf, -1.0], "transform": "box-cox"}]), 3)


@pytest.mark.parametrize(("n_patients", "seed"), [(0, 0), (3, -1)])
def test_counts_that_make_no_cohort(n_patients: int, seed: int) -> None:
    with pytest.raises(ConfigError, match=r"n_patients is 0|seed is -1"):
        simulate_schema(make_schema([REAL]), n_patients, seed)
