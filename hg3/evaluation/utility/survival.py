"""Do the effects hold: hazard ratios of a target learned from synthetic patients, beside those from real ones.

Cox regression with time-varying covariates, what studies of such records publish.
"""

from collections.abc import Callable
from dataclasses import dataclass
from warnings import catch_warnings, simplefilter

import numpy as np
import pandas as pd

from hg3.evaluation.draws import Draws, Measured, Parts
from hg3.evaluation.learners import library
from hg3.evaluation.panel import Panel
from hg3.evaluation.utility.episodes import KEYS, episodes
from hg3.evaluation.utility.samples import FEWEST, not_estimable, paired
from hg3.table.schema import Target

MOST_DRAWS = 20  # of the draws of patients: each takes three regressions
MOST_PATIENTS = 2000  # of a part, for the table; one regression of them takes some seconds
PENALTY = 1.0  # of half a squared log hazard ratio a deviation: as much as one event or so says, and all are finite
RATIOS, INTERVALS = "hazard ratios", "hazard ratio intervals"


@dataclass(frozen=True)
class Effects:
    """Log hazard ratios and the ends of their 95% intervals, by covariate; NaN where they cannot be told."""

    log_ratio: pd.Series
    low: pd.Series
    high: pd.Series


def hazard_measures(
    panels: Parts[Panel], target: Target, draws: Draws
) -> tuple[list[Measured], pd.DataFrame | None, list[str]]:
    """Return how far log hazard ratios lie from the held-out patients', the share of covariates whose intervals
    overlap theirs, and all of them in a table; or why they cannot be told."""
    why = "its outcome is known for a patient, not for a time"
    if not panels.holdout.schema.by_name[target.column].static:
        frames = episodes(panels, target)
        why = _why_not(frames)
        if not why:
            found = _measures(frames, target, draws)
            broken = np.isnan(found[0].score + found[0].ceiling).any()
            remark = f"{target.name}: hazard ratios are not compared, because a regression of a draw did not converge."
            return found, _table(frames, target), [remark] if broken else []
    missing = [not_estimable(RATIOS, target.name), not_estimable(INTERVALS, target.name, True)]
    return missing, None, [f"{target.name}: no hazard ratios, because {why}."]


def _why_not(frames: Parts[pd.DataFrame]) -> str:
    if min(int(frame["event"].sum()) for frame in (frames.made, frames.train, frames.holdout)) < FEWEST:
        return f"it happens to fewer than {FEWEST} patients of a part"
    return "" if len(frames.holdout.columns) > len(KEYS) else "no covariate is left"


def _measures(frames: Parts[pd.DataFrame], target: Target, draws: Draws) -> list[Measured]:
    def of_draw(i: int) -> Parts[Effects]:
        drawn = paired(lambda frame, weights: frame[weights[i][frame["patient"].to_numpy()] > 0], frames, draws)
        return drawn.each(effects)

    found = [of_draw(i) for i in range(min(MOST_DRAWS, len(draws.holdout)))]

    def measured(name: str, compare: Callable[[Effects, Effects], float], higher_is_better: bool) -> Measured:
        score = np.array([compare(draw.made, draw.holdout) for draw in found])
        ceiling = np.array([compare(draw.train, draw.holdout) for draw in found])
        return Measured(name, target.name, score, ceiling, higher_is_better)

    return [measured(RATIOS, _error, False), measured(INTERVALS, _overlap, True)]


def effects(frame: pd.DataFrame) -> Effects:
    """Return the log hazard ratios of a frame of `episodes`; all NaN where the regression does not converge."""
    fitter = library("lifelines").CoxTimeVaryingFitter(penalizer=PENALTY / max(len(frame), 1))  # it counts a row's
    covariates = [name for name in frame.columns if name not in KEYS]
    varying = [name for name in covariates if frame[name].nunique() > 1]
    unknown = pd.Series(np.nan, index=covariates)
    if not varying or not frame["event"].any():
        return Effects(unknown, unknown, unknown)
    with catch_warnings():
        simplefilter("ignore")  # of covariates that hardly vary: the penalty holds them
        try:
            fitter.fit(frame[[*KEYS, *varying]], "event", "start", "stop", id_col="patient")
        except library("lifelines.exceptions").ConvergenceError:
            return Effects(unknown, unknown, unknown)
    low, high = (fitter.confidence_intervals_.iloc[:, end].reindex(covariates) for end in (0, 1))
    return Effects(fitter.params_.reindex(covariates), low, high)


def _error(one: Effects, other: Effects) -> float:
    """Return the mean absolute difference of log hazard ratios over the covariates that both tell."""
    return float((one.log_ratio - other.log_ratio).abs().mean())


def _overlap(one: Effects, other: Effects) -> float:
    both = (one.low + other.low).notna()
    overlap = (one.low <= other.high) & (other.low <= one.high)
    return float(overlap[both].mean())


def _table(frames: Parts[pd.DataFrame], target: Target) -> pd.DataFrame:
    """Return the hazard ratios of all patients, at most 2,000 of each: a column a part and end of interval."""
    table = pd.DataFrame({"target": target.name, "covariate": frames.holdout.columns[len(KEYS) :]})
    for called, frame in (("real", frames.holdout), ("synthetic", frames.made)):
        found = effects(frame[frame["patient"].isin(frame["patient"].unique()[:MOST_PATIENTS])])
        for suffix, values in (("", found.log_ratio), ("_low", found.low), ("_high", found.high)):
            table[called + suffix] = np.exp(values.to_numpy(float))
    return table
