"""Each column for itself, beside real patients: shares, distributions, what is covered, what is missing.

All rows count alike; a static column counts once a patient. Cells without a value, and those that their indicator
masks, are left out of all but the missing rate.
"""

import numpy as np

from hg3.evaluation.draws import Draws, Measured, Parts, measure
from hg3.evaluation.panel import Panel, carried_forward, of_patient, scored
from hg3.evaluation.summaries import (
    Events,
    Moments,
    events_at,
    kolmogorov_smirnov,
    only_one_is_empty,
    ranked,
    rate_error,
    shares,
    total_variation,
)
from hg3.table.column import Column

RARE = 0.05  # a code with less than this share of the real values is a rare one


def marginal_measures(panels: Parts[Panel], draws: Draws) -> list[Measured]:
    """Return the measures of every column."""
    found = []
    for column in panels.holdout.schema.columns:
        found += _of_real(panels, column, draws) if column.is_real else _of_category(panels, column, draws)
        if column.missing == "modelled" or panels.holdout.schema.masked_by(column.name):
            found.append(missing_rate(panels, column, draws))
        found += constancy(panels, column, draws)
    return found


def _of_real(panels: Parts[Panel], column: Column, draws: Draws) -> list[Measured]:
    """KS, Wasserstein's distance of rank scores, and the share of values between the lowest and highest real one.

    Rank scores, the share of real values below a value, are the units in which no outlier decides; one third is the
    distance of a constant in the middle from a spread-out column, one half the largest there is between two
    distributions of which one is the real one.
    """
    values = panels.each(lambda panel: panel.values[column.name])
    scores = scored(panels, column)
    if column.static:
        scores = scores.each(of_patient)
    known = np.unique(np.concatenate([part[~np.isnan(part)] for part in vars(scores).values()]))
    return [
        measure("KS", column.name, ranked(values), draws, kolmogorov_smirnov),
        measure("Wasserstein", column.name, ranked(scores), draws, lambda one, other: wasserstein(one, other, known)),
        measure("boundary adherence", column.name, ranked(values), draws, boundary_adherence, higher_is_better=True),
    ]


def _of_category(panels: Parts[Panel], column: Column, draws: Draws) -> list[Measured]:
    """TV, the share of the held-out patients' codes that occur, and how fully the rare ones do."""
    codes = panels.each(lambda panel: _codes(panel, column))
    real = codes.train.under(np.ones((1, panels.train.n_patients)))
    real = (real + codes.holdout.under(np.ones((1, panels.holdout.n_patients))))[0]
    rare = (real > 0) & (real < RARE * real.sum())
    found = [
        measure("TV", column.name, codes, draws, total_variation),
        measure("category coverage", column.name, codes, draws, coverage, higher_is_better=True),
    ]
    if rare.any():
        found.append(
            measure(
                "rare-category ratio",
                column.name,
                codes,
                draws,
                lambda one, other: rare_ratio(one, other, rare),
                higher_is_better=True,
            )
        )
    return found


def _codes(panel: Panel, column: Column) -> Events:
    values = panel.values[column.name]
    return events_at(~np.isnan(values), values, (panel.n_codes(column),))


def wasserstein(one: np.ndarray, other: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the first Wasserstein distance of counts (draws, values) at the places `known`, (draws,); nothing against
    something is 1."""
    apart = np.abs(shares(one).cumsum(axis=-1) - shares(other).cumsum(axis=-1))[:, :-1]
    return np.maximum(apart @ np.diff(known), only_one_is_empty(one, other))


def boundary_adherence(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the share of `one` between the lowest and the highest value of `other`, from counts (draws, ranks)."""
    reached, left = other.cumsum(axis=-1) > 0, other[:, ::-1].cumsum(axis=-1)[:, ::-1] > 0
    return (one * (reached & left)).sum(axis=-1) / np.maximum(one.sum(axis=-1), 1.0)


def coverage(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the share of the codes of `other` that `one` has too, from counts (draws, codes); 1 where there are
    none."""
    wanted = other > 0
    return np.where(wanted.any(axis=-1), (wanted & (one > 0)).sum(axis=-1) / np.maximum(wanted.sum(axis=-1), 1), 1.0)


def rare_ratio(one: np.ndarray, other: np.ndarray, rare: np.ndarray) -> np.ndarray:
    """Return how far the shares of the codes `rare` agree, the smaller over the larger, mean over the codes, (draws,);
    a code that neither has counts as 1."""
    first, second = (counts[:, rare] / np.maximum(counts.sum(axis=-1, keepdims=True), 1.0) for counts in (one, other))
    larger = np.maximum(first, second)
    return np.where(larger > 0, np.minimum(first, second) / np.where(larger > 0, larger, 1.0), 1.0).mean(axis=-1)


def missing_rate(panels: Parts[Panel], column: Column, draws: Draws) -> Measured:
    """Return the error of the share of rows (of patients, if static) without a value that counts."""

    def missing(panel: Panel) -> Moments:
        rows = np.ones((panel.n_patients, 1), bool) if column.static else panel.has_row
        lacks = rows & np.isnan(panel.values[column.name])
        return Moments(np.stack([lacks.sum(axis=1), rows.sum(axis=1)], axis=1).astype(float))

    return measure("missing rate", column.name, panels.each(missing), draws, rate_error)


def constancy(panels: Parts[Panel], column: Column, draws: Draws) -> list[Measured]:
    """Return the share of patients in whom a column never changes, of columns that change in no real patient.

    Those that the schema calls static are among them by construction; sex in a schema that calls it monthly is not.
    """

    def constant(panel: Panel) -> np.ndarray:
        step = np.diff(carried_forward(panel.row_values(column)), axis=1)
        return ~np.any((step != 0) & ~np.isnan(step), axis=1)

    steady = panels.each(constant)
    if not (steady.train.all() and steady.holdout.all()):
        return []
    sums = steady.each(lambda part: Moments(np.stack([part, np.ones(len(part))], axis=1).astype(float)))
    return [measure("static constancy", column.name, sums, draws, _rate_of_first, higher_is_better=True)]


def _rate_of_first(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return one[:, 0] / np.maximum(one[:, 1], 1.0)
