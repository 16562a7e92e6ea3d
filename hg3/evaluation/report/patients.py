"""What pictures and sentences take from patients, under the rule of ten."""

from collections.abc import Sequence

import numpy as np

from hg3.evaluation.draws import Parts
from hg3.evaluation.panel import Panel
from hg3.evaluation.suppression import FEWEST_PATIENTS, patient_counts
from hg3.table.column import Column

TOO_FEW = "fewer than ten real patients"


def cells(panel: Panel, column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Return a column's values and whose they are: one a row, or one a patient if it is static."""
    values = panel.values[column.name] if column.static else panel.row_values(column)
    seen = ~np.isnan(values)
    return values[seen], np.nonzero(seen)[0]


def missing_share(panel: Panel, column: Column) -> float:
    """Return the share of rows, or patients if it is static, without a value; 0 where fewer than ten lack one."""
    rows = np.ones((panel.n_patients, 1), bool) if column.static else panel.has_row
    lacks = rows & np.isnan(panel.values[column.name])
    return float(lacks.sum() / max(rows.sum(), 1)) if lacks.any(axis=1).sum() >= FEWEST_PATIENTS else 0.0


def quantiles(values: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Return quantiles of one value a patient; NaN for one that ten patients do not lie on either side of."""
    known = values[~np.isnan(values)]
    beyond = np.round(np.minimum(shares, 1.0 - np.asarray(shares)) * len(known), 6)  # 1 - 0.9 is less than 0.1
    if not (beyond >= FEWEST_PATIENTS).any():
        return np.full(len(shares), np.nan)
    return np.where(beyond >= FEWEST_PATIENTS, np.quantile(known, shares), np.nan)


def quantiles_by_time(values: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Return quantiles over patients at each time of values (N, L), shape (shares, L), as `quantiles` does."""
    return np.array([quantiles(at_time, shares) for at_time in values.T]).T


def code_names(panels: Parts[Panel], column: Column) -> list[str]:
    """Return what each code is called; one that is not the schema's own and that few patients carry goes unnamed."""
    codes = [str(code) for code in panels.holdout.categories[column.name]]
    if column.categories is not None:
        return list(column.labels or codes)
    carried = [
        patient_counts(values.astype(np.int64), patient, len(codes))
        for values, patient in (cells(part, column) for part in (panels.train, panels.holdout))
    ]
    often = np.maximum(*carried) >= FEWEST_PATIENTS
    return [code if common else "a rare code" for code, common in zip(codes, often, strict=True)]


def long_name(column: Column) -> str:
    """Return what a column is called in a sentence: its description and name."""
    described = column.description.strip().rstrip(".")
    if not described or len(described) > 48:
        return column.name
    if described.lower() == column.name.lower():
        return described
    return f"{described} [{column.name}]" if "(" in column.name else f"{described} ({column.name})"


def below_title(column: Column) -> str:
    """Return what stands below a column's name: its description, and its unit."""
    described = "" if column.description.lower() == column.name.lower() else column.description
    return ", ".join(part for part in (described, column.unit) if part)
