"""Learners of the extra `evaluation`: one door to them, and how they are trained on small tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from hg3.errors import MissingLibraryError

PACKAGES = {"sklearn": "scikit-learn"}  # where a package is not called as what it installs
FOLDS = 5
SMALLEST_LEAF = 10  # patients; a leaf of fewer is noise, and a table of fewer than twice as many is not split at all
TREES, LEAVES = 60, 15  # small, as tables of a few hundred patients are


def library(module: str) -> Any:
    """Return a module of a library that only the extra `evaluation` brings.

    Raises
    ------
    MissingLibraryError
        If the library is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        name = module.split(".")[0]
        if (error.name or "").split(".")[0] != name:
            raise  # the library is there and broken: let it surface
        package = PACKAGES.get(name, name)
        raise MissingLibraryError(
            f"{package} is not installed, and this part of an evaluation needs it; install hg3[evaluation]"
        ) from None


def is_there(module: str) -> bool:
    """Return whether a library is installed."""
    try:
        library(module)
    except MissingLibraryError:
        return False
    return True


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: on tables and networks this small others mostly wait, on a shared machine for minutes."""
    torch = library("torch") if is_there("torch") else None
    before = torch.get_num_threads() if torch else 1
    if torch:
        torch.set_num_threads(1)
    try:
        with library("threadpoolctl").threadpool_limits(1):
            yield
    finally:
        if torch:
            torch.set_num_threads(before)


def boosted_log_odds(
    values: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
) -> np.ndarray:
    """Return the log odds of label 1 for the patients `test`, by gradient boosting on the patients `train`, (test,).

    Parameters
    ----------
    values : float64, shape (N, F); NaN, unknown, is a value of its own to a tree.
    labels : 0 or 1, shape (N,).
    train, test : positions of patients.
    """
    boosting = library("sklearn.ensemble").HistGradientBoostingClassifier(
        max_iter=TREES,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=SMALLEST_LEAF,
        early_stopping=False,
        random_state=seed,
    )
    known = ~np.isnan(values[train]).all(axis=0)  # which the learner cannot do without
    boosting.fit(values[train][:, known], labels[train])
    return np.asarray(boosting.decision_function(values[test][:, known]), float)


def folds(labels: np.ndarray, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield 5 times the positions to learn from and the fifth to test on, with equal shares of each label in all.

    Fewer times where a label has fewer patients than 5; never where one has fewer than 2.
    """
    n_folds = min(FOLDS, int(np.bincount(labels, minlength=2).min()))
    if n_folds >= 2:
        split = library("sklearn.model_selection").StratifiedKFold(n_folds, shuffle=True, random_state=seed)
        yield from split.split(labels, labels)


def area_under_curve(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the chance that a patient of label 1 scores higher than one of label 0, ties counted half."""
    return float(library("sklearn.metrics").roc_auc_score(labels, scores))
