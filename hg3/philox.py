"""Noise is a function, not a state: Philox4x32-10 (Salmon et al. 2011) and normals by Box-Muller, in torch.

key     = seed (64 bits)
counter = (element / 4, stream << 28 | retry << 20 | step, patient low, patient high)
element = c * roundup4(L) + l, whatever the memory layout

The integers are those of every other Philox4x32-10. Normals are made in float64 and rounded once, so that how a
tensor is cut into vectors and threads does not change a bit.
"""

import math
from enum import IntEnum

import torch
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW_32 = 0xFFFFFFFF


class Stream(IntEnum):
    """What a draw is for; no two streams share a word. DECODE has two steps: 0 static, 1 dynamic."""

    INITIAL_STATIC = 0
    INITIAL_DYNAMIC = 1
    STEP_STATIC = 2
    STEP_DYNAMIC = 3
    DECODE = 4


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Return the four 32-bit words of each counter, as int64 tensors of the broadcast shape.

    Parameters
    ----------
    counter, key : words in 0..2^32-1, int64, shapes that broadcast.
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]  # int64 wraps as uint64 does: all 64 bits are right
        c0, c1, c2, c3 = (
            ((p1 >> 32) & LOW_32) ^ c1 ^ k0,
            p1 & LOW_32,
            ((p0 >> 32) & LOW_32) ^ c3 ^ k1,
            p0 & LOW_32,
        )
        k0, k1 = (k0 + WEYL[0]) & LOW_32, (k1 + WEYL[1]) & LOW_32
    return c0, c1, c2, c3


def stream_word(stream: Stream, retry: int = 0) -> int:
    """Return the high bits of counter word 1; the step number fills its low 20."""
    if not 0 <= retry < 256:
        raise ValueError(f"retry is {retry}; the counter holds 0 to 255")
    return int(stream) << 28 | retry << 20


def words(seed: Tensor, patient: Tensor, stream: Tensor, step: Tensor, n_channels: int, length: int) -> Tensor:
    """Return the Philox words of each element, int64, shape (B, C, roundup4(L)).

    Parameters
    ----------
    seed : int64 scalar; patient : int64, shape (B,); stream : int64, shape (B,), of `stream_word`s; step : int64
        scalar below 2^20.
    """
    quads = -(-length // 4)
    element = torch.arange(n_channels * quads, device=patient.device)[None, :]
    low, high = (patient & LOW_32)[:, None], ((patient >> 32) & LOW_32)[:, None]
    key = (seed & LOW_32, (seed >> 32) & LOW_32)
    drawn = philox((element, ((stream | step) & LOW_32)[:, None], low, high), key)
    return torch.stack(drawn, dim=2).reshape(len(patient), n_channels, 4 * quads)


def normal(seed: Tensor, patient: Tensor, stream: Tensor, step: Tensor, n_channels: int, length: int) -> Tensor:
    """Return standard normal noise, float32, shape (B, C, L); arguments as in `words`.

    Box and Muller 1958 on u = ((word >> 8) + 1) / 2^24 in (0, 1], which float32 holds exactly:
    (sqrt(-2 log u_0) cos(2 pi u_1), sqrt(-2 log u_0) sin(2 pi u_1)) from each pair of neighbouring words.
    """
    u = (((words(seed, patient, stream, step, n_channels, length) >> 8) + 1).double() / 2**24).unflatten(2, (-1, 2))
    radius = torch.sqrt(-2.0 * torch.log(u[..., 0]))
    angle = (2.0 * math.pi) * u[..., 1]
    pair = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1)
    return pair.flatten(2)[:, :, :length].float()
