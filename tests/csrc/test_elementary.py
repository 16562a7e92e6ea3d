"""log, sin, cos and exp of csrc/elementary.h: their errors over all inputs, and where they are exact."""

import math

import pytest

from tests.csrc.programs import Compiled, output_of

Figures = dict[str, list[float]]
EXP_OF_MINUS_86 = math.exp(-86)  # the smallest that exp_of_negative returns


def number(text: str) -> float:
    return float.fromhex(text) if "0x" in text else float(text)


@pytest.fixture(scope="module")
def figures(compiled: Compiled) -> Figures:
    lines = (line.split() for line in output_of(compiled("elementary")).decode().splitlines())
    return {name: [number(value) for value in values] for name, *values in lines}


@pytest.mark.parametrize(
    ("function", "limit"),
    [  # rounded up from what was measured: over all 2^24 inputs, for exp over 11 million from -86 to 0
        ("log", 1.4),
        ("sin", 1.7),
        ("cos", 1.7),
        ("exp", 1.1),
    ],
)
def test_errors_in_units_of_the_last_place(figures: Figures, function: str, limit: float) -> None:
    (error,) = figures[function]
    assert 0.5 <= error < limit  # no float is nearer than half a unit everywhere: less was not measured


def test_what_has_to_be_exact_is(figures: Figures) -> None:
    assert figures["log_of_one"] == [0.0]  # u = 1: a normal of 0, not the root of something negative
    assert figures["exp_of_zero"] == [1.0]  # of the largest logit
    assert [figures[f"quarter_{k}"] for k in (1, 2, 3, 4)] == [[1, 0], [0, -1], [-1, 0], [0, 1]]


def test_exp_stays_above_zero_and_normal(figures: Figures) -> None:
    assert figures["exp_far_below"] == pytest.approx([EXP_OF_MINUS_86] * 2, rel=2**-22)
