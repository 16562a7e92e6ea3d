"""What each lever of the sampler brings, and where the time of a block goes."""

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import Parts, in_turns, lever
from hg3.diffusion.unet import TimeConv, TimeUpConv
from hg3.release import writer
from hg3.release.plan import Request, Source, make_plan
from hg3.release.writer import make_block
from hg3.sampling import generate, ops
from hg3.sampling.compiled import compile_network
from hg3.training.checkpoint import make_network
from hg3.training.device import resolve_precision

PADDED = 100  # times, to which the published code pads
BLOCKS = {"cpu": (64, 128, 256, 512), "cuda": (256, 1024, 4096, 16384)}
CHANNELS_LAST = "channels-last convolutions, not 1-D ones and copies"  # what lies beside them is (B, L, W) either way
CHAINS = "chains (a cost)"
Side = Callable[[], Any]

# What the own time of a module counts for, by its class.
PARTS = {
    "TimeConv": "convolutions",
    "TimeUpConv": "convolutions",
    "Linear": "linear maps",
    "LayerNorm": "layer norms",
    "ResidualBlock": "FiLM, SiLU, sums",
    "SiLU": "FiLM, SiLU, sums",
    "Attention": "attention",
    "Chains": "chains",
    "_OneChain": "chains",
    **dict.fromkeys(("UNet", "Sequential", "ModuleList"), "the rest of the network"),
}
FUNCTIONS = (
    (generate, "reverse_step_", "reverse step"),
    (writer, "sample_patients", "the rest of sampling"),
    (writer, "decode_counted", "decoding"),
)


def measure(source: Source, block: int, repeats: int, steps: int, compiled: bool) -> list[dict[str, Any]]:
    """Return a row a lever, see `benchmarks.timing.lever`, or {"lever", "skipped"}.

    A block of `block` patients is made in `steps` steps, so that a lever of the network weighs a little less here,
    and one of the decoding a little more, than at 20.
    """
    now = block_side(source, steps, block)
    without = {
        "one diffusion time for all, not one each": block_side(_with(source, _TimeEach(source.network)), steps, block),
        "fused reverse step": _torch_step(now),
        CHANNELS_LAST: plain_convolutions(now),
        "no padding to 100 times": _padded_side(source, steps, block),
        CHAINS: block_side(_with(source, without_chains(copy.deepcopy(source.network))), steps, block),
    }
    timed = in_turns({"now": now, **without}, repeats)
    rows = [lever(name, timed[name], timed["now"]) for name in without]
    if compiled:
        fast = block_side(_with(source, compile_network(source.network)), steps, block)
        timed = in_turns({"eager": now, "compiled": fast}, repeats)
        rows.append(lever("compiled network", timed["eager"], timed["compiled"]))
    return [*rows, _bfloat16(source, steps, block, repeats), *_block_sizes(source, steps, repeats)]


def block_side(source: Source, steps: int, block: int, **plan_changes: Any) -> Side:
    """Return what makes one block of patients as generate makes it, decoded columns and all."""
    plan = make_plan(source, Request(block, steps=steps, block_patients=block)) | plan_changes
    return lambda: make_block(source, source.sampler(plan), plan, 0, block)


def block_parts(source: Source, steps: int, block: int, repeats: int) -> dict[str, float]:
    """Return the share of each part of the network, of the step and of decoding in the time of a block."""
    parts, network = Parts(), copy.deepcopy(source.network)
    parts.modules(network, PARTS)
    side = block_side(_with(source, network), steps, block)
    with ExitStack() as patched:
        for module, name, part in FUNCTIONS:
            patched.enter_context(patch.object(module, name, parts.function(part, getattr(module, name))))
        side()
        parts.seconds.clear()  # of the first call, which warms up
        for _ in range(repeats):
            side()
    return parts.shares()


def without_chains(network: nn.Module) -> nn.Module:
    """Take from `network` what it is told of how categories go on."""
    network.trust = network.static_trust = None  # type: ignore[assignment]
    return network


def plain_convolutions(side: Side) -> Side:
    """Return `side` with convolutions of (B, W, L) as it lies, which copies to and fro."""

    def run() -> None:
        with patch.object(TimeConv, "forward", _plain_conv), patch.object(TimeUpConv, "forward", _plain_up):
            side()

    return run


def _plain_conv(self: TimeConv, x: Tensor) -> Tensor:
    if x.shape[1] % self.stride:
        x = F.pad(x, (0, 0, 0, 1))
    return F.conv1d(x.mT.contiguous(), self.weight[:, :, 0], self.bias, stride=self.stride, padding=1).mT


def _plain_up(self: TimeUpConv, x: Tensor) -> Tensor:
    return F.conv_transpose1d(x.mT.contiguous(), self.weight[:, :, 0], self.bias, stride=2, padding=1).mT


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


def _bfloat16(source: Source, steps: int, block: int, repeats: int) -> dict[str, Any]:
    if resolve_precision("auto", source.device) != "bfloat16":
        return {"lever": "bfloat16", "skipped": "this device has none: torch would emulate it"}
    names = ("float32", "bfloat16")
    timed = in_turns({name: block_side(source, steps, block, precision=name) for name in names}, repeats)
    return lever("bfloat16", timed["float32"], timed["bfloat16"])


def _block_sizes(source: Source, steps: int, repeats: int) -> list[dict[str, Any]]:
    """Return how many times as fast, a patient, each size of a block is as the smallest one."""
    sizes = BLOCKS[source.device.type]
    timed = in_turns({str(size): block_side(source, steps, size) for size in sizes}, repeats)
    a_patient = {size: timed[str(size)].over(size) for size in sizes}
    smallest = sizes[0]
    return [lever(f"blocks of {size}, not {smallest}", a_patient[smallest], a_patient[size]) for size in sizes[1:]]
