"""What a release does over time, beside what real patients do: each measure an error, 0 at best.

Rows follow one another as they stand in a record, whatever the gaps between them; lags are counted on the grid.
"""

from functools import partial

import numpy as np

from hg3.evaluation.draws import Draws, Measured, Parts, measure, not_estimable
from hg3.evaluation.panel import Panel, rows_first, scored
from hg3.evaluation.summaries import (
    Events,
    Moments,
    correlation_error,
    events_at,
    kolmogorov_smirnov,
    lag_moments,
    ranked,
    rate_error,
    total_variation,
    transition_variation,
)
from hg3.table.column import Column

LAGS = range(1, 13)


def temporal_measures(panels: Parts[Panel], draws: Draws) -> list[Measured]:
    """Return all measures over time, a column at a time; static columns are in none but their constancy's."""
    rows = panels.each(rows_first)
    found = [record_length(panels, draws), gap_share(panels, draws)]
    for column in panels.holdout.dynamic():
        found.append(change_rate(rows, column, draws))
        if column.missing == "modelled" or panels.holdout.schema.masked_by(column.name):
            found.append(mask_transitions(rows, column, draws))
        if column.is_real:
            found += [differences(rows, column, draws), *autocorrelations(panels, column, draws)]
        else:
            found += [transitions(rows, column, draws), dwell_times(rows, column, draws)]
    return found


def record_length(panels: Parts[Panel], draws: Draws) -> Measured:
    """Return the KS distance of record lengths, in times from the first to the last row."""
    lengths = panels.each(lambda panel: panel.lengths[:, None].astype(float))
    return measure("record length", "", ranked(lengths), draws, kolmogorov_smirnov)


def gap_share(panels: Parts[Panel], draws: Draws) -> Measured:
    """Return the error of the share of times inside a record that have no row."""

    def gaps(panel: Panel) -> Moments:
        lengths = panel.lengths
        return Moments(np.stack([lengths - panel.has_row.sum(axis=1), lengths], axis=1).astype(float))

    return measure("gap share", "", panels.each(gaps), draws, rate_error)


def differences(rows: Parts[Panel], column: Column, draws: Draws) -> Measured:
    """Return the KS distance of the differences of a real between consecutive rows.

    The distribution of the differences themselves: a mean of them telescopes to last minus first, and hides how a
    record gets there.
    """
    steps = rows.each(lambda panel: np.diff(panel.row_values(column), axis=1))
    found = measure("row-to-row difference", column.name, ranked(steps), draws, kolmogorov_smirnov)
    return found if _any_pair(steps.holdout) else not_estimable(found)


def _any_pair(steps: np.ndarray) -> bool:
    """Return whether any patient has a value on two rows that follow one another; few have of a rare laboratory."""
    return not np.isnan(steps).all()


def change_rate(rows: Parts[Panel], column: Column, draws: Draws) -> Measured:
    """Return the error of the share of consecutive rows, both with a value, between which it changes."""

    def changes(panel: Panel) -> Moments:
        step = np.diff(panel.row_values(column), axis=1)
        could = ~np.isnan(step)
        return Moments(np.stack([(could & (step != 0)).sum(axis=1), could.sum(axis=1)], axis=1).astype(float))

    return measure("change rate", column.name, rows.each(changes), draws, rate_error)


def transitions(rows: Parts[Panel], column: Column, draws: Draws) -> Measured:
    """Return the TV of a category's transition tables, rows weighted by how often held-out patients are there."""

    def steps(panel: Panel) -> Events:
        before, after = panel.row_values(column)[:, :-1], panel.row_values(column)[:, 1:]
        n = panel.n_codes(column)
        return events_at(~np.isnan(before + after), before * n + after, (n, n))

    return measure("transitions", column.name, rows.each(steps), draws, transition_variation)


def mask_transitions(rows: Parts[Panel], column: Column, draws: Draws) -> Measured:
    """Return the TV of the transition tables of having a value or not, as `transitions`."""

    def steps(panel: Panel) -> Events:
        observed = ~np.isnan(panel.row_values(column))
        both = panel.has_row[:, :-1] & panel.has_row[:, 1:]
        return events_at(both, observed[:, :-1] * 2 + observed[:, 1:], (2, 2))

    return measure("mask transitions", column.name, rows.each(steps), draws, transition_variation)


def dwell_times(rows: Parts[Panel], column: Column, draws: Draws) -> Measured:
    """Return the TV of how many rows on end a category stays as it is, by code; the record's end ends a stay."""
    longest = rows.holdout.has_row.shape[1]

    def stays(panel: Panel) -> Events:
        values = panel.row_values(column)
        here = ~np.isnan(values)
        begins = here.copy()
        begins[:, 1:] &= values[:, 1:] != values[:, :-1]
        patient, start = np.nonzero(begins)
        code = values[patient, start].astype(np.int64)
        length = _stay_lengths(begins, here)
        return Events(patient, code * (longest + 1) + length, (panel.n_codes(column) * (longest + 1),))

    return measure("dwell times", column.name, rows.each(stays), draws, total_variation)


def _stay_lengths(begins: np.ndarray, here: np.ndarray) -> np.ndarray:
    """Return how many cells each stay has, in the order in which np.nonzero names the begins (N, L)."""
    number = begins.ravel().cumsum() - 1  # a cell belongs to the stay that began last, if it has a value
    return np.bincount(number[here.ravel()], minlength=int(begins.sum()))


def autocorrelations(panels: Parts[Panel], column: Column, draws: Draws) -> list[Measured]:
    """Return the errors of the correlation of a real's rank scores with themselves 1 to 12 times later, over all."""
    scores, found = scored(panels, column), []
    for lag in (lag for lag in LAGS if lag < panels.holdout.schema.length):
        pairs = scores.each(partial(_lagged, lag=lag))
        of_lag = measure(f"autocorrelation, lag {lag}", column.name, pairs, draws, correlation_error)
        found.append(of_lag if pairs.holdout.sums[:, 0].any() else not_estimable(of_lag))
    return found


def _lagged(values: np.ndarray, lag: int) -> Moments:
    return lag_moments(values[:, :-lag], values[:, lag:])
