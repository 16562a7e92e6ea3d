"""How columns go together on a row, beside real patients: each measure an error, 0 at best.

Two reals: the correlation of their rank scores. Two categories: Cramer's V, and the TV of their joint table. A category
and a real: the correlation ratio eta of the real's rank scores. A static value stands on every row of its patient.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, Literal

import numpy as np

from hg3.evaluation.draws import Draws, Measured, Parts, Summary, measure
from hg3.evaluation.panel import Panel, scored
from hg3.evaluation.summaries import Events, Moments, correlation, error_of, events_at, lag_moments, total_variation
from hg3.table.column import Column

ASSOCIATION = "association"
Kind = Literal["correlation of rank scores", "Cramér's V", "eta"]


@dataclass(frozen=True)
class Pair:
    """Two columns on the rows of all parts: what is summed over patients, and the association that the sum says.

    Parameters
    ----------
    kind : the association's name. Rank scores are the shares of real patients' cells below: Spearman's correlation of
        the real patients, while a release is ranked among them, so that a wrong shape of a column is no right rank.
    """

    columns: tuple[Column, Column]
    kind: Kind
    parts: Parts[Summary]
    association: Callable[[np.ndarray], np.ndarray]

    @property
    def subject(self) -> str:
        return ", ".join(column.name for column in self.columns)


def pair_measures(panels: Parts[Panel], draws: Draws) -> list[Measured]:
    """Return the association error of every pair of columns, and of categories also their joint tables'."""
    found = []
    for pair in column_pairs(panels):
        found.append(measure(ASSOCIATION, pair.subject, pair.parts, draws, _error_of(pair.association)))
        if pair.kind == "Cramér's V":
            found.append(measure("joint table", pair.subject, pair.parts, draws, _joint_variation))
    return found


def column_pairs(panels: Parts[Panel]) -> Iterator[Pair]:
    """Yield every pair of columns, in the schema's order; of a category and a real the category comes first."""
    scores = {c.name: scored(panels, c) for c in panels.holdout.schema.columns if c.is_real}
    for one, other in combinations(panels.holdout.schema.columns, 2):
        if one.is_real and other.is_real:
            moments = _both(lag_moments, scores[one.name], scores[other.name])
            yield Pair((one, other), "correlation of rank scores", moments, correlation)
        elif one.is_real or other.is_real:
            real, category = (one, other) if one.is_real else (other, one)
            sums = _both(partial(_sums_by_code, category=category), panels, scores[real.name])
            yield Pair((category, real), "eta", sums, correlation_ratio)
        else:
            tables = panels.each(partial(_joint, one=one, other=other))
            yield Pair((one, other), "Cramér's V", tables, cramers_v)


def _both(function: Callable[[Any, np.ndarray], Summary], one: Parts[Any], other: Parts[np.ndarray]) -> Parts[Summary]:
    """Return the function of both, part by part."""
    return Parts(function(one.made, other.made), function(one.train, other.train), function(one.holdout, other.holdout))


def _sums_by_code(panel: Panel, score: np.ndarray, category: Column) -> Moments:
    """Return n, sum and sum of squares of a real's scores by code, (N, codes, 3)."""
    codes = panel.row_values(category)
    both = ~np.isnan(codes) & ~np.isnan(score)
    at = (np.nonzero(both)[0], codes[both].astype(np.int64))
    terms = np.stack([np.ones(both.sum()), score[both], score[both] ** 2], axis=1)
    out = np.zeros((panel.n_patients, panel.n_codes(category), 3))
    np.add.at(out, at, terms)
    return Moments(out)


def _joint(panel: Panel, one: Column, other: Column) -> Events:
    first, second = panel.row_values(one), panel.row_values(other)
    n = panel.n_codes(other)
    return events_at(~np.isnan(first + second), first * n + second, (panel.n_codes(one), n))


def _joint_variation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return total_variation(*(table.reshape(len(table), -1) for table in (one, other)))


def _error_of(association: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda one, other: error_of(association(one), association(other))


def cramers_v(table: np.ndarray) -> np.ndarray:
    """Return Cramer's V of tables (..., K, M), 0 to 1; NaN where a side has one code only, or none."""
    total = np.maximum(table.sum(axis=(-2, -1)), 1.0)
    rows, columns = table.sum(axis=-1, keepdims=True), table.sum(axis=-2, keepdims=True)
    expected = rows * columns / total[..., None, None]
    chi_squared = ((table - expected) ** 2 / np.where(expected > 0, expected, 1.0)).sum(axis=(-2, -1))
    smaller = np.minimum((rows > 0).sum(axis=(-2, -1)), (columns > 0).sum(axis=(-2, -1)))
    return np.where(smaller > 1, np.sqrt(chi_squared / total / np.maximum(smaller - 1, 1)), np.nan)


def correlation_ratio(sums: np.ndarray) -> np.ndarray:
    """Return eta, 0 to 1, from n, sum and sum of squares by code (..., K, 3): the root of the variance between codes
    over the whole; NaN where the real does not vary, or the category has one code only."""
    n, x, xx = np.moveaxis(sums, -1, 0)
    total, mean = np.maximum(n.sum(axis=-1), 1.0), x.sum(axis=-1) / np.maximum(n.sum(axis=-1), 1.0)
    whole = xx.sum(axis=-1) - total * mean**2
    between = (n * (x / np.maximum(n, 1.0) - mean[..., None]) ** 2).sum(axis=-1)
    varies = (whole > 1e-9 * np.maximum(xx.sum(axis=-1), 1e-300)) & ((n > 0).sum(axis=-1) > 1)
    return np.sqrt(np.where(varies, between / np.where(varies, whole, 1.0), np.nan))
