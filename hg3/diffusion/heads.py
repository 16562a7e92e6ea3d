"""From what the network emits to x_0_hat, a clean patient inside the rules.

eps:    x_0_hat = (x_t - noise_t e) / signal_t
v:      x_0_hat = signal_t x_t - noise_t v
x_0:    x_0_hat = raw
logits: x_0_hat = 2 softmax(l) - 1, per block of channels
Reals are clamped to their sampling bounds; a softmax cannot leave its simplex.
"""

import math

import torch
from torch import Tensor

from hg3.layout import Block

HEADS = ("eps", "v", "x_0", "logits")
EPS, V, X_0, LOGITS = range(4)


def head_table(blocks: tuple[Block, ...], real_head: str, category_head: str) -> Tensor:
    """Return per channel (head, block start, block width), int64, shape (C, 3)."""
    rows = []
    for block in blocks:
        head = HEADS.index(real_head if block.kind == "real" else category_head)
        rows += [(head, block.start, block.width)] * block.width
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)


def bounds_table(blocks: tuple[Block, ...], category_head: str = "logits", clamp: bool = True) -> Tensor:
    """Return the sampling bounds per channel, float32, shape (C, 2), infinite where there are none.

    A softmax needs none; a category that is predicted otherwise is held between -1 and 1.
    """
    one_hot = (-math.inf, math.inf) if category_head == "logits" else (-1.0, 1.0)
    limits = [(b.low, b.high) if b.kind == "real" else one_hot for b in blocks for _ in range(b.width)]
    rows = limits if clamp else [(-math.inf, math.inf)] * len(limits)
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 2)


def predict_x_0(
    x_t: Tensor, raw: Tensor, signal_t: Tensor, noise_t: Tensor, layout: Tensor, bounds: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return x_0_hat (B, C, L), and per patient how many entries were moved and how many were not finite.

    Parameters
    ----------
    x_t : float32, shape (B, C, L); raw : the network's output, any float type, same shape.
    signal_t, noise_t : float32 scalars; layout : `head_table`; bounds : `bounds_table`.

    Notes
    -----
    An entry of `raw` that is NaN or infinite is counted and replaced, by the middle of the range (where that is
    infinite, by the number in it nearest to 0), or by the uniform distribution over its block, so that the sampler
    can end; the caller refuses the patient.
    """
    raw = raw.float()
    head, start = layout[:, 0, None], layout[:, 1]
    finite = torch.isfinite(raw)
    raw = torch.where(finite, raw, 0.0)
    low, high = bounds[:, 0, None], bounds[:, 1, None]
    real = torch.where(head == V, signal_t * x_t - noise_t * raw, raw)
    real = torch.where(head == EPS, (x_t - noise_t * raw) / signal_t, real)
    middle = torch.where(torch.isfinite(low + high), (low + high) / 2, torch.zeros_like(low).clamp(low, high))
    real = torch.where(finite, real, middle)
    clamped = torch.minimum(torch.maximum(real, low), high)
    is_category = head == LOGITS
    x_0_hat = torch.where(is_category, 2.0 * _block_softmax(raw, finite, start) - 1.0, clamped)
    moved = ((clamped != real) & ~is_category).sum(dim=(1, 2))
    return x_0_hat, moved, (~finite).sum(dim=(1, 2))


def _block_softmax(logits: Tensor, finite: Tensor, start: Tensor) -> Tensor:
    """Return the softmax of each block of channels, (B, C, L); uniform where any logit of the block is not finite.

    `start` (C,) names each channel's block. The sums go through a matrix of zeros and ones, which, unlike a
    scatter, adds in one order on every device; a maximum has no order.
    """
    same_block = (start[:, None] == start[None, :]).float()
    broken = torch.einsum("dc,bcl->bdl", same_block, (~finite).float()) > 0
    logits = torch.where(broken, 0.0, logits)
    index = start[:, None].expand_as(logits)
    top = torch.full_like(logits, -torch.inf).scatter_reduce(1, index, logits, "amax")
    weight = torch.exp(logits - top.index_select(1, start))
    return weight / torch.einsum("dc,bcl->bdl", same_block, weight)
