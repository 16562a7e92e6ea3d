"""What patients add up to, counts of events or sums of moments, and how far two such sums lie apart."""

from dataclasses import dataclass

import numpy as np

from hg3.evaluation.draws import Parts

FEWEST_TIMES = 3  # for a slope to say something
FLAT = 1e-9  # of a column's spread a time: no slope at all


@dataclass(frozen=True)
class Events:
    """Things that happened to N patients, each of one kind of `shape`.

    Parameters
    ----------
    patient, kind : int64, shape (events,): whose it is, and its position among the kinds, flattened.
    """

    patient: np.ndarray
    kind: np.ndarray
    shape: tuple[int, ...]

    def under(self, weights: np.ndarray) -> np.ndarray:
        n_kinds = int(np.prod(self.shape))
        counts = [np.bincount(self.kind, weight[self.patient], n_kinds) for weight in weights]
        return np.array(counts).reshape(len(weights), *self.shape)


@dataclass(frozen=True)
class Moments:
    """Sums of products of every patient's values, float64, shape (N, ...)."""

    sums: np.ndarray

    def under(self, weights: np.ndarray) -> np.ndarray:
        return np.tensordot(weights, self.sums, axes=1)


def events_at(where: np.ndarray, kind: np.ndarray, shape: tuple[int, ...]) -> Events:
    """Return an event for every cell of `where`, bool (N, ...), of the kind that `kind` holds there."""
    return Events(np.nonzero(where)[0], kind[where].astype(np.int64), shape)


def ranked(values: Parts[np.ndarray]) -> Parts[Events]:
    """Return every number of (N, ...) arrays as an event whose kind is its rank among those of all parts.

    NaN is no event.
    """
    seen = values.each(lambda part: part[~np.isnan(part)])
    known = np.unique(np.concatenate([seen.made, seen.train, seen.holdout]))
    shape = (max(len(known), 1),)
    return values.each(lambda part: events_at(~np.isnan(part), np.searchsorted(known, part), shape))


def lag_moments(x: np.ndarray, y: np.ndarray) -> Moments:
    """Return per patient n, and the sums of x, y, x^2, y^2 and x y over cells where both are, shape (N, 6)."""
    both = ~np.isnan(x) & ~np.isnan(y)
    x, y = np.where(both, x, 0.0), np.where(both, y, 0.0)
    terms = (both.astype(float), x, y, x * x, y * y, x * y)
    return Moments(np.stack([term.sum(axis=1) for term in terms], axis=1))


def slopes(values: np.ndarray) -> np.ndarray:
    """Return each patient's least-squares slope over time of values (N, L), in their spread a time, (N,).

    NaN where there are fewer than 3 values; 0 where it is flat.
    """
    here = ~np.isnan(values)
    n = here.sum(axis=1)
    time = np.where(here, np.arange(values.shape[1]), 0.0)
    time = np.where(here, time - (time.sum(axis=1) / np.maximum(n, 1))[:, None], 0.0)
    spread = float(np.nanstd(values)) if here.any() else 0.0
    slope = (time * np.where(here, values, 0.0)).sum(axis=1) / np.maximum((time**2).sum(axis=1), 1e-300)
    slope = slope / spread if spread > 0 else np.zeros_like(slope)
    return np.where(n >= FEWEST_TIMES, np.where(np.abs(slope) > FLAT, slope, 0.0), np.nan)


def total_variation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return TV of counts (draws, kinds), shape (draws,); nothing against something is 1."""
    return 0.5 * np.abs(shares(one) - shares(other)).sum(axis=-1) + 0.5 * only_one_is_empty(one, other)


def kolmogorov_smirnov(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the largest difference of distribution functions of counts (draws, ranks), shape (draws,)."""
    apart = np.abs(shares(one).cumsum(axis=-1) - shares(other).cumsum(axis=-1)).max(axis=-1)
    return np.maximum(apart, only_one_is_empty(one, other))


def transition_variation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the mean TV of the rows of two transition tables (draws, from, to), weighted by how often `other` starts
    there; a row that `one` never leaves counts as 1."""
    starts = other.sum(axis=-1)
    return (shares(starts) * total_variation(one, other)).sum(axis=-1)


def error_of(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the absolute difference of two numbers, where NaN is one that nothing defines, (draws,).

    That the real patients (`other`) do not define a number says nothing of a release: NaN. That they do and the release
    does not is as wrong as can be, and never right: 1, as nothing against something is everywhere.
    """
    return np.where(np.isnan(one) & ~np.isnan(other), 1.0, np.abs(one - other))


def correlation_error(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the `error_of` two correlations from `lag_moments` (draws, 6)."""
    return error_of(correlation(one), correlation(other))


def correlation(moments: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation from sums (..., 6); NaN where a side does not vary or there are no pairs."""
    n, x, y, xx, yy, xy = np.moveaxis(moments, -1, 0)
    n = np.maximum(n, 1.0)
    spread_x, spread_y = xx - x * x / n, yy - y * y / n
    varies = (spread_x > 1e-9 * np.abs(xx)) & (spread_y > 1e-9 * np.abs(yy))
    root = np.sqrt(np.where(varies, spread_x * spread_y, 1.0))
    return np.where(varies, (xy - x * y / n) / root, np.nan)


def rate_error(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the `error_of` two rates from (draws, 2): how often it happened, and how often it could."""
    return error_of(rate(one), rate(other))


def rate(counts: np.ndarray) -> np.ndarray:
    """Return how often of how often it could, from (..., 2); NaN where it could never."""
    return np.where(counts[..., 1] > 0, counts[..., 0] / np.maximum(counts[..., 1], 1.0), np.nan)


def shares(counts: np.ndarray) -> np.ndarray:
    """Return counts (..., kinds) over their sum; 0 where there are none."""
    total = counts.sum(axis=-1, keepdims=True)
    return counts / np.where(total > 0, total, 1.0)


def only_one_is_empty(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return 1 where one of two counts (..., kinds) has nothing and the other something, else 0, shape (...)."""
    return np.asarray((one.sum(axis=-1) > 0) != (other.sum(axis=-1) > 0), float)
