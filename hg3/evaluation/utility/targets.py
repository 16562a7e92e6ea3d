"""The targets of a schema: who has the outcome, and what a prediction of it may see."""

import numpy as np

from hg3.evaluation.features import Features, summary
from hg3.evaluation.panel import Panel
from hg3.table.column import canonical_code
from hg3.table.schema import Target


def outcome(panel: Panel, target: Target) -> np.ndarray:
    """Return where the outcome is there (1), is not (0) or is not known (NaN): (N, L), or (N, 1) of a static column."""
    values = panel.values[target.column]
    if target.codes is not None:
        codes = {canonical_code(code) for code in target.codes}
        known = panel.categories[target.column]
        there = np.isin(values, [position for position, code in enumerate(known) if canonical_code(code) in codes])
    elif target.below is not None:
        there = values <= target.below
    else:
        there = values >= target.above
    return np.where(np.isnan(values), np.nan, there)


def at_risk(panel: Panel, target: Target) -> np.ndarray:
    """Return whose outcome lies ahead after the window, bool (N,).

    Their record goes on after the window, unless the window is the whole grid: how long a record is tells who died in
    it. And a monthly outcome has not happened in the window.
    """
    goes_on = (panel.lengths > target.observe) | (target.observe >= panel.has_row.shape[1])
    if panel.schema.by_name[target.column].static:
        return goes_on
    return goes_on & ~(outcome(panel, target)[:, : target.observe] == 1).any(axis=1)


def labels(panel: Panel, target: Target) -> np.ndarray:
    """Return who has the outcome, 1 or 0, (N,); NaN for patients who are left out (see `Target`)."""
    found, ahead = outcome(panel, target), at_risk(panel, target)
    if panel.schema.by_name[target.column].static:
        return np.where(ahead, found[:, 0], np.nan)
    later = found[:, target.observe : target.until]
    has = (later == 1).any(axis=1)
    followed = (~np.isnan(later)).any(axis=1) & (panel.lengths >= (target.until or 0))
    return np.where(ahead & (has | followed), has, np.nan)


def features(panel: Panel, target: Target) -> Features:
    """Return what the prediction sees of all patients: their first `observe` times, without what tells the outcome."""
    return summary(panel, target.observe, hidden(panel, target))


def hidden(panel: Panel, target: Target) -> tuple[str, ...]:
    """Return the columns that tell the outcome: those of `hide`, a static outcome itself, and their indicators."""
    told = {*target.hide} | ({target.column} if panel.schema.by_name[target.column].static else set())
    return tuple(column.name for column in panel.schema.columns if column.name in told or column.indicates in told)
