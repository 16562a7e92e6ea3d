"""Where records go: slopes of a patient's columns over time, and whether they go there together.

The seeds of this field correlate straight lines with one another, which gives -1 or 1 for every patient; what that
measures is whether two slopes have the same sign, and this is what is measured here.
"""

from functools import partial
from itertools import combinations

import numpy as np

from hg3.evaluation.draws import Draws, Measured, Parts, measure
from hg3.evaluation.panel import Panel
from hg3.evaluation.summaries import Moments, correlation_error, lag_moments, rate_error, slopes
from hg3.table.column import Column


def trend_measures(panels: Parts[Panel], draws: Draws) -> list[Measured]:
    """Return for every pair of ordered dynamic columns the errors of slope-sign agreement and slope correlation."""
    columns = [column for column in panels.holdout.dynamic() if column.kind != "categorical"]
    by_name = {column.name: panels.each(partial(slopes_of, column=column)) for column in columns}
    found = []
    for one, other in combinations(by_name, 2):
        both = Parts(*zip(*(vars(by_name[name]).values() for name in (one, other)), strict=True))
        subject = f"{one}, {other}"
        found.append(measure("slope signs", subject, both.each(_agreement), draws, rate_error))
        found.append(measure("slopes", subject, both.each(_together), draws, correlation_error))
    return found


def slopes_of(panel: Panel, column: Column) -> np.ndarray:
    """Return each patient's slope of a column over time, (N,), as `slopes` does."""
    return slopes(panel.row_values(column))


def _agreement(slopes: tuple[np.ndarray, np.ndarray]) -> Moments:
    """How often both slopes have one sign, and how often both have any, (N, 2)."""
    signs = np.sign(slopes[0]) * np.sign(slopes[1])
    return Moments(np.stack([signs == 1, np.abs(signs) == 1], axis=1).astype(float))


def _together(slopes: tuple[np.ndarray, np.ndarray]) -> Moments:
    return lag_moments(slopes[0][:, None], slopes[1][:, None])
