"""Schemas and tables for tests, made in code, and real ones that do not come with hg3."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hg3.table.schema import TableSchema

REAL_TABLES = os.environ.get("HG3_REAL_TABLES", "")


def real_table(name: str) -> Path:
    """Return the path of a real table, or skip."""
    path = Path(REAL_TABLES) / name
    if not REAL_TABLES or not path.is_file():
        pytest.skip(f"needs {name}, which does not come with hg3: set HG3_REAL_TABLES to the folder that holds it")
    return path


def make_schema(columns: list[dict[str, Any]], **table: Any) -> TableSchema:
    """Return a schema of `columns`: patient `id`, time `month` and a grid of 6, unless `table` says else."""
    plain = {"name": "made", "patient": "id", "time": "month", "step": "month", "length": 6}
    return TableSchema.model_validate({**plain, **table, "columns": columns})


def tiny_columns() -> list[dict[str, Any]]:
    """Return columns of every kind: static and dynamic, missing, masked."""
    return [
        {"name": "sex", "kind": "binary", "static": True, "categories": ["F", "M"], "labels": ["f", "m"]},
        {"name": "height", "kind": "real", "static": True, "missing": "modelled", "decimals": 1},
        {"name": "VL", "kind": "real", "missing": "modelled", "decimals": 2, "bounds": [0.0, 1e7]},
        {"name": "CD4", "kind": "real", "decimals": 0, "bounds": [0.0, 5000.0]},
        {"name": "CD4 (M)", "kind": "binary", "indicates": "CD4", "masks": True},
        {"name": "drug", "kind": "categorical", "categories": [-1, 0, 3], "role": "action"},
        {"name": "stage", "kind": "ordinal", "categories": ["mild", "quite bad", "NA"]},
    ]


def make_table(n_patients: int = 16, length: int = 6, seed: int = 0) -> pd.DataFrame:
    """Return a table of the `tiny_columns`: records of different lengths, gaps in time, missing cells."""
    rng = np.random.default_rng(seed)
    records = [_record(patient, length, rng) for patient in range(n_patients)]
    table = pd.concat(records, ignore_index=True)
    table.loc[rng.random(len(table)) < 0.3, "VL"] = np.nan
    return table


def _record(patient: int, length: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return one patient; number 0 has no height, odd ones end early or skip a month."""
    months = np.arange(length if patient % 2 == 0 else rng.integers(3, length + 1))
    if patient % 4 == 1:
        months = np.delete(months, 1)
    n = len(months)
    return pd.DataFrame(
        {
            "id": 100 + patient,
            "month": months,
            "sex": "FM"[patient // 2 % 2],
            "height": np.nan if patient % 5 == 0 else np.round(rng.normal(170, 10), 1),
            "VL": np.round(rng.lognormal(6, 2, n), 2),
            "CD4": np.round(rng.lognormal(6, 0.5, n)).clip(0, 5000),
            "CD4 (M)": rng.integers(0, 2, n),
            "drug": rng.choice([-1, 0, 3], n),
            "stage": rng.choice(["mild", "quite bad", "NA"], n),
        }
    )


def train_mask(n_patients: int) -> np.ndarray:
    """Return the first 60% of patients as training patients."""
    return np.arange(n_patients) < 0.6 * n_patients
