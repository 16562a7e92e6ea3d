"""What a patient without any value of a column holds while the network learns: noise that tells nothing.

A constant would put an atom into the distribution of a column, and a sampler smears what it must learn next to an
atom. So x_0 of such a cell is drawn from what the column's other cells are like, N(0, 1) or the frequencies of its
codes, and x_t then looks the same with and without a value: the column's flag alone says which it is.
"""

import torch
from torch import Tensor

from hg3.layout import Block


def fill_absent(
    x_0: Tensor,
    eps: Tensor,
    observed: Tensor,
    uniform: Tensor,
    blocks: tuple[Block, ...],
    signal_t: Tensor,
    noise_t: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return x_0 and eps (B, C, L) with other pairs in the cells without a value, for `q_sample` and every target.

    Parameters
    ----------
    x_0, eps : (B, C, L); observed : bool (B, blocks, L); uniform : in [0, 1), of its shape, draws the codes.
    signal_t, noise_t : (B, 1, 1).

    Notes
    -----
    A pair is the posterior mean given x_t, not the x_0 and eps that x_t was made of. The best answer to a squared
    error or a cross-entropy is the same, without the noise of the draw in the gradient.
    """
    x_0, eps = x_0.clone(), eps.clone()
    for kind, width in sorted({(b.kind, b.width) for b in blocks}):
        group = [i for i, b in enumerate(blocks) if (b.kind, b.width) == (kind, width)]
        channels = [c for i in group for c in range(blocks[i].start, blocks[i].start + width)]
        clean, noise = (x[:, channels].unflatten(1, (-1, width)) for x in (x_0, eps))  # (B, group, width, L)
        there = observed[:, group]
        if kind == "real":
            mean = signal_t[:, None] * noise  # x_t is the noise itself
            other = noise_t[:, None] * noise
        else:
            mean, other = _category(clean, noise, there, uniform[:, group], signal_t[:, None], noise_t[:, None])
        x_0[:, channels] = torch.where(there[:, :, None], clean, mean).flatten(1, 2)
        eps[:, channels] = torch.where(there[:, :, None], noise, other).flatten(1, 2)
    return x_0, eps


def _category(
    clean: Tensor, noise: Tensor, there: Tensor, uniform: Tensor, signal_t: Tensor, noise_t: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the posterior means of x_0 and eps, (B, blocks, K, L), for codes drawn from the batch's frequencies."""
    one_hot = (clean + 1.0) / 2.0
    count = (one_hot * there[:, :, None]).sum(dim=(0, 3)) + 1.0  # one of each code more: none is impossible
    share = (count / count.sum(dim=1, keepdim=True))[None, :, :, None]
    code = (uniform[:, :, None] >= share.cumsum(dim=2)[:, :, :-1]).sum(dim=2)
    codes = torch.arange(share.shape[2], device=code.device)[:, None]
    drawn = (code[:, :, None] == codes).float()  # not F.one_hot, which asks for values: vmap has none to give
    x_t = signal_t * (2.0 * drawn - 1.0) + noise_t * noise
    mean = 2.0 * torch.softmax(share.log() + 2.0 * signal_t * x_t / noise_t**2, dim=2) - 1.0
    return mean, (x_t - signal_t * mean) / noise_t
