"""Targets predicted from synthetic patients: as well as from real ones, or not at all."""

from dataclasses import replace

import numpy as np
import pytest

from hg3.evaluation.draws import Measured, Parts
from hg3.evaluation.panel import some_patients
from hg3.evaluation.utility.prediction import AUGMENTED, AUPRC, AUROC, prediction_measures
from tests.evaluation.utility.cases import SCHEMA, made, needs, shuffled

pytestmark = needs("sklearn")
DEATH = SCHEMA.targets[0]
TRAIN, HOLDOUT = made(300, seed=1), made(300, seed=2)


def by_name(panels: Parts, seed: int = 0) -> dict[str, Measured]:
    found, remarks = prediction_measures(panels, DEATH, seed)
    assert remarks == [] and all(m.subject == "death" and m.higher_is_better for m in found)
    return {m.name: m for m in found}


def test_patients_of_the_same_kind_teach_as_much() -> None:
    found = by_name(Parts(made(300, seed=3), TRAIN, HOLDOUT))
    assert list(found) == [AUROC, AUPRC, AUGMENTED] and found[AUROC].score.shape == (50,)
    assert found[AUROC].ceiling.mean() > 0.85
    assert abs(found[AUROC].difference()[0]) < 0.04
    assert abs(found[AUPRC].difference()[0]) < 0.04
    assert found[AUGMENTED].difference()[0] > -0.02


def test_identical_tables_teach_the_same() -> None:
    """The release and the training are the same people: halves of them differ by chance alone."""
    found = by_name(Parts(TRAIN, TRAIN, HOLDOUT))
    for name in (AUROC, AUPRC):
        mean, low, high = found[name].difference()
        assert low <= 0.0 <= high and abs(mean) < 0.02, name


def test_the_order_of_patients_changes_chance_alone() -> None:
    release = made(300, seed=3)
    order = np.random.default_rng(1).permutation(300)
    found, turned = (by_name(Parts(one, TRAIN, HOLDOUT))[AUROC] for one in (release, some_patients(release, order)))
    assert turned.score.mean() == pytest.approx(found.score.mean(), abs=0.03)


def test_outcomes_of_other_patients_teach_nothing() -> None:
    found = by_name(Parts(shuffled(made(300, seed=3), "died"), TRAIN, HOLDOUT))
    assert 0.38 < found[AUROC].score.mean() < 0.62 < 0.85 < found[AUROC].ceiling.mean()
    assert found[AUGMENTED].difference()[0] < -0.02


def test_turned_outcomes_teach_the_opposite() -> None:
    turned = replace(TRAIN, values={**TRAIN.values, "died": 1 - TRAIN.values["died"]})
    found = by_name(Parts(turned, TRAIN, HOLDOUT))
    assert found[AUROC].score.mean() < 0.15


def test_score_and_ceiling_are_of_the_same_resamples() -> None:
    found = by_name(Parts(made(300, seed=3), TRAIN, HOLDOUT))
    np.testing.assert_array_equal(found[AUGMENTED].ceiling, found[AUROC].ceiling)
    of_a_fit = slice(0, None, 5)  # within a fit only the resample differs
    assert np.corrcoef(found[AUROC].score[of_a_fit], found[AUROC].ceiling[of_a_fit])[0, 1] > 0.5


def test_a_seed_says_all() -> None:
    panels = Parts(made(80, seed=3), made(80, seed=1), made(80, seed=2))
    one, same, other = (by_name(panels, seed)[AUROC].score for seed in (4, 4, 5))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


@pytest.mark.parametrize(("part", "called"), [("made", "synthetic"), ("train", "training"), ("holdout", "hold-out")])
def test_too_few_of_an_outcome_is_told(part: str, called: str) -> None:
    died = np.arange(300)[:, None] < 9
    few = replace(TRAIN, values={**TRAIN.values, "died": died.astype(float)})
    found, remarks = prediction_measures(replace(Parts(TRAIN, TRAIN, HOLDOUT), **{part: few}), DEATH)
    assert all(np.isnan(m.score).all() and np.isnan(m.ceiling).all() and m.score.shape == (50,) for m in found)
    assert [m.name for m in found] == [AUROC, AUPRC, AUGMENTED] and all(m.higher_is_better for m in found)
    assert remarks == [f"death: not predicted, because fewer than 10 of the {called} patients have it or fewer do not."]
