"""Equal numbers of synthetic, training and held-out patients, drawn many times: a score beside its ceiling.

The ceiling is what real patients reach: training patients against held-out ones. The release is scored with as many
patients against the same held-out ones, so that the two differ by the release alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np

N_DRAWS = 50
INTERVAL = (0.025, 0.975)
FEWEST_FOR_INTERVAL = 10  # draws; of fewer, what lies between the lowest and the highest is all that can be said

T = TypeVar("T", covariant=True)


@dataclass(frozen=True)
class Parts(Generic[T]):
    """The same thing of the synthetic, the training and the held-out patients."""

    made: T
    train: T
    holdout: T

    def each(self, function: Callable[[T], "U"]) -> "Parts[U]":
        return Parts(function(self.made), function(self.train), function(self.holdout))


U = TypeVar("U")
Draws = Parts[np.ndarray]  # how often each patient is in each draw, float64, shapes (50, patients)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of the middle 95% of some draws; of fewer than 10, the lowest and the highest."""
    if len(values) < FEWEST_FOR_INTERVAL:
        return float(values.min()), float(values.max())
    low, high = np.quantile(values, INTERVAL)
    return float(low), float(high)


def not_estimable(measured: "Measured") -> "Measured":
    """Return the measure with NaN in every draw."""
    unknown = np.full(len(measured.score), np.nan)
    return replace(measured, score=unknown, ceiling=unknown)


class Summary(Protocol):
    """What patients add up to: their own parts, summed over a draw."""

    def under(self, weights: np.ndarray) -> np.ndarray:
        """Return the sum over patients, shape (draws, ...), each counted as often as `weights` (draws, N) says."""


def make_draws(n_patients: Parts[int], seed: int = 0) -> Draws:
    """Return 50 draws without replacement, each of half as many patients as the smallest part has, at least one."""
    random = np.random.default_rng(seed)
    size = max(1, min(n_patients.made, n_patients.train, n_patients.holdout) // 2)

    def draws(n: int) -> np.ndarray:
        weights = np.zeros((N_DRAWS, n))
        for draw in weights:
            draw[random.choice(n, size, replace=False)] = 1.0
        return weights

    return n_patients.each(draws)


def resamples(n_patients: int, seed: int = 0) -> np.ndarray:
    """Return 50 resamples of as many patients, with replacement: how often each is in each, float64, (50, N)."""
    random = np.random.default_rng([seed, n_patients])
    return random.multinomial(n_patients, np.full(n_patients, 1 / max(n_patients, 1)), N_DRAWS).astype(float)


@dataclass(frozen=True)
class Measured:
    """One measure of one subject (a column, a pair, an attack), draw by draw: the release's score and the ceiling.

    Parameters
    ----------
    score, ceiling : float64, shape (draws,), paired: 50, or fewer where a learner is trained for each. NaN in every
        draw where the measure cannot be estimated from these patients.
    higher_is_better : otherwise the measure is an error or a risk, 0 at best.
    control : the score of patients who were spoiled on purpose, float64, (draws,), where that is to be shown.
    """

    name: str
    subject: str
    score: np.ndarray
    ceiling: np.ndarray
    higher_is_better: bool = False
    control: np.ndarray | None = None

    def difference(self) -> tuple[float, float, float]:
        """Return the mean of score - ceiling over the draws and the ends of its `interval`."""
        paired = self.score - self.ceiling
        return float(paired.mean()), *interval(paired)

    @property
    def is_known(self) -> bool:
        """Whether the measure could be estimated in every draw."""
        return bool(np.isfinite(self.score).all() and np.isfinite(self.ceiling).all())

    @property
    def has_power(self) -> bool:
        """Whether what is worse than real patients looks worse, where there is a control of it.

        Spoiled patients must be worse in every draw than real ones in any, or the release itself: where neither is, a
        release that is as bad as they are would look like real patients. That a release is told apart needs no proof
        that it can be.
        """
        if self.control is None:
            return True
        sign = -1.0 if self.higher_is_better else 1.0
        worst = (sign * self.ceiling).max()
        return bool((sign * self.control).min() > worst or (sign * self.score).min() > worst)


def measure(
    name: str,
    subject: str,
    summaries: Parts[Summary],
    draws: Draws,
    compare: Callable[[np.ndarray, np.ndarray], np.ndarray],
    higher_is_better: bool = False,
) -> Measured:
    """Return how the release, and how the training patients, compare with the held-out patients, draw by draw.

    One draw at a time, as all at once would be gigabytes where every value is a rank of its own.
    """
    score, ceiling = [], []
    for draw in range(len(draws.made)):
        this = slice(draw, draw + 1)
        held = summaries.holdout.under(draws.holdout[this])
        score.append(compare(summaries.made.under(draws.made[this]), held))
        ceiling.append(compare(summaries.train.under(draws.train[this]), held))
    return Measured(name, subject, np.concatenate(score), np.concatenate(ceiling), higher_is_better)
