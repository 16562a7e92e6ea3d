"""Membership attacks on releases that repeat members, and on releases that do not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hg3.evaluation.draws import INTERVAL, Measured, Parts
from hg3.evaluation.panel import some_patients
from hg3.evaluation.privacy.distances import Points, distances, points
from hg3.evaluation.privacy.membership import (
    ATTACKS,
    Scores,
    _attacked,
    _estimable,
    _rates,
    _true_at,
    membership_measures,
)
from hg3.evaluation.privacy.search import Near
from tests.evaluation.privacy.cases import by_name, cohort, contains, people, together


def attacked(points: Parts[Points], seed: int = 0) -> tuple[list[Measured], pd.DataFrame, list[str]]:
    return membership_measures(points, seed, near_of(points))


def near_of(points: Parts[Points]) -> Near:
    """Return who is nearest, by the plain way: all distances."""
    train, holdout = distances(points.train, points.made), distances(points.holdout, points.made)
    return Near(train.min(axis=0), train.min(axis=1), holdout.min(axis=1))


def spread(n: int, seed: int) -> Points:
    """Return patients of five static reals."""
    static = np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)
    return Points(static, np.zeros((n, 0), np.float32), np.ones(n, np.float32), 5)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("noise", [False, True])
def test_repeated_members_are_found(attack: str, noise: bool) -> None:
    measures, curves, remarks = attacked(points(cohort(1200, 0.1, noise)))
    found = by_name(measures)
    assert found[f"membership AUC, {attack}"].difference()[0] > 0.02
    rate = found[f"membership TPR at 1% FPR, {attack}"]
    assert rate.difference()[1] > 0.05 and 0.09 < rate.score.mean() < 0.15
    assert np.isnan(found[f"membership TPR at 0.1% FPR, {attack}"].score).all()
    assert len(remarks) == 1 and "0.1% false positives is not estimable" in remarks[0]
    curve = curves[curves["attack"] == attack]
    at = np.interp(0.01, curve["false_positive"], curve["true_positive"])
    assert at == pytest.approx(rate.score.mean(), abs=0.02)


@pytest.mark.parametrize("seed", [0, 1])
def test_nobody_is_found_where_the_release_is_of_others(seed: int) -> None:
    found = by_name(attacked(points(cohort(1200, seed=seed)))[0])
    for attack in ATTACKS:
        low, high = np.quantile(found[f"membership AUC, {attack}"].score, INTERVAL)
        assert low <= 0.5 <= high
        assert contains(found[f"membership AUC, {attack}"])
        assert contains(found[f"membership TPR at 1% FPR, {attack}"])


def test_a_release_that_is_the_training_gives_everybody_away() -> None:
    panels = cohort(1200)
    found = by_name(attacked(points(Parts(panels.train, panels.train, panels.holdout)))[0])
    for attack in ATTACKS:
        assert found[f"membership AUC, {attack}"].score.mean() > 0.999
        assert found[f"membership TPR at 1% FPR, {attack}"].score.mean() > 0.999


def test_training_and_held_out_patients_who_are_the_same_are_not_told_apart() -> None:
    one, made = people(1200, 1), people(1200, 2)
    found = by_name(
        attacked(points(Parts(together(some_patients(made, slice(600)), some_patients(one, slice(600))), one, one)))[0]
    )
    low, high = np.quantile(found["membership AUC, distance"].score, INTERVAL)
    assert low <= 0.5 <= high


def test_the_order_of_patients_changes_chance_alone() -> None:
    panels, order = cohort(600, 0.1), np.random.default_rng(1).permutation(600)
    found = by_name(attacked(points(panels))[0])
    made_turned = by_name(attacked(points(replace(panels, made=some_patients(panels.made, order))))[0])
    all_turned = by_name(attacked(points(panels.each(lambda panel: some_patients(panel, order))))[0])
    for attack in ATTACKS:
        name = f"membership AUC, {attack}"
        np.testing.assert_array_equal(made_turned[name].score, found[name].score)
        assert all_turned[name].score.mean() == pytest.approx(found[name].score.mean(), abs=0.02)


def test_one_in_a_thousand_is_estimable_with_ten_thousand_members() -> None:
    train = spread(10_000, 1)
    made = spread(1000, 2)
    made.static[:100] = train.static[:100]
    found = by_name(attacked(Parts(made, train, spread(6000, 3)))[0])
    for attack in ATTACKS:
        rate = found[f"membership TPR at 0.1% FPR, {attack}"]
        assert 0.009 < rate.score.mean() < 0.02 and rate.difference()[1] > 0.005  # 100 of 10,000 are repeated


def test_density_is_measured_by_patients_who_are_not_attacked() -> None:
    release, train, holdout = spread(60, 1), spread(40, 2), spread(80, 3)
    half, rest = np.arange(40), np.arange(40, 80)
    space = Parts(release, train, holdout)
    (found, _), (by_chance, _) = _attacked(space, [half, rest], near_of(space))
    for targets, scores in ((train, "members"), (holdout.of(half), "others")):
        real = np.sort(distances(targets, holdout.of(rest[:20])), axis=1)[:, :10].mean(axis=1)
        for near, half_scores in ((release, found), (holdout.of(rest[20:]), by_chance)):
            made = distances(targets, near).min(axis=1)
            assert getattr(half_scores["distance"], scores) == pytest.approx(-made)
            assert getattr(half_scores["density"], scores) == pytest.approx(np.log(real / made), abs=1e-3)


def test_a_rate_takes_ten_members_and_one_other() -> None:
    assert _estimable(0.001, 10_000, 1_000)
    assert not _estimable(0.001, 9_999, 1_000) and not _estimable(0.001, 10_000, 999)


def test_few_hold_out_patients_tell_nothing() -> None:
    measures, curves, remarks = attacked(points(cohort(19)))
    assert len(measures) == 6 and all(np.isnan(m.score).all() for m in measures)
    assert list(curves) == ["attack", "false_positive", "true_positive"] and curves.empty
    assert remarks == ["Membership is not attacked: that takes 20 hold-out patients, and there are 19."]


def test_rates_are_those_of_counting() -> None:
    rng = np.random.default_rng(4)
    scores = Scores(rng.integers(0, 6, 40).astype(float), rng.integers(0, 5, 30).astype(float))
    weights = rng.integers(0, 3, (2, 40)).astype(float), rng.integers(0, 3, (2, 30)).astype(float)
    false, true = _rates(scores, *weights)
    for k in range(2):
        members, others = (np.repeat(s, w[k].astype(int)) for s, w in zip(vars(scores).values(), weights, strict=True))
        wins = (members[:, None] > others) + 0.5 * (members[:, None] == others)
        assert np.trapezoid(true[k], false[k]) == pytest.approx(wins.mean())
        for rate in (0.0, 0.2, 0.5):
            allowed = [x for x in (*range(6), 9) if (others >= x).mean() <= rate]
            expected = max((members >= x).mean() for x in allowed)
            assert _true_at(np.array([rate]), false, true)[k, 0] == pytest.approx(expected)
