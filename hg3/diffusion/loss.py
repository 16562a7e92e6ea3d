"""The training loss: v of reals, cross-entropy of categories or what a preset asks for, each column an equal say."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hg3.config import HeadsConfig
from hg3.diffusion.absent import fill_absent
from hg3.diffusion.process import coefficients, q_sample, v_target
from hg3.diffusion.schedule import Schedule
from hg3.layout import Block, Layout

Model = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]  # x_static, x_dynamic, t, given


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
    """The randomness of one evaluation: times t (B,), eps for both parts, of their shapes, and what is given.

    given : bool (B, static blocks), the static blocks that the network sees clean and is not asked for.
    """

    t: Tensor
    eps_static: Tensor
    eps_dynamic: Tensor
    given: Tensor


def draw(batch: Batch, n_times: int, generator: torch.Generator, condition: float = 0.0) -> Draw:
    """Return times spread evenly over 0..T-1 with one random offset (Kingma et al. 2021, appendix I.1), and noise.

    Of a share `condition` of the patients, each static block that has a value is given with probability 1/2.
    """
    n, device = len(batch), batch.x_static.device
    offset = torch.rand(1, generator=generator, device=device)
    spread = (torch.arange(n, device=device) / n + offset) % 1.0
    eps = _eps(batch, generator)
    given = torch.zeros_like(batch.observed_static)
    if condition:
        chosen = torch.rand((n, 1), generator=generator, device=device) < condition
        given = chosen & (torch.rand(given.shape, generator=generator, device=device) < 0.5) & batch.observed_static
    return Draw((spread * n_times).long().clamp(max=n_times - 1), *eps, given)


def draw_at(batch: Batch, t: int, generator: torch.Generator) -> Draw:
    """Return noise of one time for all patients, none of whose columns is given: what patients are compared by."""
    times = torch.full((len(batch),), t, device=batch.x_static.device)
    return Draw(times, *_eps(batch, generator), torch.zeros_like(batch.observed_static))


def _eps(batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return standard normal noise of the shapes of x_static and x_dynamic."""
    draws = (torch.randn(x.shape, generator=generator, device=x.device) for x in (batch.x_static, batch.x_dynamic))
    return next(draws), next(draws)


def draw_uniform(batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return what draws the codes of cells without a value: uniform on [0, 1), of the shapes of both `observed`."""
    static, dynamic = batch.observed_static, batch.observed_dynamic
    draws = (torch.rand(x.shape, generator=generator, device=x.device) for x in (static, dynamic))
    return next(draws), next(draws)


@dataclass(frozen=True)
class CellLosses:
    """Losses of all cells of B patients in the static part, (B, blocks, 1), or in the dynamic one, (B, blocks, L).

    asked, known : bool, of that shape or one that broadcasts to it; known where they hold something of the patient.
    """

    cells: Tensor
    asked: Tensor
    known: Tensor


def denoising_loss(
    model: Model,
    batch: Batch,
    noise: Draw,
    uniform: tuple[Tensor, Tensor],
    schedule: Schedule,
    layout: Layout,
    heads: HeadsConfig,
    column_cap: float,
) -> Tensor:
    """Return the mean over all columns of their losses at the drawn times, a scalar."""
    return mean_of_columns(denoising_cells(model, batch, noise, uniform, schedule, layout, heads), column_cap)


def denoising_cells(
    model: Model,
    batch: Batch,
    noise: Draw,
    uniform: tuple[Tensor, Tensor],
    schedule: Schedule,
    layout: Layout,
    heads: HeadsConfig,
) -> list[CellLosses]:
    """Return the losses of all cells at the drawn times, of the static and of the dynamic part.

    A head of logits is asked for the code (cross-entropy), any other for its target (squared error).
    """
    at_t = coefficients(schedule, noise.t)  # (B, 1, 1)
    seen = batch.observed_static[:, :, None]
    clean, eps = batch.x_static[:, :, None], noise.eps_static[:, :, None]
    static = fill_absent(clean, eps, seen, uniform[0][:, :, None], layout.static, *at_t)
    known = batch.observed_dynamic.any(dim=2, keepdim=True)  # who has a value somewhere holds the nearest elsewhere
    dynamic = fill_absent(batch.x_dynamic, noise.eps_dynamic, known, uniform[1], layout.dynamic, *at_t)
    x_t_static, x_t_dynamic = (q_sample(*pair, *at_t) for pair in (static, dynamic))
    x_t_static = torch.where(channelwise(noise.given, layout.static)[:, :, None], clean, x_t_static)
    raw_static, raw_dynamic = model(x_t_static[:, :, 0], x_t_dynamic, noise.t, noise.given)
    asked = (~noise.given[:, :, None], torch.ones_like(batch.observed_dynamic))
    parts = []
    for (x_0, eps), raw, there, weight, blocks in (
        (static, raw_static[:, :, None], seen, asked[0], layout.static),
        (dynamic, raw_dynamic, known, asked[1], layout.dynamic),
    ):
        targets = {"eps": eps, "v": v_target(x_0, eps, *at_t), "x_0": x_0}
        parts.append(CellLosses(cell_losses(raw.float(), targets, blocks, heads), weight, there))
    return parts


def mean_of_columns(parts: list[CellLosses], column_cap: float) -> Tensor:
    """Return the mean over all columns of their losses, a scalar."""
    return torch.cat([column_losses(part.cells, part.asked, part.known, column_cap) for part in parts]).mean()


def mean_of_patients(parts: list[CellLosses]) -> Tensor:
    """Return each patient's mean over all columns of the mean over its known cells, (B,).

    What stands in the others is drawn anew each time, and says nothing of the patient.
    """
    columns = []
    for part in parts:
        known = part.asked & part.known
        columns.append((part.cells * known).sum(dim=2) / known.sum(dim=2).clamp(min=1))
    return torch.cat(columns, dim=1).mean(dim=1)


def channelwise(of_block: Tensor, blocks: tuple[Block, ...]) -> Tensor:
    """Return a value a block, (B, blocks), as one a channel, (B, channels)."""
    return of_block[:, [number for number, block in enumerate(blocks) for _ in range(block.width)]]


def column_losses(cells: Tensor, asked: Tensor, known: Tensor, column_cap: float) -> Tensor:
    """Return one loss a block, shape (blocks,), from cells, whether they are asked for and known (B, blocks, L).

    A block's loss is the sum over its cells divided by the count of its known ones. The divisor is at least 1 and
    at least the mean count over `column_cap`, so that the few cells of a rare laboratory neither vanish nor dominate.
    Cells that hold noise weigh as much as the others: a network that is asked for known ones alone takes every
    cell for one of them, and the release lacks missing cells.
    """
    count = (known & asked).sum(dim=(0, 2)).float()
    if not len(count):
        return count
    divisor = torch.maximum(count, (count.mean() / column_cap)).clamp(min=1.0)
    return (cells * asked).sum(dim=(0, 2)) / divisor


def cell_losses(raw: Tensor, targets: dict[str, Tensor], blocks: tuple[Block, ...], heads: HeadsConfig) -> Tensor:
    """Return the loss of every cell, (B, blocks, L); blocks of one width go through one call.

    Parameters
    ----------
    raw : (B, C, L); targets : what the heads eps, v and x_0 are asked for, of the same shape.

    Notes
    -----
    The cross-entropy is less the target's own entropy: 0 at best, also in a cell without a value. A squared error is
    the mean over the channels of its block.
    """
    out = raw.new_empty(raw.shape[0], len(blocks), raw.shape[2])
    for kind, width in sorted({(b.kind, b.width) for b in blocks}):
        group = [i for i, b in enumerate(blocks) if (b.kind, b.width) == (kind, width)]
        channels = [c for i in group for c in range(blocks[i].start, blocks[i].start + width)]
        head = heads.real if kind == "real" else heads.category
        answer = raw[:, channels].unflatten(1, (-1, width))
        if head == "logits":
            target = (targets["x_0"][:, channels].unflatten(1, (-1, width)) + 1.0) / 2.0
            loss = (torch.special.xlogy(target, target) - target * F.log_softmax(answer, dim=2)).sum(dim=2)
        else:
            loss = ((answer - targets[head][:, channels].unflatten(1, (-1, width))) ** 2).mean(dim=2)
        out[:, group] = loss
    return out
