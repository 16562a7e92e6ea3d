"""Every schema that comes with hg3 or its benchmarks, from a simulated table to a release that verifies."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks import real_table
from hg3.release.verify import verify_release
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.cohorts.from_schema import simulate_schema
from hg3.table.schema import load_schema, shipped_schemas
from hg3.table.write import write_table
from hg3.training.run import train
from tests import runs
from tests.runs import TINY, make_release

one_thread = runs.one_thread
OF_BENCHMARKS = sorted((Path(real_table.__file__).parent / "schemas").glob("*.toml"))


@pytest.mark.parametrize("schema", [*shipped_schemas(), *OF_BENCHMARKS], ids=lambda schema: Path(schema).stem)
def test_a_simulated_table_becomes_a_release_that_verifies(schema: str | Path, tmp_path: Path) -> None:
    write_table(simulate_schema(load_schema(schema), 60, seed=1), tmp_path / "table.parquet")
    train(tmp_path / "table.parquet", tmp_path / "run", schema, changes=TINY, updates=3)
    release = make_release(tmp_path / "run", tmp_path / "release", 20)
    found = verify_release(release)
    names = {column.name for column in load_schema(schema).columns}
    assert (found.patients, found.rows) == (20, len(pd.read_parquet(release / "data")))
    assert names <= set(pd.read_parquet(release / "data").columns)


def test_under_normal_scores_no_sample_leaves_what_patients_have(tmp_path: Path) -> None:
    table = simulate(60, seed=1)
    write_table(table, tmp_path / "table.parquet")
    changes = {**TINY, "encoding.scaling": "normal"}
    train(tmp_path / "table.parquet", tmp_path / "run", "art-hiv-v2", changes=changes, updates=3)
    release = make_release(tmp_path / "run", tmp_path / "release", 20)
    assert verify_release(release).patients == 20
    made = pd.read_parquet(release / "data")
    for name in ("VL", "CD4", "Rel CD4"):  # the network has learned nothing, and its samples go to the bounds
        assert table[name].min() < made[name].min() and made[name].max() < table[name].max()


def test_there_are_schemas_of_both_kinds() -> None:
    assert {"art-hiv-v2", "art-hiv-v3-demo", "hypotension", "sepsis"} <= set(shipped_schemas())
    assert {path.stem for path in OF_BENCHMARKS} >= {"icu_48h", "pbc2", "renal_monthly"}
