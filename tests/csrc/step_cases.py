"""Calls of the reverse step that go through every branch of its CUDA kernel; tensors of the host."""

import math
from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor

from hg3.diffusion.heads import EPS, LOGITS, X_0, V
from hg3.philox import Stream, stream_word

Arguments = tuple[Tensor, ...]
Block = tuple[int, int]  # head and width
# Rows of a sampler's table by whether they have noise and history: signal_t, noise_t, a, b0, b1, step_std, history.
ROWS = torch.tensor(
    [
        [0.6, 0.8, 0.5, 0.4, -0.3, 0.0, 0.0],
        [0.6, 0.8, 0.5, 0.4, -0.3, 0.7, 0.0],
        [0.6, 0.8, 0.5, 0.4, -0.3, 0.0, 1.0],
        [0.6, 0.8, 0.5, 0.4, -0.3, 0.7, 1.0],
    ]
)
HISTORY_ALONE, NOISE_AND_HISTORY = 2, 3
MIXED: list[Block] = [(V, 1), (LOGITS, 3), (EPS, 1), (X_0, 1), (V, 1), (LOGITS, 2)]
COHORT: list[Block] = [*[(V, 1)] * 4, (LOGITS, 6), (LOGITS, 4), (LOGITS, 4), (LOGITS, 2), (LOGITS, 2)]  # 22 channels
WIDE: list[Block] = [*[(V, 1)] * 100, *[(LOGITS, 40)] * 48, (LOGITS, 28)]  # as many channels as a GPU takes: 2048
SHAPES = {  # blocks of channels and length
    "one entry": ([(V, 1)], 1),
    "static": (MIXED, 1),
    "three months": (MIXED, 3),
    "a quad": (MIXED, 4),
    "odd length": (MIXED, 17),
    "a cohort": (COHORT, 64),
    "one real": ([(EPS, 1)], 100),
    "one code": ([(LOGITS, 33)], 36),
    "large C": (WIDE, 6),
    "long L": (MIXED[:2], 4101),
}


def dense(batch: int, channels: int, length: int) -> Tensor:
    return torch.empty(batch, channels, length)


def channels_last(batch: int, channels: int, length: int) -> Tensor:
    """As the network leaves its output."""
    return torch.empty(batch, length, channels).transpose(1, 2)


def patients_last(batch: int, channels: int, length: int) -> Tensor:
    return torch.empty(channels, length, batch).permute(2, 0, 1)


def sliced(batch: int, channels: int, length: int) -> Tensor:
    """A view with holes in memory."""
    return torch.empty(batch, channels + 1, length + 3)[:, 1:, :length]


def broadcast(batch: int, channels: int, length: int) -> Tensor:
    """One value a patient and channel, whatever the time."""
    return torch.empty(batch, channels, 1).expand(batch, channels, length)


MEMORY = (dense, channels_last, patients_last, sliced, broadcast)


def layout_of(blocks: list[Block]) -> Tensor:
    starts = accumulate((width for _, width in blocks), initial=0)
    rows = [(head, start, width) for (head, width), start in zip(blocks, starts, strict=False) for _ in range(width)]
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)


def bounds_of(layout: Tensor, generator: torch.Generator) -> Tensor:
    """Bounds that hold some entries and leave others; every third channel is open upwards."""
    low = -torch.rand(len(layout), generator=generator)
    high = torch.where(torch.arange(len(layout)) % 3 == 2, math.inf, low + 1.0)
    return torch.stack([low, high], dim=1).where(layout[:, :1] != LOGITS, torch.tensor([-math.inf, math.inf]))


def arguments(
    blocks: list[Block] = COHORT,
    length: int = 64,
    step: int = NOISE_AND_HISTORY,
    make: Callable[[int, int, int], Tensor] = channels_last,
    dtype: torch.dtype = torch.bfloat16,
    n_patients: int = 3,
) -> Arguments:
    """Return arguments of reverse_step of (n_patients, channels of `blocks`, length), raw in the memory of `make`."""
    generator, layout = torch.Generator().manual_seed(length), layout_of(blocks)
    shape = (n_patients, len(layout), length)
    raw = make(*shape).to(dtype)
    target = raw[:, :, :1] if make is broadcast else raw
    target.copy_(2.0 * torch.randn(target.shape, generator=generator))
    x_t, x_0_prev = (torch.randn(shape, generator=generator) for _ in range(2))
    patient = torch.arange(n_patients) * 2**33 + 7
    return (
        x_t,
        raw,
        x_0_prev,
        ROWS.clone(),
        torch.tensor(step),
        layout,
        bounds_of(layout, generator),
        torch.tensor(-(2**62) - 12345),
        patient,
        torch.full_like(patient, stream_word(Stream.STEP_DYNAMIC, 2)),
    )
