"""Records as Cox regression with time-varying covariates takes them: a row for each time at risk of a target."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from hg3.evaluation.draws import Parts
from hg3.evaluation.panel import Panel, carried_forward, scored
from hg3.evaluation.utility.samples import FEWEST, paired
from hg3.evaluation.utility.targets import at_risk, hidden, outcome
from hg3.table.column import Column
from hg3.table.schema import Target

RARE = 0.05  # of the real patients' rows at risk: codes of fewer join the reference
KEYS = ("patient", "start", "stop", "event")


@dataclass(frozen=True)
class AtRisk:
    """Times at which patients may have the outcome: R of them, int64 (R,) each but `event`, which is bool.

    Parameters
    ----------
    patient, time : positions in the panel.
    event : whether the outcome happens then, for the first time.
    """

    patient: np.ndarray
    time: np.ndarray
    event: np.ndarray


def times_at_risk(panel: Panel, target: Target) -> AtRisk:
    """Return the times from `observe` to the first outcome, or to the end of the record of who never has it."""
    there = outcome(panel, target) == 1  # of who is at risk, never in the window
    first = np.where(there.any(axis=1), np.argmax(there, axis=1), there.shape[1])
    time = np.arange(there.shape[1])
    last = np.minimum(first, panel.lengths - 1)[:, None]
    counts = at_risk(panel, target)[:, None] & (time >= target.observe) & (time <= last)
    patient, at = np.nonzero(counts)
    return AtRisk(patient, at, at == first[patient])


def episodes(panels: Parts[Panel], target: Target) -> Parts[pd.DataFrame]:
    """Return a row for each time at risk: `patient`, `start` and `stop` in times since the window, `event`, covariates.

    Covariates are the last known values before that time. Reals are rank scores among real patients, in standard
    deviations from the mean of the real rows at risk; an unknown one is the mean. Each code has a column, but for the
    most frequent one of real patients, rare ones, and those that fewer than 10 patients of a part carry. What tells
    the outcome (`targets.hidden`) has none.
    """
    risk = panels.each(lambda panel: times_at_risk(panel, target))
    told = hidden(panels.holdout, target)
    covariates: list[tuple[str, Parts[np.ndarray]]] = []
    for column in (c for c in panels.holdout.schema.columns if c.name not in told):
        values = scored(panels, column) if column.is_real else panels.each(partial(Panel.row_values, column=column))
        known = paired(_before, values, risk)
        if column.is_real:
            covariates.append((column.name, _standardised(known)))
        else:
            covariates += _indicators(panels.holdout, column, known, risk)

    return Parts(*(_frame(getattr(risk, part), covariates, part, target) for part in ("made", "train", "holdout")))


def _frame(at: AtRisk, covariates: list[tuple[str, Parts[np.ndarray]]], part: str, target: Target) -> pd.DataFrame:
    start = at.time - target.observe
    keys = dict(zip(KEYS, (at.patient, start, start + 1, at.event), strict=True))
    return pd.DataFrame({**keys, **{name: getattr(values, part).astype(float) for name, values in covariates}})


def _before(values: np.ndarray, risk: AtRisk) -> np.ndarray:
    """Return the last known value before each time at risk, (R,); NaN where there is none."""
    return carried_forward(values)[risk.patient, risk.time - 1]


def _standardised(known: Parts[np.ndarray]) -> Parts[np.ndarray]:
    real = np.concatenate([known.train, known.holdout])
    real = real[~np.isnan(real)]
    middle, deviation = (real.mean(), real.std() or 1.0) if len(real) else (0.0, 1.0)
    return known.each(lambda scores: np.where(np.isnan(scores), 0.0, (scores - middle) / deviation))


def _indicators(
    panel: Panel, column: Column, known: Parts[np.ndarray], risk: Parts[AtRisk]
) -> Iterator[tuple[str, Parts[np.ndarray]]]:
    real = np.concatenate([known.train, known.holdout])
    shares = [float((real == k).mean()) if len(real) else 0.0 for k in range(panel.n_codes(column))]
    for k, code in enumerate(panel.categories[column.name]):
        if k == int(np.argmax(shares)) or shares[k] < RARE:
            continue
        carried = known.each(partial(np.equal, k))
        patients = paired(_n_patients, carried, risk)
        if min(patients.made, patients.train, patients.holdout) >= FEWEST:
            yield f"{column.name}: {_called(column, k, code)}", carried


def _n_patients(carried: np.ndarray, risk: AtRisk) -> int:
    return len(np.unique(risk.patient[carried]))


def _called(column: Column, position: int, code: object) -> str:
    return column.labels[position] if column.labels else str(code)
