"""Heads: whatever the network emits, x_0_hat is a patient inside the rules, and what was moved is counted."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hg3.diffusion.heads import HEADS, bounds_table, head_table, predict_x_0
from hg3.diffusion.schedule import cosine_schedule
from hg3.layout import Block
from tests import oracle

SCHEDULE = cosine_schedule(100)
TIMES = [0, 30, 70, 98, 99]
SPECIAL = [math.nan, math.inf, -math.inf, 1e4, -1e4, 65504.0, 1e-40, -0.0]
MIXED = (
    Block("bounded", "real", 0, 1, -0.9, 0.8),
    Block("four codes", "category", 1, 4),
    Block("free", "real", 5, 1),
    Block("from below", "real", 6, 1, low=-0.5),
    Block("two codes", "category", 7, 2),
)


def predict(
    x_t: torch.Tensor,
    raw: torch.Tensor,
    t: int,
    blocks: tuple[Block, ...],
    real_head: str,
    category_head: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    signal, noise = torch.tensor([SCHEDULE.signal[t], SCHEDULE.noise[t]], dtype=torch.float32)
    layout = head_table(blocks, real_head, category_head)
    return predict_x_0(x_t, raw, signal, noise, layout, bounds_table(blocks))


def predict_slowly(
    x_t: torch.Tensor,
    raw: torch.Tensor,
    t: int,
    blocks: tuple[Block, ...],
    real_head: str,
    category_head: str,
) -> tuple[np.ndarray, list[int], list[int]]:
    heads = {"real": real_head, "category": category_head}
    channels = [(heads[b.kind], b.start, b.width) for b in blocks for _ in range(b.width)]
    bounds = [(float(np.float32(b.low)), float(np.float32(b.high))) for b in blocks for _ in range(b.width)]
    arguments = (float(SCHEDULE.signal[t]), float(SCHEDULE.noise[t]), channels, bounds)
    return oracle.x_0_hat(x_t.double().numpy(), raw.double().numpy(), *arguments)


def noisy_pair(
    seed: int, n_channels: int = 9, n_patients: int = 4, length: int = 5
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_t, raw = torch.randn(2, n_patients, n_channels, length, generator=generator)
    return x_t, 2 * raw


def test_tables_describe_every_channel() -> None:
    heads = head_table(MIXED, "v", "logits")
    assert heads.shape == (9, 3) and heads.dtype == torch.int64
    assert [HEADS[h] for h in heads[:, 0]] == ["v"] + ["logits"] * 4 + ["v"] * 2 + ["logits"] * 2
    assert heads[:, 1].tolist() == [0, 1, 1, 1, 1, 5, 6, 7, 7]
    assert heads[:, 2].tolist() == [1, 4, 4, 4, 4, 1, 1, 2, 2]
    bounds = bounds_table(MIXED)
    assert bounds.shape == (9, 2) and bounds.dtype == torch.float32
    assert bounds[6].tolist() == [-0.5, math.inf]
    assert head_table((), "v", "logits").shape == (0, 3) and bounds_table(()).shape == (0, 2)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize(
    ("real_head", "category_head"),
    [("eps", "eps"), ("v", "v"), ("x_0", "x_0"), ("v", "logits"), ("eps", "logits"), ("x_0", "logits")],
)
def test_every_head_matches_the_oracle(t: int, real_head: str, category_head: str) -> None:
    x_t, raw = noisy_pair(seed=t)
    actual, moved, nonfinite = predict(x_t, raw, t, MIXED, real_head, category_head)
    expected, moved_slowly, nonfinite_slowly = predict_slowly(x_t, raw, t, MIXED, real_head, category_head)
    # A few roundings to float32 of numbers up to 8; an eps head divides their sum by the signal.
    amplified = 1 / float(SCHEDULE.signal[t]) if "eps" in (real_head, category_head) else 1.0
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5, atol=2e-6 * amplified)
    assert moved.tolist() == moved_slowly and sum(moved_slowly) > 0
    assert nonfinite.tolist() == nonfinite_slowly == [0] * 4


@pytest.mark.parametrize("head", ["eps", "v", "x_0"])
def test_heads_return_the_patient_when_the_network_is_right(head: str) -> None:
    t, block = 60, (Block("real", "real", 0, 1),)
    signal, noise = float(SCHEDULE.signal[t]), float(SCHEDULE.noise[t])
    x_0, eps = noisy_pair(seed=1, n_channels=1)
    right = {"eps": eps, "v": signal * eps - noise * x_0, "x_0": x_0}[head]
    x_0_hat, moved, _ = predict(signal * x_0 + noise * eps, right, t, block, head, "logits")
    torch.testing.assert_close(x_0_hat, x_0, rtol=1e-5, atol=1e-5)
    assert moved.sum() == 0


def test_infinite_bounds_never_move_anything() -> None:
    x_t, raw = noisy_pair(seed=2, n_channels=2)
    free = (Block("a", "real", 0, 1), Block("b", "real", 1, 1))
    x_0_hat, moved, _ = predict(1e3 * x_t, 1e3 * raw, 50, free, "v", "logits")
    assert x_0_hat.abs().max() > 100
    assert moved.tolist() == [0] * 4


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("real_head", ["eps", "v", "x_0"])
def test_what_is_not_finite_is_counted_and_replaced(bad: float, real_head: str) -> None:
    x_t, raw = noisy_pair(seed=3)
    for patient, channel in ((1, 0), (1, 2), (2, 5), (2, 8), (2, 6)):
        raw[patient, channel, 4] = bad
    x_0_hat, moved, nonfinite = predict(x_t, raw, 40, MIXED, real_head, "logits")
    expected, moved_slowly, _ = predict_slowly(x_t, raw, 40, MIXED, real_head, "logits")
    assert nonfinite.tolist() == [0, 2, 3, 0]
    assert moved.tolist() == moved_slowly
    assert x_0_hat[1, 0, 4].item() == pytest.approx((-0.9 + 0.8) / 2)  # the middle of the range
    assert x_0_hat[2, 5, 4].item() == x_0_hat[2, 6, 4].item() == 0.0  # a range without a middle
    assert x_0_hat[1, 1:5, 4].tolist() == [2 / 4 - 1] * 4  # the uniform distribution
    assert x_0_hat[2, 7:9, 4].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(x_0_hat.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_a_replacement_is_not_also_counted_as_moved() -> None:
    above, broken = (Block("above zero", "real", 0, 1, low=0.5),), torch.full((1, 1, 1), math.nan)
    x_0_hat, moved, nonfinite = predict(torch.zeros(1, 1, 1), broken, 40, above, "v", "logits")
    assert x_0_hat.item() == 0.5
    assert (moved.item(), nonfinite.item()) == (0, 1)


@pytest.mark.parametrize("size", [1e2, 1e4, 6e4])
def test_extreme_logits_stay_on_the_simplex(size: float) -> None:
    raw = size * torch.tensor([[1.0, -1, 0, -1], [-1, -1, -1, -1], [1, 1, -1, -1]])[..., None]
    block = (Block("codes", "category", 0, 4),)
    x_0_hat, _, nonfinite = predict(torch.zeros(3, 4, 1), raw, 40, block, "v", "logits")
    expected = [[1, -1, -1, -1], [-0.5] * 4, [0, 0, -1, -1]]
    assert x_0_hat[:, :, 0].tolist() == expected
    assert nonfinite.tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_before_anything_is_computed(dtype: torch.dtype) -> None:
    x_t, raw = noisy_pair(seed=4)
    half = predict(x_t, raw.to(dtype), 40, MIXED, "v", "logits")
    wide = predict(x_t, raw.to(dtype).float(), 40, MIXED, "v", "logits")
    for part, expected in zip(half, wide, strict=True):
        assert torch.equal(part, expected)
    assert half[0].dtype == torch.float32


@st.composite
def random_blocks(draw: st.DrawFn) -> tuple[Block, ...]:
    side = st.floats(-3, 3, width=32)
    blocks: list[Block] = []
    start = 0
    for i in range(draw(st.integers(1, 5))):
        width = draw(st.integers(1, 6))
        low, high = sorted((draw(side | st.just(-math.inf)), draw(side | st.just(math.inf))))
        if width == 1:
            blocks.append(Block(str(i), "real", start, 1, low, high))
        else:
            blocks.append(Block(str(i), "category", start, width))
        start += width
    return tuple(blocks)


@settings(max_examples=150)
@given(
    blocks=random_blocks(),
    t=st.integers(0, 99),
    real_head=st.sampled_from(["eps", "v", "x_0"]),
    seed=st.integers(0, 2**31),
    special=st.lists(st.sampled_from(SPECIAL), max_size=8),
)
def test_x_0_hat_never_leaves_the_rules(
    blocks: tuple[Block, ...], t: int, real_head: str, seed: int, special: list[float]
) -> None:
    n_channels = sum(b.width for b in blocks)
    x_t, raw = noisy_pair(seed, n_channels, n_patients=3, length=2)
    x_t, raw = 10 * x_t, 10 * raw
    places = torch.randint(raw.numel(), (len(special),), generator=torch.Generator().manual_seed(seed))
    raw.view(-1)[places] = torch.tensor(special)
    x_0_hat, moved, nonfinite = predict(x_t, raw, t, blocks, real_head, "logits")
    assert torch.isfinite(x_0_hat).all()
    assert nonfinite.tolist() == (~torch.isfinite(raw)).sum(dim=(1, 2)).tolist()
    n_real = sum(b.kind == "real" for b in blocks)
    assert ((moved >= 0) & (moved <= n_real * 2)).all()
    for block in blocks:
        part = x_0_hat[:, block.channels]
        if block.kind == "real":
            assert (part >= block.low).all() and (part <= block.high).all()
        else:
            assert (part >= -1).all() and (part <= 1).all()
            # six probabilities, each a quotient rounded once
            torch.testing.assert_close(((part + 1) / 2).sum(dim=1), torch.ones(3, 2), rtol=0, atol=1e-6)
