"""Train on synthetic patients, test on real ones: how well the next value of each real is predicted.

The predictive score of TimeGAN (Yoon et al. 2019), with boosted trees in place of its recurrent network: from the
last known value of every column at the time of a value, and how far the next value is, that next value. Errors are in
shares of real patients' cells (rank scores): 0.1 is a tenth of all real values away.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from hg3.evaluation.draws import Measured, Parts
from hg3.evaluation.panel import Panel, carried_forward, scored
from hg3.evaluation.utility.prediction import N_FITS
from hg3.evaluation.utility.samples import FEWEST, half, not_estimable, paired, resamples
from hg3.evaluation.utility.trees import boosted_trees
from hg3.table.column import Column

NAME = "TSTR MAE"
MOST_PAIRS = 5  # of a patient
MOST_PATIENTS = 2000  # learned from


@dataclass(frozen=True)
class Pairs:
    """P pairs of a value and the patient's next: whose, int64 (P,), what is seen, (P, F), and the next, (P,)."""

    patient: np.ndarray
    seen: np.ndarray
    following: np.ndarray

    def of(self, chosen: np.ndarray) -> "Pairs":
        return Pairs(self.patient[chosen], self.seen[chosen], self.following[chosen])


def forecast_measures(panels: Parts[Panel], seed: int = 0) -> tuple[list[Measured], list[str]]:
    """Return the error of the next value of each real over time, with a sentence on those without enough values."""
    random = np.random.default_rng(seed)
    last_known = panels.each(_last_known)
    found, without = [], []
    for column in (column for column in panels.holdout.dynamic() if column.is_real):
        scores = scored(panels, column)
        parts = paired(partial(_pairs, random=random), scores, last_known)
        if min(len(np.unique(part.patient)) for part in (parts.made, parts.train, parts.holdout)) < FEWEST:
            found.append(not_estimable(NAME, column.name))
            without.append(column.name)
        else:
            found.append(_forecast(parts, column, random))
    remark = f"The next value is not predicted of {', '.join(without)}: fewer than {FEWEST} patients have two values."
    return found, [remark] if without else []


def _last_known(panel: Panel) -> np.ndarray:
    """Return the last known value of every column up to every time, float32, (N, L, columns)."""
    columns = [carried_forward(panel.row_values(column)) for column in panel.schema.columns]
    return np.stack(columns, axis=-1).astype(np.float32)


def _pairs(scores: np.ndarray, last_known: np.ndarray, random: np.random.Generator) -> Pairs:
    """Return each value of (N, L) scores with the patient's next, at most 5 pairs a patient, drawn at random."""
    patient, time = np.nonzero(~np.isnan(scores))
    same = patient[1:] == patient[:-1]
    patient, now, then = patient[1:][same], time[:-1][same], time[1:][same]
    order = random.permutation(len(patient))
    order = order[np.argsort(patient[order], kind="stable")]
    starts = np.searchsorted(patient[order], patient[order])  # where each patient's pairs begin
    kept = order[np.arange(len(order)) - starts < MOST_PAIRS]
    patient, now, then = patient[kept], now[kept], then[kept]
    seen = np.column_stack([last_known[patient, now], now, then - now])
    return Pairs(patient, seen, scores[patient, then])


def _forecast(parts: Parts[Pairs], column: Column, random: np.random.Generator) -> Measured:
    whose, position = np.unique(parts.holdout.patient, return_inverse=True)
    pairs_of = np.bincount(position)
    fits = [_errors(parts, random) for _ in range(N_FITS)]
    weights = resamples(np.zeros(len(whose)), random)

    def mean_error(learner: int) -> np.ndarray:
        of_patient = [np.bincount(position, fit[learner]) for fit in fits]
        return np.array([w @ of_patient[i % N_FITS] / (w @ pairs_of) for i, w in enumerate(weights)])

    return Measured(NAME, column.name, mean_error(0), mean_error(1))


def _errors(parts: Parts[Pairs], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the absolute error of every held-out pair, (P,), learned from synthetic and from training patients."""
    whose = [np.unique(part.patient) for part in (parts.made, parts.train)]
    size = min(*map(len, whose), 2 * MOST_PATIENTS) // 2
    state = int(random.integers(2**31))

    def errors(part: Pairs, patients: np.ndarray) -> np.ndarray:
        chosen = part.of(np.isin(part.patient, patients[half(np.zeros(len(patients)), size, random)]))
        trees = boosted_trees("Regressor", chosen.seen, chosen.following, state)
        return np.abs(trees.predict(parts.holdout.seen) - parts.holdout.following)

    return errors(parts.made, whose[0]), errors(parts.train, whose[1])
