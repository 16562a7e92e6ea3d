"""Transforms: increasing, exact on the way back, finite everywhere, and fitted sensibly."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hg3.errors import SchemaError
from hg3.table.curve import Curve
from hg3.table.transforms import BOX_COX_SHIFT, LAMBDA_LIMIT, Transform, fit_transform
from tests import oracle

KINDS = ("box-cox", "yeo-johnson", "log1p", "none")
SIGNED = ("yeo-johnson", "none")


def shapes(rng: np.random.Generator, n: int = 400) -> dict[str, np.ndarray]:
    """Return values of many shapes, none negative."""
    return {
        "skewed": rng.lognormal(3, 1, n),
        "very skewed": rng.lognormal(0, 6, n),
        "even": rng.uniform(0, 100, n),
        "one other": np.append(np.zeros(n - 1), 1.0),
        "one far other": np.append(np.full(n - 1, 5.0), 1e6),
        "two": np.array([1.0, 2.0]),
        "mostly zero": np.where(rng.random(n) < 0.95, 0.0, rng.lognormal(3, 2, n)),
        "small": rng.lognormal(0, 1, n) * 1e-12,
        "large": rng.lognormal(0, 1, n) * 1e12,
        "close": 1e6 + rng.uniform(0, 1e-3, n),
    }


SHAPES = tuple(shapes(np.random.default_rng(0)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fitted_transform_is_increasing_and_finite(kind: str, shape: str) -> None:
    values = shapes(np.random.default_rng(1))[shape]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = fit_transform(values, kind, "x")
        y = fitted.forward(np.sort(values))
        ends = fitted.inverse(np.array([-1e30, -1e6, -30.0, 30.0, 1e6, 1e30]))
    assert fitted.kind == kind and abs(fitted.lmbda) <= LAMBDA_LIMIT
    assert np.isfinite(y).all() and (np.diff(y) >= 0).all()
    assert np.isfinite(ends).all() and (np.diff(ends) >= 0).all()
    assert Transform.from_dict(fitted.to_dict()) == fitted


@given(
    st.sampled_from(KINDS),
    st.floats(-0.5, 1.5),
    arrays(np.float64, 20, elements=st.floats(1e-3, 1e3), unique=True),
    st.booleans(),
)
def test_the_inverse_is_exact(kind: str, lmbda: float, values: np.ndarray, signed: bool) -> None:
    values = np.sort(np.where(np.arange(20) % 2, -values, values) if signed and kind in SIGNED else values)
    power = kind in ("box-cox", "yeo-johnson")
    one = Transform(kind, lmbda) if power else fit_transform(values, kind, "x")
    y = one.forward(values)
    assert (np.diff(y) >= 0).all()
    np.testing.assert_allclose(one.inverse(y), values, rtol=1e-9, atol=1e-9 * BOX_COX_SHIFT if power else 1e-12)


@given(st.floats(-2, 2), st.floats(-1e300, 1e300))
def test_no_pole_gives_an_infinity(lmbda: float, y: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("box-cox", "yeo-johnson", "log1p"):
            assert np.isfinite(Transform(kind, lmbda).inverse(np.array([y]))).all()


@given(st.floats(-2, 2), st.floats(-1e6, 1e6))
def test_what_takes_no_negative_value_gives_none(lmbda: float, y: float) -> None:
    for kind in ("box-cox", "log1p"):
        assert Transform(kind, lmbda).inverse(np.array([y]))[0] >= 0


def test_box_cox_is_its_formula() -> None:
    x = np.array([0.0, 1.0, 50.0])
    for lmbda in (-0.5, 0.3, 2.0):
        np.testing.assert_allclose(Transform("box-cox", lmbda).forward(x), ((x + 1e-3) ** lmbda - 1) / lmbda)
    np.testing.assert_allclose(Transform("box-cox", 0.0).forward(x), np.log(x + 1e-3))


@pytest.mark.parametrize(
    ("draw", "kinds"),
    [
        (lambda rng: rng.normal(100, 5, 3000), {"none"}),
        (lambda rng: np.expm1(rng.normal(5, 1, 3000)).clip(0), {"log1p"}),
        (lambda rng: rng.lognormal(-3, 1, 3000), {"box-cox"}),
        (lambda rng: rng.normal(4, 1, 3000).clip(0) ** 4, {"box-cox"}),
        (lambda rng: rng.lognormal(1, 1, 3000) - 3, {"yeo-johnson"}),
    ],
)
def test_the_simplest_transform_that_suits_is_chosen(
    draw: Callable[[np.random.Generator], np.ndarray], kinds: set[str]
) -> None:
    values = draw(np.random.default_rng(2))
    chosen = fit_transform(values, None, "x")
    assert chosen.kind in kinds
    assert np.abs(_skewness(chosen.forward(values))) < 0.3


def _skewness(y: np.ndarray) -> float:
    return float((((y - y.mean()) / y.std()) ** 3).mean())


def test_no_logarithm_is_chosen_where_others_may_be_negative() -> None:
    values = np.random.default_rng(0).lognormal(0, 1, 500)
    assert fit_transform(values, None, "x").kind in ("log1p", "box-cox")
    assert fit_transform(values, None, "x", may_be_negative=True).kind in ("none", "yeo-johnson")


@pytest.mark.parametrize("kind", KINDS)
def test_a_curve_stands_behind_any_transform(kind: str) -> None:
    values = np.sort(np.random.default_rng(3).lognormal(1, 1, 500))
    plain = Transform(kind, 0.3)
    curved = replace(plain, curve=Curve((0.5, 2.0, 2.5), (-1.0, 0.0, 1.0)))
    expected = [oracle.on_line(float(y), (0.5, 2.0, 2.5), (-1.0, 0.0, 1.0)) for y in plain.forward(values)]
    assert curved.forward(values).tolist() == pytest.approx(expected)
    np.testing.assert_allclose(curved.inverse(curved.forward(values)), values, rtol=1e-9)
    assert Transform.from_dict(json.loads(json.dumps(curved.to_dict()))) == curved


def test_a_quantile_transform_of_an_earlier_hg3_is_a_curve_alone() -> None:
    content = {"kind": "quantile", "lmbda": 1.0, "knots": [0.0, 1.0], "scores": [-1.0, 2.0]}
    assert Transform.from_dict(content) == Transform("none", curve=Curve((0.0, 1.0), (-1.0, 2.0)))


@pytest.mark.parametrize("kind", ["box-cox", "log1p"])
def test_negative_values_are_refused_without_telling_them(kind: str) -> None:
    sentence = f"column 'x' has negative values, which {kind} cannot take; choose yeo-johnson"
    with pytest.raises(SchemaError, match=sentence) as caught:
        fit_transform(np.array([-987654.321, 1.0]), kind, "x")
    assert "987654" not in str(caught.value)
