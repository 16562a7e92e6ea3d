"""A table in, a verified release out: records of different lengths, gaps, missing cells, text codes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hg3
from benchmarks.quick_look import static_constancy
from hg3.table.checks import checked_cohort
from hg3.table.schema import TableSchema, load_schema
from tests import runs
from tests.runs import ENOUGH, SIZES, TINY, file_bytes
from tests.table.cases import make_schema, make_table, tiny_columns

one_thread = runs.one_thread
PATIENTS = 90
SAMPLED = {**SIZES, "steps": 10}
NEVER_MISSING = ["sex", "CD4 (M)", "drug", "stage"]


def write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False)


FORMS: dict[str, Any] = {"table.parquet": pd.DataFrame.to_parquet, "table.csv": write_csv, "table.csv.gz": write_csv}


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The verified release made from each form of one table."""
    folder, made = tmp_path_factory.mktemp("end-to-end"), {}
    schema = make_schema(tiny_columns(), name="tiny", reward=[{"column": "VL", "weight": -1.0, "log": True}])
    (folder / "schema.toml").write_text(schema.to_toml(), encoding="utf-8")
    for name, write in FORMS.items():
        write(make_table(60), folder / name)
        run, made[name] = folder / f"run of {name}", folder / f"release of {name}"
        assert hg3.train(folder / name, run, folder / "schema.toml", changes=TINY, updates=ENOUGH)
        assert hg3.generate(run, made[name], PATIENTS, seed=5, **SAMPLED)
        found = hg3.verify_release(made[name], recompute=PATIENTS, run=run)
        assert (found.patients, found.recomputed_patients, found.recomputed_equal) == (PATIENTS, PATIENTS, "bytes")
    return made


@pytest.fixture
def release(releases: dict[str, Path]) -> Path:
    return releases["table.parquet"]


@pytest.fixture
def schema(release: Path) -> TableSchema:
    return load_schema(release / "schema.toml")


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_the_form_of_the_table_does_not_count(releases: dict[str, Path], name: str) -> None:
    assert file_bytes(releases[name]) == file_bytes(releases["table.parquet"])


def test_cells_are_missing_only_where_that_is_modelled(release: Path) -> None:
    table = hg3.load(release)
    assert not table[["id", "month", *NEVER_MISSING]].isna().any().any()
    assert (table["CD4"].isna() == (table["CD4 (M)"] == 0)).all()
    assert 0 < table["VL"].isna().mean() < 1


def test_records_are_of_different_lengths_within_the_grid(release: Path) -> None:
    arrays = hg3.load(release, "arrays")
    assert len(arrays.lengths) == PATIENTS
    assert set(arrays.lengths) <= set(range(1, 7))
    assert len(set(arrays.lengths)) > 1
    assert not (arrays.has_row & ~arrays.in_record).any()
    assert arrays.has_row[np.arange(PATIENTS), arrays.lengths - 1].all()
    assert (arrays.in_record & ~arrays.has_row).any()  # gaps in time


def test_static_columns_are_constant(release: Path, schema: TableSchema) -> None:
    table = hg3.load(release)
    assert static_constancy(checked_cohort(table, schema)[0]) == 1.0
    per_patient = table.groupby("id")[["sex", "height"]].nunique(dropna=False)
    assert (per_patient == 1).all().all()
    assert table.groupby("id")["height"].first().isna().any()


def test_codes_bounds_and_decimals_are_the_schemas(release: Path, schema: TableSchema) -> None:
    table = hg3.load(release)
    for column in schema.columns:
        cells = table[column.name].dropna()
        if column.is_real:
            assert cells.between(*column.bounds).all()
            assert column.decimals is not None
            np.testing.assert_allclose(cells, np.round(cells, column.decimals), rtol=1e-12)
        else:
            assert set(cells) <= set(column.categories or ())
    assert {str(kind) for kind in table.dtypes[["sex", "stage"]]} == {"category"}


def test_forms_agree(release: Path) -> None:
    table, arrays, steps = hg3.load(release), hg3.load(release, "arrays"), hg3.load(release, "transitions")
    assert arrays.has_row.sum() == len(table)
    drug = arrays.dynamic[:, :, arrays.dynamic_names.index("drug")]
    codes = np.array([-1, 0, 3])[drug[arrays.has_row].astype(int)]
    np.testing.assert_array_equal(codes, table["drug"])
    assert arrays.observed[:, :, arrays.dynamic_names.index("VL")].sum() == table["VL"].notna().sum()
    assert len(steps.s) + steps.skipped == len(table) - PATIENTS
    assert steps.skipped > 0
    assert steps.done.sum() == len(np.unique(steps.patient))
    at = pd.MultiIndex.from_arrays([steps.patient, steps.time + 1])
    following = table.set_index(["id", "month"])["VL"].reindex(at)
    np.testing.assert_allclose(steps.r, -np.log(np.maximum(following.to_numpy(), 0.005)))


def test_exported_table_is_a_table_again(release: Path, tmp_path: Path) -> None:
    hg3.export_csv(release, tmp_path / "export.csv.gz")
    found = hg3.check(tmp_path / "export.csv.gz", release / "schema.toml")
    assert found.errors == []
    run = tmp_path / "run"
    assert hg3.train(tmp_path / "export.csv.gz", run, release / "schema.toml", changes=TINY, updates=1)
