"""Attribute inference: what the release tells of a patient of whom something is known, member or not."""

import numpy as np

from hg3.evaluation.draws import Measured, Parts, resamples
from hg3.evaluation.panel import Panel
from hg3.evaluation.privacy.attributes import NONE, Attribute, attributes, first_rows

WITHIN = 0.05  # of the ranks of real patients: a real is guessed
BLOCK = 2**20  # pairs at a time
GRAIN = 2.0**-12  # sums of the same distances in another order are ties


def inference_measures(panels: Parts[Panel], seed: int = 0) -> tuple[list[Measured], list[str]]:
    """Return how often the attacker is right of training patients, by column; the ceiling: of hold-out patients.

    The attacker knows a patient's quasi-identifiers and first row, but not the column, and takes its value from the
    synthetic record that is nearest in these; of several equally near ones, any. It is right if it has the record's
    most frequent code, or its median within 5% of the ranks. What it knows of the column from all patients alike, it
    knows of hold-out patients too: the difference is what the training leaked. Uncertainty: 50 resamples of patients.
    """
    schema = panels.holdout.schema
    known = {column.name for column in schema.known_quasi_identifiers()}
    sensitive = [one for one in attributes(panels) if one.column.name not in known]
    of_first = [one for one in first_rows(panels) if one.column.name in known or not one.column.static]
    if not sensitive:
        return [], ["No column but quasi-identifiers: there is nothing to infer."]
    score, ceiling = (_resampled(_right(of_first, sensitive, part), seed) for part in ("train", "holdout"))
    names = (one.column.name for one in sensitive)
    return [Measured("attribute inference", name, score[k], ceiling[k]) for k, name in enumerate(names)], []


def _right(known: list[Attribute], sensitive: list[Attribute], part: str) -> np.ndarray:
    """Return the probability that the attacker is right of each patient, (columns, N); NaN without a value."""
    n_patients, n_made = len(getattr(sensitive[0].codes, part)), len(sensitive[0].codes.made)
    found = np.full((len(sensitive), n_patients), np.nan)
    rows = max(1, BLOCK // max(n_made, 1))
    for start in range(0, n_patients, rows):
        some = slice(start, start + rows)
        apart = {one.column.name: _apart(one, part, some) for one in known}
        whole = sum(apart.values(), np.zeros((1, 1), np.float32))
        for k, one in enumerate(sensitive):
            found[k, some] = _right_of(one, part, some, whole - apart.get(one.column.name, np.float32(0)))
    return found


def _apart(one: Attribute, part: str, some: slice) -> np.ndarray:
    """Return how far patients and synthetic records lie apart in a column, 0 to 1, float32, (patients, records)."""
    codes, ranks = getattr(one.codes, part)[some, None], one.ranks
    if ranks is None:
        return (codes != one.codes.made).astype(np.float32)
    apart = np.abs(getattr(ranks, part)[some, None].astype(np.float32) - ranks.made.astype(np.float32))
    return np.where(np.isnan(apart), (codes == NONE) != (one.codes.made == NONE), apart).astype(np.float32)


def _right_of(one: Attribute, part: str, some: slice, apart: np.ndarray) -> np.ndarray:
    """Return the share of the nearest records that tell a patient's column, (patients,)."""
    codes, ranks = getattr(one.codes, part)[some, None], one.ranks
    tied = apart <= apart.min(axis=1, keepdims=True) + GRAIN
    near = None if ranks is None else np.abs(getattr(ranks, part)[some, None] - ranks.made) <= WITHIN
    told = codes == one.codes.made if near is None else near
    share = (tied & told).sum(axis=1) / tied.sum(axis=1)
    return np.where(codes[:, 0] == NONE, np.nan, share)


def _resampled(right: np.ndarray, seed: int) -> np.ndarray:
    """Return the means over patients with a value in 50 resamples, (columns, 50); NaN if nobody has one."""
    known, weights = ~np.isnan(right), resamples(right.shape[1], seed)
    total = known @ weights.T
    return np.where(total > 0, np.where(known, right, 0.0) @ weights.T / np.maximum(total, 1), np.nan)
