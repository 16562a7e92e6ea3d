"""Cohorts whose outcomes, hazards and best treatments are known, because they are made here."""

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hg3.evaluation.panel import Panel
from hg3.table.schema import TableSchema
from tests.evaluation.cases import panel
from tests.table.cases import make_schema

LENGTH = 12


def needs(*libraries: str) -> pytest.MarkDecorator:
    missing = [library for library in libraries if find_spec(library) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {' and '.join(missing)}, of the extra `evaluation`")


COLUMNS: list[dict[str, Any]] = [
    {"name": "marker", "kind": "real", "decimals": 6},
    {"name": "group", "kind": "binary", "static": True, "labels": ["one", "two"]},
    {"name": "drug", "kind": "categorical", "categories": ["a", "b"], "role": "action"},
    {"name": "ill", "kind": "binary"},
    {"name": "died", "kind": "binary", "static": True},
    {"name": "years", "kind": "real", "static": True, "decimals": 2},
]
DIED = {"name": "death", "column": "died", "codes": [1], "observe": 3, "hide": ["years"]}
ILL = {"name": "illness", "column": "ill", "codes": [1], "observe": 2, "hide": ["years", "died"]}


def schema(**changes: Any) -> TableSchema:
    made = {"length": LENGTH, "targets": [DIED, ILL], "reward": [{"column": "marker", "weight": 2.0}]}
    return make_schema(COLUMNS, **{**made, **changes})


SCHEMA = schema()


def cohort(n_patients: int, seed: int, log_ratio: float = 0.8, hazard: float = 0.08, lift: float = 0.1) -> pd.DataFrame:
    """Return complete records of 12 months.

    Who dies is mostly who has a high marker in the first months. Illness comes at random and stays: its chance a month
    is `hazard`, times exp(`log_ratio`) in group 1. Drug b, given by chance, lifts the next marker by `lift`, and drug
    a lowers it by as much.
    """
    rng = np.random.default_rng(seed)
    drug = rng.integers(0, 2, (n_patients, LENGTH))
    moved = np.where(drug == 1, lift, -lift).cumsum(axis=1) - np.where(drug == 1, lift, -lift)
    marker = rng.normal(size=(n_patients, 1)) + moved + 0.05 * rng.normal(size=(n_patients, LENGTH))
    group = rng.integers(0, 2, n_patients)
    chance = 1 - np.exp(-hazard * np.exp(log_ratio * group))
    ill = (rng.random((n_patients, LENGTH)) < chance[:, None]).cumsum(axis=1) > 0
    died = rng.random(n_patients) < 1 / (1 + np.exp(-3 * marker[:, :3].mean(axis=1)))
    years = np.where(died, 1, 9) + rng.random(n_patients)
    monthly = {"marker": marker, "drug": np.array(["a", "b"])[drug], "ill": ill.astype(int)}
    static = {"group": group, "died": died.astype(int), "years": years.round(2)}
    keys = {"id": np.repeat(np.arange(n_patients), LENGTH), "month": np.tile(np.arange(LENGTH), n_patients)}
    columns = {**{n: v.ravel() for n, v in monthly.items()}, **{n: np.repeat(v, LENGTH) for n, v in static.items()}}
    return pd.DataFrame({**keys, **columns}).round({"marker": 6})


def made(n_patients: int, seed: int, **changes: Any) -> Panel:
    return panel(cohort(n_patients, seed, **changes), SCHEMA)


def with_schema(one: Panel, **changes: Any) -> Panel:
    """Return the panel under a schema with other targets, reward or length of nothing but those."""
    return replace(one, schema=schema(**changes))


def shuffled(one: Panel, column: str, seed: int = 0) -> Panel:
    """Return the panel with a column's values given to other patients."""
    order = np.random.default_rng(seed).permutation(one.n_patients)
    return replace(one, values={**one.values, column: one.values[column][order]})
