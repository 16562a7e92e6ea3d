"""Codecs: rounding inward, exact decimals, bounds that repeat no real extreme, category tables."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hg3.errors import SchemaError, TableError
from hg3.table.codecs import (
    RELATIVE_TOLERANCE,
    RealCodec,
    constant_of,
    fit_categories,
    fit_real,
    round_inward,
    sampling_bounds,
)
from hg3.table.column import Column
from hg3.table.transforms import Transform
from tests import oracle

INFINITE = (-math.inf, math.inf)


def real(**fields: Any) -> Column:
    return Column(name="x", kind="real", **fields)


def codec_of(values: np.ndarray, column: Column, scaling: str = "standard") -> RealCodec:
    """Fit a codec on values of a patient each."""
    codec, _ = fit_real(values, np.arange(len(values)), column, scaling)
    assert codec is not None
    return codec


@given(
    st.floats(-1e6, 1e6),
    st.integers(0, 6),
    st.floats(-1e5, 0),
    st.floats(2, 1e5),
    st.sampled_from((1, 0.5, 2)),
)
def test_rounding_stays_inside_the_bounds(value: float, decimals: int, low: float, high: float, share: float) -> None:
    rounded = round_inward(np.array([value * share, low, high]), decimals, (low, high))
    assert ((rounded >= low) & (rounded <= high)).all()
    assert (rounded == np.round(rounded, decimals)).all()
    inside = np.array([np.clip(value, low + 1, high - 1)])
    assert np.abs(round_inward(inside, decimals, (low, high)) - inside) <= 0.5 * 10.0**-decimals * (1 + 1e-9)


def test_rounding_at_a_bound_goes_inward() -> None:
    cells = np.array([0.25, 0.26, 0.94, 0.95])
    assert round_inward(cells, 1, (0.25, 0.95)).tolist() == [0.3, 0.3, 0.9, 0.9]
    assert round_inward(np.array([-0.04, -0.0]), 1, INFINITE).tolist() == [0.0, 0.0]
    assert not np.signbit(round_inward(np.array([-0.04, -0.0]), 1, (0.0, 1.0))).any()


@pytest.mark.parametrize("transform", [None, "box-cox", "yeo-johnson", "log1p", "quantile", "none"])
@pytest.mark.parametrize("decimals", [0, 2, 6])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e7])
@pytest.mark.parametrize("scaling", ["standard", "normal"])
def test_values_inside_the_bounds_come_back(transform: Any, decimals: int, scale: float, scaling: str) -> None:
    rng = np.random.default_rng(0)
    values = np.round(scale * rng.lognormal(0, 1, 500), decimals).clip(0, 30 * scale)
    codec = codec_of(values, real(transform=transform, decimals=decimals, bounds=(0.0, 30 * scale)), scaling)
    others = np.round(scale * rng.lognormal(0, 1, 2000), decimals).clip(0, 30 * scale)
    back = codec.decode(codec.encode(others))
    assert codec.encode(others).dtype == np.float32
    allowed = np.maximum(0.5 * 10.0**-codec.decimals * (1 + 1e-9), RELATIVE_TOLERANCE * others)
    assert (np.abs(back - others) <= allowed).all()


def test_decimals_are_those_of_the_training_values() -> None:
    rng = np.random.default_rng(0)
    for decimals in (0, 1, 3):
        assert codec_of(np.round(rng.normal(10, 3, 300), decimals), real()).decimals == decimals
    assert codec_of(np.array([0.1 + 0.2, 0.5, 0.7]), real()).decimals == 1
    assert codec_of(np.array([3e-9, 2e-9, 7e-9]), real()).decimals == 9


def test_decimals_that_float32_cannot_hold_are_cut_with_a_warning() -> None:
    values = np.array([-10.0, 0.01, 55.5, 9876543.21])
    codec, warning = fit_real(values, np.arange(4), real(decimals=9, transform="none"))
    assert codec is not None and codec.decimals <= 0
    assert warning is not None and "column 'x' has values of 9 decimals and its range allows" in warning
    assert "98765" not in warning
    back = codec.decode(codec.encode(values))
    assert np.abs(back - values).max() <= max(0.5 * 10.0**-codec.decimals, 20.0)


def test_a_transform_too_steep_for_float32_is_made_milder() -> None:
    values = np.append(np.full(999, 5.0), 1e6)
    codec = codec_of(values, real(transform="box-cox", decimals=0))
    assert codec.transform.kind == "box-cox" and codec.transform.lmbda > -2.0
    np.testing.assert_allclose(codec.decode(codec.encode(values)), values, rtol=RELATIVE_TOLERANCE)


def test_a_column_without_a_step_is_constant() -> None:
    assert fit_real(np.array([2.0, 2.0]), np.arange(2), real()) == (None, None)
    codec, warning = fit_real(np.array([2.01, 2.02]), np.arange(2), real(decimals=1))
    assert codec is None and warning is not None and "varies by less than its 1 decimals show" in warning


@pytest.mark.parametrize("values", [[2e-11, 3e-10], [2e-11, 2e-11]])
def test_bounds_that_the_learned_decimals_cannot_resolve_are_refused(values: list[float]) -> None:
    column = real(bounds=(1e-12, 4e-10))
    for fit in (lambda: fit_real(np.array(values), np.arange(2), column), lambda: constant_of(values[0], column)):
        with pytest.raises(
            SchemaError, match=r"'x' has bounds with no number of 9 decimals between them.* smaller unit"
        ):
            fit()


def test_a_quantile_transform_without_scores_is_told() -> None:
    codec, warning = fit_real(np.arange(10.0), np.arange(10), real(transform="quantile", decimals=0), "standard")
    assert codec is not None and codec.transform.curve is None
    assert warning is not None and warning.startswith("column 'x' gets no normal scores: too few patients differ")


def test_a_quantile_transform_that_tells_nothing_apart_is_refused() -> None:
    values = np.concatenate([np.full(200_000, 1.0), np.linspace(2, 1e9, 40), np.full(200_000, 2e9)])
    try:
        codec = codec_of(values, real(transform="quantile", decimals=0))
    except SchemaError as error:
        assert "its transform quantile cannot tell apart in float32; choose another" in str(error)
    else:
        assert np.abs(codec.decode(codec.encode(values)) - values).max() <= 0.5 * 10.0**-codec.decimals


@given(st.floats(-(2.0**100), 2.0**100, width=32), st.sampled_from((-2.0, -0.3, 0.0, 1.0, 2.0)))
def test_decoding_is_finite_and_inside_the_bounds(x: float, lmbda: float) -> None:
    for kind in ("box-cox", "yeo-johnson", "log1p", "none"):
        for bounds in (INFINITE, (0.25, math.inf), (-math.inf, 0.95), (0.25, 0.95)):
            codec = RealCodec(Transform(kind, lmbda), 1.0, 0.5, 1, bounds)
            value = codec.decode(np.array([x], np.float32))
            assert np.isfinite(value).all() and bounds[0] <= value[0] <= bounds[1]


def test_a_codec_comes_back_from_json() -> None:
    for bounds in (INFINITE, (0.0, math.inf), (0.0, 9.0)):
        codec = codec_of(np.array([1.0, 2.5, 7.0]), real(bounds=bounds))
        assert RealCodec.from_dict(json.loads(json.dumps(codec.to_dict(), allow_nan=False))) == codec


def test_sampling_bounds_are_means_over_ten_extreme_patients() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(40), 25)
    values = np.round(rng.normal(50, 10, 1000), 3)
    values[7] = 987.654
    codec = codec_of(values, real())
    x = codec.encode(values).astype(np.float64).reshape(40, 25)
    low, high = sampling_bounds(codec, values, patient)
    assert low == pytest.approx(np.sort(x.min(axis=1))[:10].mean())
    assert high == pytest.approx(np.sort(x.max(axis=1))[-10:].mean())
    assert high < x.max() and low > x.min()
    shuffled = rng.permutation(1000)
    assert sampling_bounds(codec, values[shuffled], patient[shuffled]) == pytest.approx((low, high))


def test_clinical_bounds_are_the_sampling_bounds() -> None:
    values, patient = np.arange(1.0, 101.0), np.arange(100)
    both = codec_of(values, real(bounds=(0.0, 500.0)))
    assert sampling_bounds(both, values, patient) == tuple(both.encode(np.array([0.0, 500.0])))
    below = codec_of(values, real(bounds=(0.0, math.inf)))
    low, high = sampling_bounds(below, values, patient)
    assert low == below.encode(np.array([0.0]))[0]
    assert high == pytest.approx(below.encode(values[-10:]).astype(np.float64).mean())


def sharp_edge(n: int = 20_000) -> np.ndarray:
    """Return values like viral loads: nearly logarithmic, of six decimals, none above an edge where many lie."""
    rng = np.random.default_rng(5)
    return np.round(np.where(rng.random(n) < 0.6, rng.lognormal(3, 1, n), 1e5 * (1 - 0.2 * rng.random(n) ** 2)), 6)


def test_normal_scores_keep_the_decimals_and_end_at_the_edge() -> None:
    values, patient = sharp_edge(), np.repeat(np.arange(400), 50)
    column = real(transform="box-cox", decimals=6, bounds=(0.0, 1e7))
    codec, warning = fit_real(values, patient, column, "normal")
    assert codec is not None and warning is None
    assert codec.decimals == 6 and codec.transform.curve is not None
    x = codec.encode(values).astype(np.float64)
    assert abs(x.mean()) < 1e-3 and abs(x.std() - 1) < 1e-3 and abs((x**4).mean() - 3) < 0.25
    probe = np.concatenate([values, np.geomspace(1e-6, 1e7, 5000)])
    allowed = np.maximum(0.5e-6 * (1 + 1e-6), RELATIVE_TOLERANCE * probe)
    assert (np.abs(codec.decode(codec.encode(probe)) - np.round(probe, 6)) <= allowed).all()
    ends = np.array(sampling_bounds(codec, values, patient, "normal"))
    low, high = codec.decode(ends.astype(np.float32))
    assert values.min() < low < np.quantile(values, 0.01) and np.quantile(values, 0.999) < high < values.max()
    assert (np.abs(ends) > 3).all()  # where a normal tail has next to nothing left to hold back


def test_a_few_values_come_back_and_have_the_scores_of_their_middle_ranks() -> None:
    values = np.repeat([3.0, 4.0, 7.0, 15.0], [3, 40, 200, 157])
    codec = codec_of(values, real(decimals=0, bounds=(3.0, 15.0)), "normal")
    every = np.arange(3.0, 16.0)
    assert codec.decode(codec.encode(every)).tolist() == every.tolist()
    x = codec.encode(np.array([4.0, 7.0, 15.0])).astype(np.float64) * codec.scale + codec.center
    assert x.tolist() == pytest.approx([oracle.normal_score(v, values.tolist()) for v in (4.0, 7.0, 15.0)], abs=0.01)
    low, high = codec.decode(np.array(sampling_bounds(codec, values, np.arange(400), "normal"), np.float32))
    assert (low, high) == (4.0, 15.0)  # three patients have the lowest, and a release will not


def test_a_curve_that_float32_cannot_hold_is_left_out() -> None:
    values = np.round(np.append(np.random.default_rng(0).normal(5, 1, 1000), np.full(30, 1e6)), 2)
    column, patient = real(transform="none", decimals=2), np.arange(1030)
    codec, warning = fit_real(values, patient, column, "normal")
    assert codec == codec_of(values, column) and codec.transform.curve is None
    assert warning is not None and warning.startswith("column 'x' gets no normal scores: too few patients differ")
    assert sampling_bounds(codec, values, patient, "normal")[1] == codec.encode(np.array([1e6]))[0]


def test_a_quantile_transform_is_normal_scores_of_the_plain_values() -> None:
    values = np.round(np.random.default_rng(1).gamma(2, 30, 3000), 2)
    one = codec_of(values, real(transform="quantile", bounds=(0.0, 1e4)))
    assert one == codec_of(values, real(transform="none", bounds=(0.0, 1e4)), "normal")
    assert one.transform.kind == "none" and one.transform.curve is not None
    assert sampling_bounds(one, values, np.arange(3000))[1] == one.encode(np.array([1e4]))[0]


def category(**fields: Any) -> Column:
    return Column(name="c", kind="categorical", **fields)


def test_a_learned_category_table_drops_rare_codes() -> None:
    index = np.repeat([0, 1, 2], [10, 9, 30])
    patient = np.concatenate([np.arange(10), np.arange(9), np.zeros(30, int)])
    codes = ("ten carry it", "nine do", "one often")
    assert fit_categories(index, patient, codes, category(missing="modelled")) == ("ten carry it",)
    assert fit_categories(index, patient, codes, category(categories=codes)) == codes
    sentence = "column 'c' lists no categories and 2 of its 3 codes are carried by fewer than 10 training patients"
    with pytest.raises(TableError, match=sentence) as caught:
        fit_categories(index, patient, codes, category())
    assert "nine do" not in str(caught.value)


def test_missing_cells_carry_no_code() -> None:
    index, patient = np.array([-1] * 50 + [1] * 12), np.arange(62)
    assert fit_categories(index, patient, ("a", "b"), category(missing="modelled")) == ("b",)
    with pytest.raises(TableError, match="2 of its 2 codes"):
        fit_categories(np.full(50, -1), np.arange(50), ("a", "b"), category(missing="modelled"))
