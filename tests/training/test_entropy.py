"""Numbers of the operating system: of the right distribution, and never the same twice."""

import math
import os

import numpy as np
import pytest
import torch
from scipy import stats

from hg3.training import entropy

N = 40_000


@pytest.mark.parametrize(
    ("draw", "distribution"), [(entropy.uniform, "uniform"), (entropy.normal, "norm"), (entropy.noise, "norm")]
)
def test_numbers_are_of_their_distribution(draw: type, distribution: str) -> None:
    found = np.asarray(draw(N // 4, 4))
    assert found.shape == (N // 4, 4) and found.dtype == np.float64
    assert stats.kstest(found.ravel(), distribution).pvalue > 1e-6  # of the operating system: no seed to choose
    neighbours = np.corrcoef(found.ravel()[:-1], found.ravel()[1:])[0, 1]
    assert abs(neighbours) < 6 / math.sqrt(N)


@pytest.mark.parametrize("draw", [entropy.uniform, entropy.normal, entropy.noise])
def test_no_seed_makes_them_again(draw: type) -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        made.append(draw(8))
    assert not (made[0] == made[1]).any()


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_nothing_is_drawn_for_nobody(shape: tuple[int, ...]) -> None:
    assert entropy.uniform(*shape).shape == entropy.normal(*shape).shape == entropy.noise(*shape).shape == shape


def test_numbers_come_from_the_operating_system_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda count: b"\xff" * count)
    assert entropy.uniform(3).tolist() == [1 - 2**-53] * 3
    largest = entropy.normal(2)  # 1 - u is 2^-53, the least that it can be
    assert largest.tolist() == pytest.approx([math.sqrt(2 * 53 * math.log(2))] * 2)
    assert entropy.noise(2).tolist() == pytest.approx([2 * float(largest[0])] * 2)
