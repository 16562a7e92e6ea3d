"""Train on synthetic patients, test on real ones (TSTR): how well a target is predicted, beside real training patients.

Boosted trees on what the first times of a record add up to. The ceiling learns from as many real patients.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hg3.evaluation.draws import Measured, Parts
from hg3.evaluation.panel import Panel
from hg3.evaluation.utility.samples import FEWEST, half, not_estimable, resamples
from hg3.evaluation.utility.targets import features, labels
from hg3.evaluation.utility.trees import boosted_trees, ranking_scores
from hg3.table.schema import Target

N_FITS = 5  # each is tested on every fifth resample
AUROC, AUPRC, AUGMENTED = "TSTR AUROC", "TSTR AUPRC", "real and synthetic AUROC"
CALLED = {"made": "synthetic", "train": "training", "holdout": "hold-out"}
Score = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Cases:
    """P patients that a target is about: `seen` float64, (P, F), and whether they have the outcome, bool (P,)."""

    seen: np.ndarray
    label: np.ndarray


def cases(panel: Panel, target: Target) -> Cases:
    label = labels(panel, target)
    known = ~np.isnan(label)
    return Cases(features(panel, target).values[known], label[known] == 1)


def prediction_measures(panels: Parts[Panel], target: Target, seed: int = 0) -> tuple[list[Measured], list[str]]:
    """Return AUROC and AUPRC learned from synthetic patients (ceiling: from real ones), and AUROC learned from both
    together (ceiling: from the real ones of them alone), with a sentence if they cannot be told."""
    parts = panels.each(lambda panel: cases(panel, target))
    few = [name for name in ("made", "train", "holdout") if _rarer(getattr(parts, name)) < FEWEST]
    if few:
        return [not_estimable(name, target.name, True) for name in (AUROC, AUPRC, AUGMENTED)], [_remark(target, few)]
    random = np.random.default_rng(seed)
    fits = [_predicted(parts, random) for _ in range(N_FITS)]
    weights = resamples(parts.holdout.label, random)
    auroc, auprc = ranking_scores()

    def scores(score: Score, learner: str) -> np.ndarray:
        return np.array(
            [score(parts.holdout.label, fits[i % N_FITS][learner], weight) for i, weight in enumerate(weights)]
        )

    real = scores(auroc, "train")
    return [
        Measured(AUROC, target.name, scores(auroc, "made"), real, True),
        Measured(AUPRC, target.name, scores(auprc, "made"), scores(auprc, "train"), True),
        Measured(AUGMENTED, target.name, scores(auroc, "both"), real, True),
    ], []


def _rarer(part: Cases) -> int:
    return int(min(part.label.sum(), (~part.label).sum()))


def _remark(target: Target, few: list[str]) -> str:
    called = [CALLED[part] for part in few]
    return (
        f"{target.name}: not predicted, because fewer than {FEWEST} of the {' and of the '.join(called)} "
        "patients have it or fewer do not."
    )


def _predicted(parts: Parts[Cases], random: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the held-out patients' chance of the outcome, (P,), by whom it was learned from."""
    size = min(len(parts.made.label), len(parts.train.label)) // 2
    made, train = (_some(part, size, random) for part in (parts.made, parts.train))
    both = Cases(np.concatenate([made.seen, train.seen]), np.concatenate([made.label, train.label]))
    state = int(random.integers(2**31))

    def learned(part: Cases) -> np.ndarray:
        trees = boosted_trees("Classifier", part.seen, part.label, state)
        return np.asarray(trees.predict_proba(parts.holdout.seen)[:, 1])

    return {"made": learned(made), "train": learned(train), "both": learned(both)}


def _some(part: Cases, size: int, random: np.random.Generator) -> Cases:
    chosen = half(part.label, size, random)
    return Cases(part.seen[chosen], part.label[chosen])
