"""What each lever of the sampler brings: hg3's block with it and without it, all else as it is."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.published import BATCH
from benchmarks.timing import in_turns
from hg3.release.plan import Request, Source, make_plan
from hg3.release.writer import make_block
from hg3.sampling import generate, ops
from hg3.sampling.compiled import compile_network
from hg3.training.checkpoint import make_network
from hg3.training.device import resolve_precision

PADDED = 100  # times, to which the published code pads
BLOCKS = (64, 128, 256, 512)
Side = Callable[[], Any]


def measure(source: Source, block: int, repeats: int, steps: int, compiled: bool) -> list[dict[str, Any]]:
    """Return a row a lever: {"lever", "times"} or {"lever", "skipped"}; times is without it over with it.

    A block of `block` patients is made in `steps` steps, so that a lever of the network weighs a little less here,
    and one of the decoding a little more, than at 20.
    """
    now = block_side(source, steps, block)
    sides = {
        "now": now,
        "one diffusion time for all, not one each": block_side(_with(source, _TimeEach(source.network)), steps, block),
        "fused reverse step": _torch_step(now),
        "no padding to 100 times": _padded_side(source, steps, block),
    }
    if compiled:
        sides["eager, beside compiled"] = now
        sides["compiled"] = block_side(_with(source, compile_network(source.network)), steps, block)
    seconds = {name: timed.seconds for name, timed in in_turns(sides, repeats).items()}
    rows = [_row(name, seconds[name], seconds["now"]) for name in list(sides)[1:4]]
    if compiled:
        rows.append(_row("compiled network", seconds["eager, beside compiled"], seconds["compiled"]))
    convolutions = in_turns(_convolutions(source, BATCH), max(repeats, 5))
    one, two = (convolutions[name].seconds for name in ("1-D", "channels-last"))
    rows.append(_row("channels-last convolution, by itself", one, two))
    return [*rows, _bfloat16(source, steps, block, repeats), *_block_sizes(source, steps, repeats)]


def block_side(source: Source, steps: int, block: int, **plan_changes: Any) -> Side:
    """Return what makes one block of patients as generate makes it, decoded columns and all."""
    plan = make_plan(source, Request(block, steps=steps, block_patients=block)) | plan_changes
    return lambda: make_block(source, source.sampler(plan), plan, 0, block)


def _row(name: str, without: float, with_it: float) -> dict[str, Any]:
    return {"lever": name, "times": round(without / with_it, 3)}


def _with(source: Source, network: nn.Module) -> Source:
    return replace(source, network=network)


class _TimeEach(nn.Module):
    """A network that computes what depends on the diffusion time for each patient."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_static: Tensor, x_dynamic: Tensor, t: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        raw: tuple[Tensor, Tensor] = self.network(x_static, x_dynamic, t.repeat(len(x_dynamic)), given)
        return raw


def _torch_step(side: Side) -> Side:
    """Return `side` with the torch implementation of the reverse step, on any device."""

    def run() -> None:
        with patch.object(generate, "reverse_step_", ops._reverse_step_in_place_torch):
            side()

    return run


def _padded_side(source: Source, steps: int, block: int) -> Side:
    """Return a block of records that the network sees padded to 100 times; its weights are fresh."""
    layout = replace(source.recipe.encoder.layout, length=PADDED)
    padded = _with(source, make_network(layout, source.recipe.preset).to(source.device).eval())
    plan = make_plan(source, Request(block, steps=steps, block_patients=block))
    sampler = replace(source.sampler(plan), length=PADDED)
    return lambda: make_block(padded, sampler, plan, 0, block)


def _convolutions(source: Source, batch: int) -> dict[str, Side]:
    """Return one convolution of the network's width and length, in both memory formats."""
    width, length = source.recipe.preset.network.width, source.recipe.encoder.layout.length
    x = torch.randn(batch, length, width, device=source.device)
    weight = torch.randn(width, width, 3, device=source.device)
    plain, image = x.transpose(1, 2).contiguous(), x.transpose(1, 2).unsqueeze(2)
    return {
        "1-D": lambda: F.conv1d(plain, weight, padding=1),
        "channels-last": lambda: F.conv2d(image, weight[:, :, None], padding=(0, 1)),
    }


def _bfloat16(source: Source, steps: int, block: int, repeats: int) -> dict[str, Any]:
    if resolve_precision("auto", source.device) != "bfloat16":
        return {"lever": "bfloat16", "skipped": "this device has none: torch would emulate it"}
    names = ("float32", "bfloat16")
    timed = in_turns({name: block_side(source, steps, block, precision=name) for name in names}, repeats)
    return _row("bfloat16", timed["float32"].seconds, timed["bfloat16"].seconds)


def _block_sizes(source: Source, steps: int, repeats: int) -> list[dict[str, Any]]:
    """Return how many times as fast, a patient, each size of a block is as the smallest one."""
    timed = in_turns({str(size): block_side(source, steps, size) for size in BLOCKS}, repeats)
    smallest = timed[str(BLOCKS[0])].seconds / BLOCKS[0]
    return [
        _row(f"blocks of {size}, not {BLOCKS[0]}", smallest, timed[str(size)].seconds / size) for size in BLOCKS[1:]
    ]
