"""The split: by patient, the same for the same seed, and only for the table that it was made from."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hg3.errors import TableError
from hg3.table.checks import checked_cohort
from hg3.table.split import split_from_dict, split_patients
from tests.table.cases import make_schema


@given(st.integers(7, 3000), st.integers(0, 2**40))
def test_each_patient_is_in_one_part(n_patients: int, seed: int) -> None:
    split = split_patients(n_patients, seed)
    counts = split.train.astype(int) + split.validation + split.holdout
    assert (counts == 1).all()
    assert split.train.sum() == int(n_patients * 0.6) and split.validation.sum() == int(n_patients * 0.15)


def test_the_seed_decides() -> None:
    one, same, other = (split_patients(100, seed) for seed in (3, 3, 4))
    assert (one.train == same.train).all() and (one.holdout == same.holdout).all()
    assert (one.train != other.train).any()


@pytest.mark.parametrize("n_patients", range(7))
def test_too_few_patients(n_patients: int) -> None:
    with pytest.raises(TableError, match=f"the table has {n_patients} patients; a split .* needs at least 7"):
        split_patients(n_patients, 0)


@pytest.mark.parametrize("ids", [range(10), [f"p{i}" for i in range(10)], [*range(9), "x"]])
def test_a_split_comes_back_from_json(ids: list) -> None:
    table = pd.DataFrame({"id": pd.Series(ids, dtype=object), "month": 0, "x": np.arange(10.0)})
    cohort, _ = checked_cohort(table, make_schema([{"name": "x", "kind": "real"}]))
    split = split_patients(10, 1)
    content = json.loads(json.dumps(split.to_dict(cohort.patients)))
    back = split_from_dict(content, cohort.patients)
    assert (back.train == split.train).all() and (back.validation == split.validation).all()
    assert (back.holdout == split.holdout).all()


def test_a_split_of_other_patients() -> None:
    content = split_patients(10, 1).to_dict(np.arange(10))
    twice = content | {"train": content["train"] + content["holdout"][:1]}
    for wrong, patients in (
        (content, np.arange(1, 11)),
        (content, np.arange(11)),
        (content, np.array([f"p{i}" for i in range(10)])),
        (twice, np.arange(10)),
        ({}, np.arange(10)),
    ):
        with pytest.raises(TableError, match="not the same ones; give the table that the run was made from"):
            split_from_dict(wrong, patients)
