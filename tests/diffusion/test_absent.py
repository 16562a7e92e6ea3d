"""Cells without a value: what stands there has the column's own distribution at every t, and asks for Bayes' answer."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hg3.diffusion.absent import fill_absent
from hg3.diffusion.process import q_sample, v_target
from hg3.layout import Block
from tests import oracle

BLOCKS = (
    Block("real", "real", 0, 1),
    Block("code", "category", 1, 3),
    Block("other", "real", 4, 1),
    Block("sure", "category", 5, 3),
)
SIGNAL_NOISE = ((0.999, 0.0447), (0.8, 0.6), (0.1, 0.995), (0.0, 1.0))


def codes(index: Tensor) -> Tensor:
    """Return one-hot channels in {-1, 1}, (B, 3, L), of codes (B, L)."""
    return 2.0 * torch.nn.functional.one_hot(index, 3).permute(0, 2, 1) - 1.0


def cells(n_patients: int, share: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x_0, eps, observed, uniform for BLOCKS and 4 times; code 0 is in half of the cells, code 2 in none."""
    generator = torch.Generator().manual_seed(seed)
    x_0, eps = torch.randn(2, n_patients, 8, 4, generator=generator)
    x_0[:, 1:4] = codes((torch.rand(n_patients, 4, generator=generator) < 0.5).long())
    x_0[:, 5:8] = codes(torch.randint(3, (n_patients, 4), generator=generator))
    observed, uniform = torch.rand(2, n_patients, 4, 4, generator=generator)
    return x_0, eps, (observed < share) | torch.tensor([False, False, False, True])[:, None], uniform


def at(signal: float, noise: float, n_patients: int) -> tuple[Tensor, Tensor]:
    return torch.full((n_patients, 1, 1), signal), torch.full((n_patients, 1, 1), noise)


@pytest.mark.parametrize(("signal", "noise"), SIGNAL_NOISE)
def test_cells_with_a_value_stay_as_they_are(signal: float, noise: float) -> None:
    x_0, eps, observed, uniform = cells(20, 0.5)
    kept = x_0.clone(), eps.clone()
    filled = fill_absent(x_0, eps, observed, uniform, BLOCKS, *at(signal, noise, 20))
    channel = observed[:, [0, 1, 1, 1, 2, 3, 3, 3]]
    for before, after, argument in zip(kept, filled, (x_0, eps), strict=True):
        assert torch.equal(before[channel], after[channel])
        assert torch.equal(argument, before)


@pytest.mark.parametrize(("signal", "noise"), SIGNAL_NOISE)
def test_a_real_without_a_value_is_noise_whose_v_is_nought(signal: float, noise: float) -> None:
    x_0, eps, observed, uniform = cells(20, 0.0)
    at_t = at(signal, noise, 20)
    pair = fill_absent(x_0, eps, observed, uniform, BLOCKS, *at_t)
    # signal and noise as given have four digits: their squares sum to 1 within 1e-3
    torch.testing.assert_close(q_sample(*pair, *at_t)[:, 4], eps[:, 4], rtol=2e-3, atol=0)
    torch.testing.assert_close(v_target(*pair, *at_t)[:, 4], torch.zeros(20, 4), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("signal", "noise"), SIGNAL_NOISE)
def test_a_category_without_a_value_is_a_drawn_code_and_asks_for_its_posterior(signal: float, noise: float) -> None:
    x_0, eps, observed, uniform = cells(40, 0.5)
    at_t = at(signal, noise, 40)
    filled_x_0, filled_eps = fill_absent(x_0, eps, observed, uniform, BLOCKS, *at_t)
    counts = [1 + (x_0[:, 1 + k][observed[:, 1]] > 0).sum().item() for k in range(3)]
    share = [count / sum(counts) for count in counts]
    x_t = q_sample(filled_x_0, filled_eps, *at_t)[:, 1:4]
    for b, time in np.argwhere(~observed[:, 1].numpy()):
        drawn = int(np.searchsorted(np.cumsum(share), float(uniform[b, 1, time]), side="right"))
        expected = oracle.x_t(codes(torch.tensor([[drawn]])).numpy()[0, :, 0], eps[b, 1:4, time].numpy(), signal**2)
        np.testing.assert_allclose(x_t[b, :, time], expected, atol=2e-2)  # the digits of signal and noise
        seen = x_t[b, :, time].double().tolist()
        log = [
            math.log(share[k]) - sum((seen[c] - signal * (1 if c == k else -1)) ** 2 for c in range(3)) / 2 / noise**2
            for k in range(3)
        ]
        posterior = 2 * np.array(oracle.softmax(log)) - 1
        np.testing.assert_allclose(filled_x_0[b, 1:4, time], posterior, atol=1e-3)


def test_x_t_is_distributed_alike_with_and_without_a_value() -> None:
    x_0, eps, observed, uniform = cells(20_000, 0.5)
    at_t = at(0.8, 0.6, 20_000)
    x_t = q_sample(*fill_absent(x_0, eps, observed, uniform, BLOCKS, *at_t), *at_t)
    for block, channel in ((0, 0), (1, 1), (1, 2), (1, 3), (2, 4)):
        there = observed[:, block]
        with_value, without = x_t[:, channel][there], x_t[:, channel][~there]
        # 40,000 cells each, sd 1: five standard errors of the difference of two means, and of two variances
        assert abs(with_value.mean() - without.mean()) < 5 * math.sqrt(2 / 40_000)
        assert abs(with_value.var() - without.var()) < 5 * math.sqrt(4 / 40_000)


def test_a_column_that_no_patient_of_the_batch_has_is_uniform() -> None:
    x_0, eps, observed, uniform = cells(2_000, 0.0)
    filled, _ = fill_absent(x_0, eps, observed, uniform, BLOCKS, *at(0.0, 1.0, 2_000))
    torch.testing.assert_close(filled[:, 1:4], torch.full((2_000, 3, 4), -1 / 3))


def test_no_blocks() -> None:
    nothing = torch.zeros(4, 0, 1)
    filled = fill_absent(nothing, nothing, nothing.bool(), nothing, (), *at(0.8, 0.6, 4))
    assert [x.shape for x in filled] == [(4, 0, 1)] * 2
