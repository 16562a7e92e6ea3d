"""Curves: increasing, normal in the end, ends that are no patient's, middle ranks, nothing steep in a gap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hg3.table.curve import EXTREME_PATIENTS, STEEPEST, Curve, extremes, fit_curve
from tests import oracle


def curve_of(values: np.ndarray, patient: np.ndarray | None = None) -> Curve:
    """Fit a curve, on values of a patient each unless `patient` says else."""
    curve = fit_curve(values, np.arange(len(values)) if patient is None else patient)
    assert curve is not None
    return curve


SHAPES = {
    "skewed": lambda rng: rng.lognormal(3, 2, 20_000),
    "two hills": lambda rng: np.concatenate([rng.normal(-5, 1, 10_000), rng.normal(5, 3, 10_000)]),
    "an edge": lambda rng: np.minimum(rng.random(20_000) ** 0.1, 1 - 1e-3 * rng.random(20_000)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape_becomes_normal(shape: str) -> None:
    values = SHAPES[shape](np.random.default_rng(3))
    z = curve_of(values).forward(values)
    assert abs(z.mean()) < 0.02 and abs(z.std() - 1) < 0.03
    for score in (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0):
        reached = oracle.normal_score(score, z.tolist())
        assert reached == pytest.approx(score, abs=0.12), score


@given(
    arrays(np.float64, 60, elements=st.floats(-1e6, 1e6, width=32) | st.sampled_from((0.0, 1.0, 2.0))),
    st.integers(1, 60),
    st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=9),
)
def test_a_curve_is_increasing_and_its_inverse_exact(values: np.ndarray, n_patients: int, others: list[float]) -> None:
    curve = fit_curve(values, np.arange(60) % n_patients)
    if curve is None:
        return
    knots, scores = np.array(curve.knots), np.array(curve.scores)
    assert np.isfinite([knots, scores]).all() and (np.diff(knots) > 0).all() and (np.diff(scores) > 0).all()
    wide = np.sort([*others, *values])
    y = curve.forward(wide)
    assert np.isfinite(y).all() and (np.diff(y) >= -1e-12 * np.abs(y).max()).all()
    np.testing.assert_allclose(curve.inverse(y), wide, rtol=1e-7, atol=1e-7 * max(1.0, float(np.ptp(wide))))


def test_the_ends_are_means_over_ten_patients_and_no_knot_lies_between_those() -> None:
    patient = np.repeat(np.arange(100), 50)
    values = np.random.default_rng(0).normal(0, 1, 5000)
    values[777] = 654.321
    curve = curve_of(values, patient)
    lowest, highest = np.sort(values.reshape(100, 50).min(axis=1)), np.sort(values.reshape(100, 50).max(axis=1))
    assert curve.knots[0] == pytest.approx(lowest[:EXTREME_PATIENTS].mean())
    assert curve.knots[-1] == pytest.approx(highest[-EXTREME_PATIENTS:].mean())
    assert lowest[EXTREME_PATIENTS - 1] <= min(curve.knots[1:]) and max(curve.knots[:-1]) <= highest[-EXTREME_PATIENTS]
    assert curve.forward(np.array([654.321]))[0] < 100.0  # the one far value has a score that training can bear


def test_extremes_are_of_those_patients_who_have_values() -> None:
    lowest, highest = extremes(np.array([5.0, 1.0, 9.0, 2.0]), np.array([7, 3, 3, 7]))
    assert lowest.tolist() == [1.0, 2.0] and highest.tolist() == [5.0, 9.0]


def test_a_detection_limit_has_the_score_of_its_middle_rank() -> None:
    rng = np.random.default_rng(1)
    values = np.maximum(rng.lognormal(3, 1, 4000), 20.0)
    curve = curve_of(values)
    limit = oracle.normal_score(20.0, values.tolist())
    assert curve.knots[0] == 20.0 and curve.scores[0] == pytest.approx(limit)
    above = float(np.quantile(values, 0.8))
    assert curve.forward(np.array([above]))[0] == pytest.approx(oracle.normal_score(above, values.tolist()), abs=0.02)


def test_ends_of_equal_values_are_those_to_the_last_bit() -> None:
    values = np.repeat([0.1, 0.7, 1.1], [30, 40, 30])
    curve = curve_of(values)
    assert curve.knots == (0.1, 0.7, 1.1)
    expected = [oracle.normal_score(value, values.tolist()) for value in curve.knots]
    assert curve.scores == pytest.approx(expected, abs=1e-12)


def test_the_tails_are_resolved() -> None:
    values = np.exp(np.random.default_rng(2).normal(0, 1, 100_000))
    curve, ordered = curve_of(values), np.sort(values)
    for rank in (12, 30, 100, 99_900, 99_970, 99_988):
        wanted = oracle.normal_score(float(ordered[rank]), values.tolist())
        assert curve.forward(ordered[[rank]])[0] == pytest.approx(wanted, abs=0.05)


def test_no_piece_is_steeper_than_float32_bears() -> None:
    rng = np.random.default_rng(3)
    curve = curve_of(np.concatenate([rng.normal(-50, 0.1, 2000), rng.normal(50, 0.1, 2000)]))
    knots, scores = np.array(curve.knots), np.array(curve.scores)
    slopes = np.diff(knots) / np.diff(scores)
    assert slopes.max() <= 1.001 * STEEPEST * np.ptp(knots) / np.diff(scores).sum() * (1 + 1 / STEEPEST)


@pytest.mark.parametrize("values", [[1.0] * 30, [0.0] * 25 + [1.0] * 5, [1.0, 2.0]])
def test_where_few_patients_differ_there_is_no_curve_or_a_line(values: list[float]) -> None:
    curve = fit_curve(np.array(values), np.arange(len(values)))
    assert curve is None or len(curve.knots) == 2
