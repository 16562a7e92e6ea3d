"""The Health Gym line's own measures (Kuo et al. 2022, 2023), so that a release can be compared with theirs.

Two forms among them are unsound. The trend of a series is a straight line there, two of which correlate by -1 or 1 in
every patient, so that the trend correlation is tanh(7.25 (2p - 1)) of the share p of slopes that agree, saturates as
soon as p is far from a half, and counts a slope of nearly nothing like any other. The static correlation is Pearson's
of codes, which depends on the order that somebody gave them. `trends` and `pairs` measure the same questions soundly.
"""

from collections.abc import Iterator
from itertools import combinations
from operator import itemgetter

import numpy as np
import pandas as pd

from hg3.evaluation.draws import Draws, Measured, Parts, measure
from hg3.evaluation.fidelity.subgroups import subgroup_of
from hg3.evaluation.panel import Panel
from hg3.evaluation.summaries import (
    FEWEST_TIMES,
    Events,
    Moments,
    correlation,
    lag_moments,
    ranked,
    total_variation,
)
from hg3.table.column import Column

STATIC, TREND, CYCLE = (f"Health Gym {kind} correlation" for kind in ("static", "trend", "cycle"))
COLLAPSE = "mode collapse"
CLIP = 0.999999  # as published: a correlation of 1 weighs atanh = 7.25 and not infinity
FLAT = 1e-9  # of a column's deviation among real patients: a series that deviates less is constant


def health_gym_measures(panels: Parts[Panel], draws: Draws) -> list[Measured]:
    """Return the errors of the three correlations of every pair, and the distance of the table of subgroups.

    What is published as one number is the mean over the pairs. A correlation that no patient defines counts as 0, as
    it is drawn in the published figures.
    """
    found = []
    for one, other in combinations(panels.holdout.schema.columns, 2):
        subject = f"{one.name}, {other.name}"
        found.append(measure(STATIC, subject, _on_rows(panels, one, other), draws, _static_error))
    for name, one, other, moments in _within_patients(panels):
        found.append(measure(name, f"{one.name}, {other.name}", moments, draws, _fisher_error))
    columns = panels.holdout.schema.known_subgroups()
    if columns:
        found.append(measure(COLLAPSE, "", _in_subgroups(panels, columns), draws, total_variation))
    return found


def matrices(panels: Parts[Panel]) -> dict[str, Parts[pd.DataFrame]]:
    """Return by measure the correlation matrix of all patients of each part: columns by columns, 1 on the diagonal.

    NaN where no patient defines a cell: trend and cycle of static columns, or of columns that never vary together.
    """
    names = [column.name for column in panels.holdout.schema.columns]
    one = np.eye(len(names)) + np.where(np.eye(len(names)), 0.0, np.nan)
    found = {kind: panels.each(lambda _: pd.DataFrame(one.copy(), names, names)) for kind in (STATIC, TREND, CYCLE)}
    for first, second in combinations(panels.holdout.schema.columns, 2):
        _fill(found[STATIC], first, second, _on_rows(panels, first, second).each(lambda m: _published(_total(m))))
    for kind, first, second, moments in _within_patients(panels):
        _fill(found[kind], first, second, moments.each(lambda m: _fisher(_total(m))))
    return found


def _fill(matrix: Parts[pd.DataFrame], one: Column, other: Column, cells: Parts[np.ndarray]) -> None:
    for part, cell in vars(cells).items():
        frame: pd.DataFrame = getattr(matrix, part)
        frame.loc[one.name, other.name] = frame.loc[other.name, one.name] = float(cell)


def _total(moments: Moments) -> np.ndarray:
    return moments.sums.sum(axis=0)


def _on_rows(panels: Parts[Panel], one: Column, other: Column) -> Parts[Moments]:
    """Return the moments of a pair over all rows, categories as the numbers that their codes are."""
    first, second = _numbers(panels, one), _numbers(panels, other)
    return Parts(*map(lag_moments, vars(first).values(), vars(second).values()))


def _numbers(panels: Parts[Panel], column: Column) -> Parts[np.ndarray]:
    """Return a column on every row as numbers, (N, L), in deviations of real patients around their mean.

    Codes that are no numbers are counted from 0.
    """
    values = panels.each(lambda panel: panel.row_values(column))
    codes = None if column.is_real else np.array(panels.holdout.categories[column.name])
    if codes is not None and codes.dtype.kind in "iu":
        values = values.each(lambda part: np.where(np.isnan(part), np.nan, codes[np.nan_to_num(part).astype(int)]))
    known = np.concatenate([part[~np.isnan(part)] for part in (values.train, values.holdout)])
    mean, deviation = (known.mean(), known.std()) if len(known) else (0.0, 1.0)
    return values.each(lambda part: (part - mean) / (deviation if deviation > 0 else 1.0))


def _within_patients(panels: Parts[Panel]) -> Iterator[tuple[str, Column, Column, Parts[Moments]]]:
    """Yield trend and cycle of every pair of columns that are not static, as `_fisher_moments`."""
    columns = list(panels.holdout.dynamic())
    split = {column.name: _numbers(panels, column).each(_trend_and_cycle) for column in columns}
    for one, other in combinations(columns, 2):
        for k, name in enumerate((TREND, CYCLE)):
            first, second = (split[column.name].each(itemgetter(k)) for column in (one, other))
            yield name, one, other, Parts(*map(_fisher_moments, vars(first).values(), vars(second).values()))


def _trend_and_cycle(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each patient's straight line through values (N, L), less its mean, and what is left of them, NaN as there.

    scipy.signal.detrend(type="linear") where every time has a value; a gap takes its time and no more.
    """
    here = ~np.isnan(values)
    n = np.maximum(here.sum(axis=1, keepdims=True), 1)
    time = np.where(here, np.arange(values.shape[1]), 0.0)
    time = np.where(here, time - time.sum(axis=1, keepdims=True) / n, 0.0)
    level = values - np.where(here, values, 0.0).sum(axis=1, keepdims=True) / n
    spread = np.maximum((time**2).sum(axis=1, keepdims=True), 1.0)  # 0.5 at least where there are two values
    slope = (time * np.where(here, level, 0.0)).sum(axis=1, keepdims=True) / spread
    trend = np.where(here, slope * time, np.nan)
    return trend, level - trend


def _fisher_moments(one: np.ndarray, other: np.ndarray) -> Moments:
    """Return per patient (n - 3) atanh(r) and n - 3, (N, 2): 0 with fewer than 3 values, or where one is constant."""
    moments = lag_moments(one, other).sums
    n, x, y, xx, yy, _ = np.moveaxis(moments, -1, 0)
    varies = [square - total**2 / np.maximum(n, 1.0) > n * FLAT**2 for total, square in ((x, xx), (y, yy))]
    weight = np.where((n >= FEWEST_TIMES) & varies[0] & varies[1], n - 3.0, 0.0)
    return Moments(np.stack([weight * np.arctanh(np.clip(_published(moments), -CLIP, CLIP)), weight], axis=1))


def _fisher(sums: np.ndarray) -> np.ndarray:
    """Return the correlation that patients have on Fisher's average, of sums (..., 2); NaN where none has any."""
    known = sums[..., 1] > 0
    return np.where(known, np.tanh(sums[..., 0] / np.where(known, sums[..., 1], 1.0)), np.nan)


def _published(moments: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation; 0 where nothing defines it, as published."""
    return np.nan_to_num(correlation(moments))


def _static_error(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(_published(one) - _published(other))


def _fisher_error(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(np.nan_to_num(_fisher(one)) - np.nan_to_num(_fisher(other)))


def _in_subgroups(panels: Parts[Panel], columns: tuple[Column, ...]) -> Parts[Events]:
    """Return every patient as one event, whose kind is the subgroup; having no code is a code of its own."""
    return ranked(panels.each(lambda panel: subgroup_of(panel, columns)[:, None].astype(float)))
