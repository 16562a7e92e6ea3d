"""Whom a learner is fitted to and whom it is tested on: halves of the training patients, resamples of the others.

A half drawn without replacement varies between draws as much as a whole cohort does between samples of the population
(the delete-half jackknife), so that intervals over draws hold the choice of the patients learned from.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from hg3.evaluation.draws import N_DRAWS, Measured, Parts

FEWEST = 10  # patients of either outcome in a part, below which nothing is estimated or shown

One = TypeVar("One")
Other = TypeVar("Other")
Both = TypeVar("Both")


def paired(function: Callable[[One, Other], Both], one: Parts[One], other: Parts[Other]) -> Parts[Both]:
    """Return a function of two things of each part."""
    return Parts(function(one.made, other.made), function(one.train, other.train), function(one.holdout, other.holdout))


def half(groups: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """Return about `size` positions without replacement, of each group (P,) its share, at least one."""
    chosen = []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        n = max(1, round(size * len(members) / len(groups)))
        chosen.append(random.choice(members, min(n, len(members)), replace=False))
    return np.sort(np.concatenate(chosen))


def resamples(groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return how often each is in each of 50 bootstrap resamples, group by group, float64, (50, P)."""
    counts = np.zeros((N_DRAWS, len(groups)))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        counts[:, members] = random.multinomial(len(members), np.full(len(members), 1 / len(members)), N_DRAWS)
    return counts


def not_estimable(name: str, subject: str, higher_is_better: bool = False) -> Measured:
    """Return a measure that these patients cannot tell."""
    return Measured(name, subject, np.full(N_DRAWS, np.nan), np.full(N_DRAWS, np.nan), higher_is_better)
