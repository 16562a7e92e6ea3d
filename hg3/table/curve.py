"""A curve from transformed values to normal scores, linear between knots: it gives any shape the normal one."""

from dataclasses import dataclass, field

import numpy as np
from scipy import special

EXTREME_PATIENTS = 10  # ends are a mean over so many, so that none is one patient's
N_KNOTS = 256
STEEPEST = 16.0  # times the slope between the ends, so that float32 tells values apart in a gap of the data, too


@dataclass(frozen=True)
class Curve:
    """Two or more `knots` and their `scores`, both increasing; beyond the ends it goes on with the slope between them.

    `forward` and `inverse` take and return float64 arrays of any shape.
    """

    knots: tuple[float, ...] = field(repr=False)
    scores: tuple[float, ...] = field(repr=False)

    def forward(self, value: np.ndarray) -> np.ndarray:
        return _interpolate(value, np.asarray(self.knots), np.asarray(self.scores))

    def inverse(self, score: np.ndarray) -> np.ndarray:
        return _interpolate(score, np.asarray(self.scores), np.asarray(self.knots))


def _interpolate(x: np.ndarray, x_knots: np.ndarray, y_knots: np.ndarray) -> np.ndarray:
    slope = (y_knots[-1] - y_knots[0]) / (x_knots[-1] - x_knots[0])
    inside = np.interp(x, x_knots, y_knots)
    return inside + slope * (np.minimum(x - x_knots[0], 0.0) + np.maximum(x - x_knots[-1], 0.0))


def fit_curve(values: np.ndarray, patient: np.ndarray) -> Curve | None:
    """Return the curve that makes `values` standard normal; None if the ends of so few patients leave none.

    Knots are values at equally spaced scores, from the tenth lowest patient's to the tenth highest's, and at each end
    the mean over these ten. A repeated value, such as a detection limit, has the score of its middle rank.

    Parameters
    ----------
    values, patient : transformed training values, finite, and their patients' numbers, shape (n,).
    """
    ordered = np.sort(values)
    lowest, highest = extremes(values, patient)
    knots = np.unique([_mean(lowest), *_between(ordered, lowest[-1], highest[0]), _mean(highest)])
    scores = _scores(knots, ordered)
    if scores[-1] <= scores[0]:
        return None
    mildest = np.diff(knots) / (STEEPEST * (knots[-1] - knots[0]) / (scores[-1] - scores[0]))
    scores = scores[0] + np.cumsum([0.0, *np.maximum(np.diff(scores), mildest)])
    return Curve(tuple(knots.tolist()), tuple(scores.tolist()))


def extremes(values: np.ndarray, patient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest value of each of the 10 patients lowest there, and the highest of the 10 highest; sorted."""
    n_patients = int(patient.max()) + 1
    lowest, highest = np.full(n_patients, np.inf), np.full(n_patients, -np.inf)
    np.minimum.at(lowest, patient, values)
    np.maximum.at(highest, patient, values)
    there = lowest <= highest
    return np.sort(lowest[there])[:EXTREME_PATIENTS], np.sort(highest[there])[-EXTREME_PATIENTS:]


def _mean(ordered: np.ndarray) -> float:
    """Return the mean, which of equal values is that value, to the last bit."""
    return float(np.clip(ordered.mean(), ordered[0], ordered[-1]))


def _between(ordered: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the values in [low, high] that lie nearest to equally spaced scores."""
    if low >= high:
        return np.array([])
    ends = _scores(np.array([low, high]), ordered)
    ranks = special.ndtr(np.linspace(ends[0], ends[1], N_KNOTS)) * len(ordered)
    return np.clip(ordered[np.minimum(ranks.astype(np.int64), len(ordered) - 1)], low, high)


def _scores(value: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Return the normal scores of the middle ranks of values that lie inside the range of the ordered ones."""
    below, up_to = (np.searchsorted(ordered, value, side=side) for side in ("left", "right"))
    return special.ndtri((below + up_to) / (2.0 * len(ordered)))
