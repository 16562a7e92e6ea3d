"""How columns go together on a row, beside real patients: each measure an error, 0 at best.

Two reals: Spearman's correlation. Two categories: Cramer's V, and the TV of their joint table. A category and a
real: the correlation ratio eta of the real's rank scores. A static value stands on every row of its patient.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np

from hg3.evaluation.draws import Draws, Measured, Parts, measure
from hg3.evaluation.panel import Panel, scored
from hg3.evaluation.summaries import Events, Moments, correlation_error, events_at, lag_moments, total_variation
from hg3.table.column import Column

ASSOCIATION = "association"


def pair_measures(panels: Parts[Panel], draws: Draws) -> list[Measured]:
    """Return the association error of every pair of columns, and of categories also their joint tables'."""
    scores = {c.name: scored(panels, c) for c in panels.holdout.schema.columns if c.is_real}
    found = []
    for one, other in combinations(panels.holdout.schema.columns, 2):
        if one.is_real and other.is_real:
            found.append(_two_reals(scores[one.name], scores[other.name], f"{one.name}, {other.name}", draws))
        elif one.is_real or other.is_real:
            real, category = (one, other) if one.is_real else (other, one)
            found.append(_mixed(panels, category, scores[real.name], f"{category.name}, {real.name}", draws))
        else:
            found += _two_categories(panels, one, other, draws)
    return found


def _two_reals(one: Parts[np.ndarray], other: Parts[np.ndarray], subject: str, draws: Draws) -> Measured:
    moments = Parts(*(lag_moments(getattr(one, part), getattr(other, part)) for part in ("made", "train", "holdout")))
    return measure(ASSOCIATION, subject, moments, draws, correlation_error)


def _mixed(panels: Parts[Panel], category: Column, scores: Parts[np.ndarray], subject: str, draws: Draws) -> Measured:
    def sums(panel: Panel, score: np.ndarray) -> Moments:
        """n, sum and sum of squares by code, (N, codes, 3)."""
        codes = panel.row_values(category)
        both = ~np.isnan(codes) & ~np.isnan(score)
        at = (np.nonzero(both)[0], codes[both].astype(np.int64))
        terms = np.stack([np.ones(both.sum()), score[both], score[both] ** 2], axis=1)
        out = np.zeros((panel.n_patients, panel.n_codes(category), 3))
        np.add.at(out, at, terms)
        return Moments(out)

    parts = Parts(*(sums(getattr(panels, part), getattr(scores, part)) for part in ("made", "train", "holdout")))
    return measure(ASSOCIATION, subject, parts, draws, _error_of(correlation_ratio))


def _two_categories(panels: Parts[Panel], one: Column, other: Column, draws: Draws) -> list[Measured]:
    def joint(panel: Panel) -> Events:
        first, second = panel.row_values(one), panel.row_values(other)
        n = panel.n_codes(other)
        return events_at(~np.isnan(first + second), first * n + second, (panel.n_codes(one), n))

    tables, subject = panels.each(joint), f"{one.name}, {other.name}"
    return [
        measure(ASSOCIATION, subject, tables, draws, _error_of(cramers_v)),
        measure("joint table", subject, tables, draws, _joint_variation),
    ]


def _joint_variation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return total_variation(*(table.reshape(len(table), -1) for table in (one, other)))


def _error_of(association: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda one, other: np.abs(association(one) - association(other))


def cramers_v(table: np.ndarray) -> np.ndarray:
    """Return Cramer's V of tables (..., K, M), 0 to 1; 0 where a side has one code only."""
    total = np.maximum(table.sum(axis=(-2, -1)), 1.0)
    rows, columns = table.sum(axis=-1, keepdims=True), table.sum(axis=-2, keepdims=True)
    expected = rows * columns / total[..., None, None]
    chi_squared = ((table - expected) ** 2 / np.where(expected > 0, expected, 1.0)).sum(axis=(-2, -1))
    smaller = np.minimum((rows > 0).sum(axis=(-2, -1)), (columns > 0).sum(axis=(-2, -1)))
    return np.sqrt(chi_squared / total / np.maximum(smaller - 1, 1))


def correlation_ratio(sums: np.ndarray) -> np.ndarray:
    """Return eta, 0 to 1, from n, sum and sum of squares by code (..., K, 3): the root of the variance between codes
    over the whole."""
    n, x, xx = np.moveaxis(sums, -1, 0)
    total, mean = np.maximum(n.sum(axis=-1), 1.0), x.sum(axis=-1) / np.maximum(n.sum(axis=-1), 1.0)
    whole = xx.sum(axis=-1) - total * mean**2
    between = (n * (x / np.maximum(n, 1.0) - mean[..., None]) ** 2).sum(axis=-1)
    varies = whole > 1e-9 * np.maximum(xx.sum(axis=-1), 1e-300)
    return np.sqrt(np.where(varies, between / np.where(varies, whole, 1.0), 0.0))
