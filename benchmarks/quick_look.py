"""A first look at a synthetic table: marginal distances of all its patients, beside what as many real ones reach.

`hg3 evaluate` measures everything, by draws of equal numbers; this is for a benchmark that makes many releases.

TV, the total variation distance of a category column, is half the summed absolute differences of shares. KS, the
Kolmogorov-Smirnov distance of a real column, is the largest difference of distribution functions. Both are over
rows; a static column counts once a patient. Missing cells, and those that their indicator masks, are left out of
both; their rate is told beside.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hg3.table.cohort import Cohort, missing_cells, observed_cells, record_shape
from hg3.table.column import Column

CEILING_DRAWS = 50
CEILING_QUANTILE = 0.95


@dataclass(frozen=True)
class Sample:
    """One column of a set of patients: its values, and per row the patient's position in 0..n-1."""

    values: np.ndarray
    patient: np.ndarray


def column_sample(cohort: Cohort, column: Column) -> Sample:
    """Return a column's rows (one row a patient if static), missing and masked cells as missing."""
    values, patient = cohort.values[column.name], cohort.patient_index
    values = np.where(observed_cells(cohort, column), values, np.nan if column.is_real else values.dtype.type(-1))
    if not column.static:
        return Sample(values, patient)
    order = np.lexsort((missing_cells(values), patient))  # a patient's first row that has a value
    first = np.flatnonzero(np.diff(patient[order], prepend=-1))
    return Sample(values[order][first], patient[order][first])


def total_variation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the TV of two samples of category positions; -1, missing, is left out."""
    (first, second), n_values = _ranks(one[one >= 0], other[other >= 0])
    return _tv(np.bincount(first, minlength=n_values), np.bincount(second, minlength=n_values))


def kolmogorov_smirnov(one: np.ndarray, other: np.ndarray) -> float:
    """Return the KS distance of two samples of reals; NaN is left out."""
    (first, second), n_values = _ranks(one[~np.isnan(one)], other[~np.isnan(other)])
    return _ks(np.bincount(first, minlength=n_values), np.bincount(second, minlength=n_values))


def _ranks(*samples: np.ndarray) -> tuple[list[np.ndarray], int]:
    """Return each sample as positions among the distinct values of all, in ascending order, and their number."""
    values, position = np.unique(np.concatenate(samples), return_inverse=True)
    return np.split(position, np.cumsum([len(s) for s in samples])[:-1]), len(values)


def _tv(one: np.ndarray, other: np.ndarray) -> float:
    """Return TV from how often each value occurs; nothing against something is 1."""
    if not one.any() or not other.any():
        return float(one.any() != other.any())
    return float(0.5 * np.abs(one / one.sum() - other / other.sum()).sum())


def _ks(one: np.ndarray, other: np.ndarray) -> float:
    """Return KS from how often each value occurs, in ascending order; nothing against something is 1."""
    if not one.any() or not other.any():
        return float(one.any() != other.any())
    return float(np.abs(one.cumsum() / one.sum() - other.cumsum() / other.sum()).max())


def missing_rate(sample: Sample) -> float:
    """Return the share of a sample's cells without a value."""
    return float(missing_cells(sample.values).mean())


def marginal_scores(
    synthetic: Cohort, holdout: Cohort, train: Cohort, n_patients: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """Return one row a column: its distance to the hold-out, and the same of real patients of equal number.

    Parameters
    ----------
    synthetic, holdout, train : cohorts of one schema with equal category tables.
    n_patients : size of each of the 50 draws of training patients (with replacement where train is smaller) that
        make the ceiling; by default as many as `synthetic` has.

    Returns
    -------
    DataFrame with columns column, measure ("tv" or "ks"), distance, ceiling (the draws' median), ceiling_95 (their
    95th percentile), missing, missing_real.
    """
    random = np.random.default_rng(seed)
    wanted = n_patients or synthetic.n_patients
    draws = [_draw(random, train.n_patients, wanted) for _ in range(CEILING_DRAWS)]
    rows = []
    for column in synthetic.schema.columns:
        made, held, seen = (column_sample(c, column) for c in (synthetic, holdout, train))
        measured, ceiling = _distances(made, held, seen, draws, column.is_real)
        rows.append(
            {
                "column": column.name,
                "measure": "ks" if column.is_real else "tv",
                "distance": measured,
                "ceiling": float(np.median(ceiling)),
                "ceiling_95": float(np.quantile(ceiling, CEILING_QUANTILE)),
                "missing": missing_rate(made),
                "missing_real": missing_rate(held),
            }
        )
    return pd.DataFrame(rows)


def _draw(random: np.random.Generator, n_patients: int, wanted: int) -> np.ndarray:
    """Return how often each patient is drawn, float64 for bincount, shape (n_patients,)."""
    chosen = random.choice(n_patients, wanted, replace=wanted > n_patients)
    return np.bincount(chosen, minlength=n_patients).astype(float)


def _distances(
    made: Sample, held: Sample, seen: Sample, draws: list[np.ndarray], is_real: bool
) -> tuple[float, list[float]]:
    """Return the distance of `made` to `held`, and those of draws of the patients of `seen`; all is sorted once."""
    present = [~missing_cells(s.values) for s in (made, held, seen)]
    values = (s.values[p] for s, p in zip((made, held, seen), present, strict=True))
    (of_made, of_held, of_seen), n_values = _ranks(*values)
    measure, expected = _ks if is_real else _tv, np.bincount(of_held, minlength=n_values)
    patient = seen.patient[present[2]]
    ceiling = [measure(np.bincount(of_seen, draw[patient], n_values), expected) for draw in draws]
    return measure(np.bincount(of_made, minlength=n_values), expected), ceiling


def length_scores(synthetic: Cohort, holdout: Cohort) -> dict[str, float]:
    """Return the KS distance of record lengths and the share of times inside a record without a row."""
    shapes = [record_shape(c) for c in (synthetic, holdout)]
    gaps = [1.0 - present.sum() / lengths.sum() for lengths, present in shapes]
    lengths = [s[0].astype(float) for s in shapes]
    return {
        "length_ks": kolmogorov_smirnov(*lengths),
        "length_mean": float(lengths[0].mean()),
        "length_mean_real": float(lengths[1].mean()),
        "gap_share": float(gaps[0]),
        "gap_share_real": float(gaps[1]),
    }


def length_ceiling(train: Cohort, holdout: Cohort, n_patients: int, seed: int = 0) -> float:
    """Return the 95th percentile of the KS distance of record lengths over 50 draws of training patients."""
    random = np.random.default_rng(seed)
    lengths, held = (record_shape(c)[0].astype(float) for c in (train, holdout))
    draws = [_draw(random, train.n_patients, n_patients) for _ in range(CEILING_DRAWS)]
    distances = [kolmogorov_smirnov(np.repeat(lengths, draw.astype(int)), held) for draw in draws]
    return float(np.quantile(distances, CEILING_QUANTILE))


def changing(synthetic: Cohort, holdout: Cohort) -> dict[str, float]:
    """Return, of each category column that no held-out patient changes, the share of synthetic patients who do."""
    shares = {}
    for column in synthetic.schema.columns:
        if not column.is_real and not _changing(holdout, column).any():
            shares[column.name] = round(float(_changing(synthetic, column).mean()), 4)
    return shares


def _changing(cohort: Cohort, column: Column) -> np.ndarray:
    """Return whether each patient has several values in a column, shape (N,)."""
    frame = pd.DataFrame({"patient": cohort.patient_index, "value": cohort.values[column.name]})
    return np.asarray(frame.groupby("patient")["value"].nunique(dropna=False) > 1)


def static_constancy(cohort: Cohort) -> float:
    """Return the lowest share, over static columns, of patients whose value never changes; 1.0 without any."""
    shares = [1.0]
    for column in cohort.schema.columns:
        if column.static:
            shares.append(float((~_changing(cohort, column)).mean()))
    return min(shares)
