"""The training loss: v of reals, cross-entropy of categories, every column with an equal say."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hg3.config import LossConfig
from hg3.diffusion.process import coefficients, q_sample, v_target
from hg3.diffusion.schedule import Schedule
from hg3.layout import Block, Layout

Model = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Batch:
    """B encoded patients: x_static (B, S), x_dynamic (B, C, L), and per block where there is a value.

    observed_static : bool (B, static blocks); observed_dynamic : bool (B, dynamic blocks, L).
    """

    x_static: Tensor
    x_dynamic: Tensor
    observed_static: Tensor
    observed_dynamic: Tensor

    def __len__(self) -> int:
        return len(self.x_static)

    def select(self, index: Tensor, device: torch.device) -> "Batch":
        """Return the patients at `index`, on `device`."""
        parts = (self.x_static, self.x_dynamic, self.observed_static, self.observed_dynamic)
        return Batch(*(part[index.to(part.device)].to(device, non_blocking=True) for part in parts))


@dataclass(frozen=True)
class Draw:
    """The randomness of one evaluation: times t (B,), and eps for both parts, of their shapes."""

    t: Tensor
    eps_static: Tensor
    eps_dynamic: Tensor


def draw(batch: Batch, n_times: int, generator: torch.Generator) -> Draw:
    """Return times spread evenly over 0..T-1 with one random offset (Kingma et al. 2021, appendix I.1), and noise."""
    n, device = len(batch), batch.x_static.device
    offset = torch.rand(1, generator=generator, device=device)
    spread = (torch.arange(n, device=device) / n + offset) % 1.0
    eps = [torch.randn(x.shape, generator=generator, device=device) for x in (batch.x_static, batch.x_dynamic)]
    return Draw((spread * n_times).long().clamp(max=n_times - 1), *eps)


def denoising_loss(
    model: Model, batch: Batch, noise: Draw, schedule: Schedule, layout: Layout, config: LossConfig
) -> Tensor:
    """Return the mean over all columns of their losses at the drawn times, a scalar.

    A real is asked for v (squared error), a category for its code (cross-entropy of its block's logits).
    """
    signal_t, noise_t = coefficients(schedule, noise.t)  # (B, 1, 1)
    x_0_static, eps_static = batch.x_static[:, :, None], noise.eps_static[:, :, None]
    x_t_static = q_sample(x_0_static, eps_static, signal_t, noise_t)
    x_t_dynamic = q_sample(batch.x_dynamic, noise.eps_dynamic, signal_t, noise_t)
    raw_static, raw_dynamic = model(x_t_static[:, :, 0], x_t_dynamic, noise.t)
    v_static = v_target(x_0_static, eps_static, signal_t, noise_t)
    v_dynamic = v_target(batch.x_dynamic, noise.eps_dynamic, signal_t, noise_t)
    columns = [
        column_losses(
            raw_static.float()[:, :, None],
            x_0_static,
            v_static,
            batch.observed_static[:, :, None],
            layout.static,
            config,
        ),
        column_losses(raw_dynamic.float(), batch.x_dynamic, v_dynamic, batch.observed_dynamic, layout.dynamic, config),
    ]
    return torch.cat(columns).mean()


def column_losses(
    raw: Tensor, x_0: Tensor, v: Tensor, observed: Tensor, blocks: tuple[Block, ...], config: LossConfig
) -> Tensor:
    """Return one loss a block, shape (blocks,), from raw, x_0 and v (B, C, L) and observed (B, blocks, L).

    A block's loss is the sum over its cells divided by the count of its observed ones. The divisor is at least 1 and
    at least the mean count over `column_cap`, so that the few cells of a rare laboratory neither vanish nor dominate.
    Cells without a value ask for the fill, at `fill_weight` a cell: a sampler cannot know which ones to leave out.
    """
    if not blocks:
        return raw.new_zeros(0)
    cells = _cell_losses(raw, x_0, v, blocks)
    count = observed.sum(dim=(0, 2)).float()
    divisor = torch.maximum(count, (count.mean() / config.column_cap)).clamp(min=1.0)
    weight = torch.where(observed, 1.0, config.fill_weight)
    return (cells * weight).sum(dim=(0, 2)) / divisor


def _cell_losses(raw: Tensor, x_0: Tensor, v: Tensor, blocks: tuple[Block, ...]) -> Tensor:
    """Return the loss of every cell, (B, blocks, L); blocks of one width go through one call.

    A category's is the cross-entropy less the target's own entropy: 0 at best, also where the target is the fill.
    """
    out = raw.new_empty(raw.shape[0], len(blocks), raw.shape[2])
    for kind, width in sorted({(b.kind, b.width) for b in blocks}):
        group = [i for i, b in enumerate(blocks) if (b.kind, b.width) == (kind, width)]
        channels = [c for i in group for c in range(blocks[i].start, blocks[i].start + width)]
        if kind == "real":
            out[:, group] = (raw[:, channels] - v[:, channels]) ** 2
        else:
            log_p = F.log_softmax(raw[:, channels].unflatten(1, (-1, width)), dim=2)
            target = (x_0[:, channels].unflatten(1, (-1, width)) + 1.0) / 2.0
            out[:, group] = (torch.special.xlogy(target, target) - target * log_p).sum(dim=2)
    return out
