"""The libraries of the extra `evaluation`, imported where they are used."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from hg3.errors import ConfigError

PACKAGES = {"sklearn": "scikit-learn"}  # where a package is not called as what it installs
# Small trees, for some hundred patients rather than millions; stopping early would set a part of them aside.
TREES = {"max_iter": 80, "max_depth": 3, "learning_rate": 0.07, "min_samples_leaf": 10, "early_stopping": False}


def needed(module: str) -> Any:
    """Return an optional library's module.

    Raises
    ------
    ConfigError
        If the library is not installed.
    """
    library = module.split(".")[0]
    try:
        return import_module(module)
    except ImportError:
        raise ConfigError(
            f"utility takes {PACKAGES.get(library, library)}, which is not installed; install hg3 with its extra, "
            "pip install 'hg3[evaluation]'"
        ) from None


def boosted_trees(kind: str, seen: np.ndarray, wanted: np.ndarray, state: int) -> Any:
    """Return scikit-learn's gradient boosting on histograms, fitted to (P, F) and (P,); NaN is a value to it.

    Parameters
    ----------
    kind : "Classifier" or "Regressor".
    """
    trees = getattr(needed("sklearn.ensemble"), f"HistGradientBoosting{kind}")(random_state=state, **TREES)
    seen = np.where(np.isnan(seen).all(axis=0), 0.0, seen)  # it fails on a feature without a value
    return trees.fit(seen, wanted)


def ranking_scores() -> tuple[Callable[..., float], Callable[..., float]]:
    """Return the areas under the ROC and the precision-recall curve, of (label, score, weight)."""
    metrics = needed("sklearn.metrics")

    def auroc(label: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
        return float(metrics.roc_auc_score(label, score, sample_weight=weight))

    def auprc(label: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
        return float(metrics.average_precision_score(label, score, sample_weight=weight))

    return auroc, auprc
