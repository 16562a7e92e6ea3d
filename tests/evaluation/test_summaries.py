"""Sums over patients and distances between them, against obvious computations."""

import numpy as np
import pytest
from scipy import stats

from benchmarks import quick_look
from hg3.evaluation.draws import N_DRAWS, Parts, make_draws, measure
from hg3.evaluation.fidelity.pairs import correlation_ratio, cramers_v
from hg3.evaluation.summaries import (
    correlation,
    correlation_error,
    kolmogorov_smirnov,
    lag_moments,
    ranked,
    rate_error,
    total_variation,
    transition_variation,
)


def test_a_draw_weighs_patients_as_if_the_others_were_not_there() -> None:
    rng = np.random.default_rng(0)
    values = Parts(*(np.where(rng.random((n, 4)) < 0.2, np.nan, rng.normal(size=(n, 4))) for n in (12, 20, 16)))
    draws = make_draws(values.each(len), seed=1)
    found = measure("", "", ranked(values), draws, kolmogorov_smirnov)
    for k in (0, N_DRAWS - 1):
        made, held = (getattr(values, part)[getattr(draws, part)[k] > 0] for part in ("made", "holdout"))
        expected = quick_look.kolmogorov_smirnov(made.ravel(), held.ravel())
        assert found.score[k] == pytest.approx(expected, abs=1e-12)


def test_draws_are_of_half_the_smallest_part_without_anybody_twice() -> None:
    draws = make_draws(Parts(12, 20, 9), seed=1)
    for weights, n in zip((draws.made, draws.train, draws.holdout), (12, 20, 9), strict=True):
        assert weights.shape == (N_DRAWS, n)
        assert set(np.unique(weights)) == {0.0, 1.0} and (weights.sum(axis=1) == 4).all()
    assert make_draws(Parts(1, 1, 1)).made.sum() == N_DRAWS


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([2, 2], [1, 1], 0.0), ([3, 1], [1, 3], 0.5), ([1, 0], [0, 5], 1.0), ([0, 0], [0, 5], 1.0), ([0, 0], [0, 0], 0.0)],
)
def test_variation_of_counts(one: list[float], other: list[float], expected: float) -> None:
    first, second = np.array([one], float), np.array([other], float)
    assert total_variation(first, second) == kolmogorov_smirnov(first, second) == expected


def test_transition_variation_weighs_rows_by_the_real_patients() -> None:
    real = np.array([[[8, 2], [0, 10]]], float)  # leaves the first code once in five
    assert transition_variation(real, real) == 0.0
    assert transition_variation(7 * real, real) == 0.0
    never = np.array([[[10, 0], [0, 10]]], float)
    assert transition_variation(never, real) == pytest.approx(0.5 * 0.2)
    absent = np.array([[[0, 0], [0, 10]]], float)  # the first code never occurs
    assert transition_variation(absent, real) == pytest.approx(0.5)


def test_correlation_from_moments_is_that_of_numpy() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 30, 5))
    y += x
    x[rng.random(x.shape) < 0.3] = np.nan
    both = ~np.isnan(x)
    moments = lag_moments(x, y).under(np.ones((1, 30)))
    assert correlation(moments)[0] == pytest.approx(np.corrcoef(x[both], y[both])[0, 1], abs=1e-12)
    constant = lag_moments(np.full((30, 5), 0.1), y).under(np.ones((1, 30)))
    assert np.isnan(correlation(constant)[0]) and np.isnan(correlation(np.zeros((1, 6)))[0])
    assert correlation_error(constant, moments).tolist() == [1.0]  # what does not vary is not what varies
    assert np.isnan(correlation_error(moments, constant)).all()


def test_cramers_v_is_that_of_scipy() -> None:
    rng = np.random.default_rng(4)
    for shape in ((2, 2), (3, 5), (6, 2)):
        table = rng.integers(1, 50, shape)
        expected = stats.contingency.association(table, method="cramer")
        assert cramers_v(table[None].astype(float))[0] == pytest.approx(expected, abs=1e-12)
    assert cramers_v(np.array([[[5.0, 0], [0, 7]]]))[0] == pytest.approx(1.0)
    assert np.isnan(cramers_v(np.array([[[5.0, 7], [0, 0]]]))).all()
    assert np.isnan(cramers_v(np.zeros((1, 2, 2)))).all()


def test_correlation_ratio_is_the_share_of_variance_between_codes() -> None:
    rng = np.random.default_rng(5)
    codes, x = rng.integers(0, 3, 400), rng.normal(size=400)
    x += codes
    sums = np.array([[(codes == k).sum(), x[codes == k].sum(), (x[codes == k] ** 2).sum()] for k in range(3)])
    means = np.array([x[codes == k].mean() for k in codes])
    assert correlation_ratio(sums[None])[0] == pytest.approx(np.sqrt(means.var() / x.var()), abs=1e-12)
    assert np.isnan(correlation_ratio(np.zeros((1, 3, 3)))).all()
    one_code = np.array([[sums.sum(axis=0), [0, 0, 0]]])
    assert np.isnan(correlation_ratio(one_code)).all()


def test_a_rate_of_nothing_is_never_right() -> None:
    nothing, never, quarter = (np.array([counts], float) for counts in ([0, 0], [0, 7], [1, 4]))
    assert rate_error(never, quarter) == 0.25 and rate_error(quarter, quarter) == 0.0
    assert rate_error(nothing, quarter) == rate_error(nothing, never) == 1.0
    assert np.isnan(rate_error(quarter, nothing)) and np.isnan(rate_error(nothing, nothing))
