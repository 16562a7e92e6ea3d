"""Copies, near copies and what nearest neighbours tell, on releases whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from hg3.evaluation.draws import Measured, Parts, make_draws
from hg3.evaluation.gates import Gates, judge, load_gates
from hg3.evaluation.panel import Panel, some_patients
from hg3.evaluation.privacy.closeness import (
    _higher,
    _loss_and_share,
    _to_others,
    adversarial_measures,
    copy_measures,
    near_measures,
)
from hg3.evaluation.privacy.distances import points
from hg3.evaluation.privacy.search import near_everybody
from tests.evaluation.cases import everybody
from tests.evaluation.privacy.cases import by_name, cohort, contains, people, together
from tests.table.cases import make_schema, tiny_columns

LOSS, SHARE = "nearest-neighbour adversarial accuracy loss", "share closer to training"


def exact(panels: Parts[Panel]) -> tuple[float, float]:
    found = copy_measures(panels)[0]
    return found.score[0], found.ceiling[0]


def near(panels: Parts[Panel]) -> tuple[float, float]:
    space, once = points(panels), everybody(panels)
    found = near_measures(space, near_everybody(panels.made, panels, space), once.made, once.holdout)[0]
    return found.score[0], found.ceiling[0]


def test_copies_are_counted_and_near_ones_are_near() -> None:
    assert exact(cohort(400, 0.1)) == (0.1, 0.0)
    assert exact(cohort(400, 0.1, noise=True)) == exact(cohort(400)) == (0.0, 0.0)
    for noise in (False, True):
        score, ceiling = near(cohort(400, 0.1, noise))
        assert 0.1 <= score < 0.13 and ceiling == 0.01
    assert near(cohort(400))[0] < 0.03


@pytest.mark.parametrize(("n_patients", "copies"), [(1_000, 1), (20_000, 10)])
def test_a_few_copies_in_a_large_release_miss_the_gate(n_patients: int, copies: int) -> None:
    panels = Parts(people(n_patients, 1), people(400, 2), people(400, 3))
    (gate,) = [gate for gate in load_gates().gates if gate.name == "no copies of training patients"]
    assert judge(Gates(gates=(gate,)), copy_measures(panels))[0].state == "shown"
    leaking = replace(
        panels,
        made=together(some_patients(panels.made, slice(copies, None)), some_patients(panels.train, slice(copies))),
    )
    (verdict,) = judge(Gates(gates=(gate,)), copy_measures(leaking))
    assert verdict.state == "missed" and verdict.score == pytest.approx(copies / n_patients)


def test_coincidences_that_held_out_patients_have_too_are_no_copies() -> None:
    schema = make_schema(tiny_columns()[:1])
    panels = Parts(*(people(200, seed, schema) for seed in range(3)))
    (found,) = copy_measures(panels)
    assert found.score[0] > 0.5 and abs(found.score[0] - found.ceiling.mean()) < 0.1


def test_order_of_patients_changes_nothing() -> None:
    panels, order = cohort(100, 0.1), np.random.default_rng(1).permutation(100)
    turned = panels.each(lambda panel: some_patients(panel, order))
    assert exact(panels) == exact(turned) and near(panels) == near(turned)


def test_copy_is_as_a_release_writes_it() -> None:
    train = people(50, 1)
    height = train.values["height"]
    as_written = height.round(1).astype(np.float32).astype(float)
    nan_of_other_bits = np.where(np.isnan(height), -np.float64("nan"), as_written)
    made = replace(train, values={**train.values, "height": nan_of_other_bits})
    assert exact(Parts(made, train, people(50, 2)))[0] == 1.0
    made = replace(train, values={**train.values, "height": height + 0.3})
    assert exact(Parts(made, train, people(50, 2)))[0] == pytest.approx(np.isnan(height).mean())
    zero, minus = (replace(train, values={**train.values, "height": 0 * height * s}) for s in (1, -1))
    assert exact(Parts(minus, zero, people(50, 2)))[0] == 1.0


def test_a_row_more_is_no_copy() -> None:
    train = some_patients(people(60, 1), slice(1, None, 4))  # records without a gap
    fewer = replace(train, has_row=train.has_row & (np.arange(6) != 2))
    assert exact(Parts(fewer, train, train)) == (0.0, 1.0)


def test_records_that_are_all_alike_coincide_by_chance() -> None:
    one = some_patients(people(1, 1), np.zeros(30, int))
    panels = Parts(one, one, one)
    assert exact(panels) == near(panels) == (1.0, 1.0)
    for measured in adversarial_measures(points(panels), make_draws(panels.each(lambda p: p.n_patients))):
        assert (measured.score == (0.5 if measured.name == SHARE else 0.0)).all()
        assert (measured.score == measured.ceiling).all()


def adversarial(panels: Parts[Panel]) -> dict[str, Measured]:
    return by_name(adversarial_measures(points(panels), make_draws(panels.each(lambda p: p.n_patients))))


def test_repeated_training_moves_the_neighbours() -> None:
    others, copies, near_copies = (adversarial(cohort(1000, *how)) for how in ((0.0,), (0.1,), (0.1, True)))
    for found in (copies, near_copies):
        for name in (LOSS, SHARE):  # a draw has both sides of 1 in 20 pairs, half of which were in order before
            assert found[name].score.mean() - others[name].score.mean() == pytest.approx(0.025, abs=0.01)
            assert found[name].difference()[0] > 0.005


def test_a_release_that_is_the_training_loses_half() -> None:
    space = points(cohort(200))
    train, holdout = ((part, _to_others(part)) for part in (space.train, space.holdout))
    loss, share = _loss_and_share(space.train, train, holdout)
    assert loss == pytest.approx(0.5, abs=0.05) and share == 1.0


@pytest.mark.parametrize("seed", [0, 1])
def test_a_release_of_others_does_not(seed: int) -> None:
    panels = cohort(600, seed=seed)
    draws, space = make_draws(panels.each(lambda p: p.n_patients), seed), points(panels)
    near_ones = near_measures(space, near_everybody(panels.made, panels, space), draws.made, draws.holdout)
    for measured in (*adversarial_measures(space, draws, seed), *near_ones):
        assert contains(measured), measured.name
    share = by_name(adversarial_measures(space, draws, seed))[SHARE].score
    assert np.quantile(share, 0.025) <= 0.5 <= np.quantile(share, 0.975)


def test_ties_count_half() -> None:
    assert _higher(np.array([1.0, 2, 3, 3]), np.array([2.0, 2, 2, 2])) == 0.625
