"""What an evaluation compares: the very table of the run, through the release's schema."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hg3.errors import RunError
from hg3.evaluation.cohorts import Compared, compared_cohorts
from hg3.table.schema import TableSchema
from hg3.training.checkpoint import read_recipe
from hg3.training.run import read_split, train
from tests.table.cases import make_schema, make_table, tiny_columns
from tests.training.cases import TINY

N_PATIENTS = 60
LEARNED = {"name": "ward", "kind": "categorical", "missing": "modelled"}
SCHEMA = make_schema([*tiny_columns(), LEARNED], name="tiny", ignore=["note"])
RARE = 3.0  # a code of the table that few patients carry


@dataclass(frozen=True)
class Trained:
    """A run, the file it was made from, and the schema of its releases."""

    run: Path
    table: Path
    released: TableSchema

    def compared(self, synthetic: pd.DataFrame) -> Compared:
        return compared_cohorts(synthetic, self.released, self.run)


def make_wards() -> pd.DataFrame:
    """Return the tiny table with wards 1 and 2, ward 3 for four patients, some cells missing, and a note."""
    table = make_table(N_PATIENTS).assign(note="ignored")
    table["ward"] = np.random.default_rng(0).choice([1.0, 2.0, np.nan], len(table), p=[0.5, 0.4, 0.1])
    table.loc[table["id"].isin([100, 115, 130, 145]), "ward"] = RARE
    return table


def trained(folder: Path, suffix: str, ids: type) -> Trained:
    path = folder / f"table.{suffix}"
    table = make_wards()
    table = table.astype({"id": ids})
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    (folder / "schema.toml").write_text(SCHEMA.to_toml(), encoding="utf-8")
    train(path, folder / "run", folder / "schema.toml", changes=TINY, updates=1)
    return Trained(folder / "run", path, read_recipe(folder / "run").encoder.released_schema())


@pytest.fixture(scope="module", params=[("csv", int), ("parquet", int), ("parquet", str), ("parquet", float)], ids=str)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run on one table, in each of the ways that a file may write it."""
    return trained(tmp_path_factory.mktemp("run"), *request.param)


def synthetic_table() -> pd.DataFrame:
    return make_wards().query("ward != @RARE").drop(columns="note")


def test_train_and_holdout_are_those_of_the_split(made: Trained) -> None:
    compared = made.compared(synthetic_table())
    parts = read_split(made.run)["patients"]
    assert compared.train.patients.tolist() == sorted(parts["train"])
    assert compared.holdout.patients.tolist() == sorted(parts["holdout"])
    assert (compared.train.n_patients, compared.holdout.n_patients) == (36, 15)
    assert compared.train.categories == compared.holdout.categories == compared.synthetic.categories


def test_rare_codes_become_missing_and_others_stay(made: Trained) -> None:
    assert made.released.by_name["ward"].categories == (1, 2)
    compared = made.compared(synthetic_table())
    table = make_wards().sort_values(["id", "month"])
    for part in ("train", "holdout"):
        cohort = getattr(compared, part)
        rows = table[table["id"].isin([int(i) for i in cohort.patients])]
        expected = rows["ward"].where(rows["ward"] != RARE)
        actual = pd.Series(cohort.values["ward"]).map({-1: np.nan, 0: 1.0, 1: 2.0})
        np.testing.assert_array_equal(actual, expected)
        assert (rows["ward"] == RARE).any()


@pytest.fixture
def alterable(tmp_path: Path) -> Trained:
    """A run of its own, whose table may be changed."""
    return trained(tmp_path, "csv", int)


def test_a_changed_table_is_refused(alterable: Trained) -> None:
    alterable.compared(synthetic_table())
    alterable.table.write_bytes(alterable.table.read_bytes() + b"\n")
    with pytest.raises(RunError, match=r"is not at the path in split\.json, or was altered; restore it"):
        alterable.compared(synthetic_table())
    alterable.table.unlink()
    with pytest.raises(RunError, match="is not at the path"):
        alterable.compared(synthetic_table())


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no split\.json"):
        compared_cohorts(synthetic_table(), SCHEMA, tmp_path)


def sexes(made: Trained, **condition: Any) -> tuple[list[str], list[str]]:
    """Return the sexes of the training and of the hold-out patients that a release is compared with."""
    compared = compared_cohorts(synthetic_table(), made.released, made.run, **condition)
    parts = []
    for cohort in (compared.train, compared.holdout):
        _, first = np.unique(cohort.patient_index, return_index=True)
        parts.append([str(cohort.categories["sex"][i]) for i in cohort.values["sex"][first]])
    return parts[0], parts[1]


def test_a_conditional_release_is_compared_with_the_same_subgroup(made: Trained) -> None:
    everyone, women = sexes(made), sexes(made, where={"sex": "F"})
    assert [part.count("F") for part in everyone] == [len(part) for part in women]
    assert set(women[0]) == set(women[1]) == {"F"}


def test_a_balanced_release_is_compared_with_equal_groups(made: Trained) -> None:
    for part, whole in zip(sexes(made, balance="sex"), sexes(made), strict=True):
        rarest = min(whole.count("F"), whole.count("M"))
        assert (part.count("F"), part.count("M")) == (rarest, rarest)


def test_a_subgroup_without_real_patients_is_told(made: Trained) -> None:
    with pytest.raises(RunError, match="no patients of the release's subgroup"):
        sexes(made, where={"sex": "neither"})


def test_a_release_that_was_given_a_real_is_compared_with_nobody(made: Trained) -> None:
    height = float(make_wards()["height"].dropna().iloc[0])
    with pytest.raises(RunError, match="one value of height, which hardly any real patient has"):
        sexes(made, where={"sex": "F", "height": height})
