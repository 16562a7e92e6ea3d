"""Boosted trees that predict outcomes and next values, and how their predictions are scored."""

from collections.abc import Callable
from typing import Any

import numpy as np

from hg3.evaluation.learners import library

# Small trees, for some hundred patients rather than millions; stopping early would set a part of them aside.
TREES = {"max_iter": 80, "max_depth": 3, "learning_rate": 0.07, "min_samples_leaf": 10, "early_stopping": False}


def boosted_trees(kind: str, seen: np.ndarray, wanted: np.ndarray, state: int) -> Any:
    """Return scikit-learn's gradient boosting on histograms, fitted to (P, F) and (P,); NaN is a value to it.

    Parameters
    ----------
    kind : "Classifier" or "Regressor".
    """
    trees = getattr(library("sklearn.ensemble"), f"HistGradientBoosting{kind}")(random_state=state, **TREES)
    seen = np.where(np.isnan(seen).all(axis=0), 0.0, seen)  # it fails on a feature without a value
    return trees.fit(seen, wanted)


def ranking_scores() -> tuple[Callable[..., float], Callable[..., float]]:
    """Return the areas under the ROC and the precision-recall curve, of (label, score, weight)."""
    metrics = library("sklearn.metrics")

    def auroc(label: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
        return float(metrics.roc_auc_score(label, score, sample_weight=weight))

    def auprc(label: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
        return float(metrics.average_precision_score(label, score, sample_weight=weight))

    return auroc, auprc
