"""Patients, releases that repeat them, and releases that do not, in arrays."""

from dataclasses import replace

import numpy as np

from hg3.evaluation.draws import Measured, Parts
from hg3.evaluation.panel import Panel, some_patients
from hg3.table.column import Code
from hg3.table.schema import TableSchema
from tests.evaluation.cases import SCHEMA

CODES: dict[str, tuple[Code, ...]] = {
    "sex": ("F", "M"),
    "CD4 (M)": (0, 1),
    "drug": (-1, 0, 3),
    "stage": ("mild", "quite bad", "NA"),
}


def people(n_patients: int, seed: int, schema: TableSchema = SCHEMA) -> Panel:
    """Return patients whose columns follow a level of their own: 3 to 6 times, gaps, cells without values."""
    rng = np.random.default_rng(seed)
    level, noise = rng.normal(size=(n_patients, 1)), rng.normal(size=(5, n_patients, 6))
    has_row = np.arange(6) < rng.integers(3, 7, (n_patients, 1))
    has_row[::4, 1] = False
    measured = rng.integers(0, 2, (n_patients, 6))
    values = {
        "sex": rng.integers(0, 2, (n_patients, 1)),
        "height": np.where(rng.random((n_patients, 1)) < 0.2, np.nan, 170 + 10 * level),
        "VL": np.where(rng.random((n_patients, 6)) < 0.3, np.nan, np.exp(6 + level + noise[0])),
        "CD4": np.where(measured, np.exp(6 + level + 0.5 * noise[1]).round(), np.nan),
        "CD4 (M)": measured,
        "drug": np.digitize(level + 0.5 * noise[2], [-0.5, 0.5]),
        "stage": np.digitize(level + noise[3], [-0.5, 0.5]),
    }
    on_rows = {name: np.where(has_row | (v.shape[1] == 1), v, np.nan).astype(float) for name, v in values.items()}
    columns = schema.by_name
    return Panel(
        schema,
        {name: value[:, :1] if value.shape[1] == 1 else value for name, value in on_rows.items() if name in columns},
        has_row,
        {name: codes for name, codes in CODES.items() if name in columns},
    )


def together(*panels: Panel) -> Panel:
    values = {name: np.concatenate([p.values[name] for p in panels]) for name in panels[0].values}
    return replace(panels[0], values=values, has_row=np.concatenate([p.has_row for p in panels]))


def slightly_wrong(panel: Panel, seed: int = 9) -> Panel:
    """Return the patients with every real off by 1%."""
    rng = np.random.default_rng(seed)
    reals = [column.name for column in panel.schema.columns if column.is_real]
    off = {name: panel.values[name] * rng.choice([0.99, 1.01], panel.values[name].shape) for name in reals}
    return replace(panel, values={**panel.values, **off})


def cohort(n_patients: int, copied: float = 0.0, noise: bool = False, seed: int = 0) -> Parts[Panel]:
    """Return as many synthetic, training and hold-out patients; a share of the synthetic repeats training patients."""
    made, train, holdout = (people(n_patients, 10 * seed + k) for k in range(3))
    n_copies = round(copied * n_patients)
    copies = some_patients(train, slice(n_patients - n_copies, None))
    return Parts(
        together(some_patients(made, slice(n_copies, None)), slightly_wrong(copies) if noise else copies),
        train,
        holdout,
    )


def by_name(measures: list[Measured]) -> dict[str, Measured]:
    return {f"{m.name}: {m.subject}" if m.subject else m.name: m for m in measures}


def contains(measured: Measured, value: float = 0.0) -> bool:
    """Return whether the interval of the paired difference contains a value."""
    _, low, high = measured.difference()
    return low <= value <= high
