"""Learners: what a fold is, and what is said where a library is missing."""

import sys
from pathlib import Path

import numpy as np
import pytest

from hg3.errors import Hg3Error, MissingLibraryError
from hg3.evaluation.learners import area_under_curve, boosted_log_odds, folds, library


def test_a_missing_library_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "sklearn.cluster", raising=False)
    with pytest.raises(MissingLibraryError, match=r"^scikit-learn is not .*install hg3\[evaluation\]$") as told:
        library("sklearn.cluster")
    assert isinstance(told.value, Hg3Error) and isinstance(told.value, ImportError)


def test_a_library_that_is_there_and_broken_surfaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "half_there.py").write_text("import nothing_of_the_kind")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="nothing_of_the_kind"):
        library("half_there")


def test_each_patient_is_tested_once_by_a_learner_that_has_not_seen_it() -> None:
    labels = np.repeat([1, 0], [23, 31])
    tested = []
    for train, test in folds(labels, seed=1):
        assert not set(train) & set(test) and len(train) + len(test) == 54
        assert 4 <= labels[test].sum() <= 5
        tested += test.tolist()
    assert sorted(tested) == list(range(54))
    assert [len(list(folds(np.repeat([1, 0], n)))) for n in ([1, 9], [2, 9], [4, 4], [90, 90])] == [0, 2, 4, 5]


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    labels, found = rng.integers(0, 2, 40), rng.integers(0, 6, 40)
    pairs = [(a > b) + 0.5 * (a == b) for a in found[labels == 1] for b in found[labels == 0]]
    assert area_under_curve(labels, found) == pytest.approx(np.mean(pairs))


def test_boosting_learns_what_is_unknown_and_an_exclusive_or() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 3))
    labels = ((values[:, 0] > 0) ^ (values[:, 1] > 0)).astype(int)
    gone = values.copy()
    gone[labels == 1, 2] = np.nan
    for table, least in ((values, 0.9), (gone, 0.999)):
        found = boosted_log_odds(table, labels, np.arange(300), np.arange(300, 400), seed=0)
        assert area_under_curve(labels[300:], found) > least


def test_boosting_leaves_out_what_nobody_knows() -> None:
    values, labels = np.full((40, 2), np.nan), np.repeat([0, 1], 20)
    values[:, 0] = labels
    values[35, 1] = 1.0  # known of a patient to test on alone
    order = np.random.default_rng(0).permutation(np.delete(np.arange(40), 35))
    found = boosted_log_odds(values, labels, order[:30], np.append(order[30:], 35), seed=0)
    assert ((found > 0) == np.append(labels[order[30:]], 1)).all()
