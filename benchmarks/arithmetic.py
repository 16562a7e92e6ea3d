"""How much arithmetic a network does, and how fast the machine does the same kind of arithmetic by itself."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import in_turns
from hg3.release.plan import Source

MATMUL = {"cpu": 2048, "cuda": 8192}  # rows and columns of a product large enough for the machine's full speed
KERNEL = 3  # of the convolutions that most of the arithmetic is
Shape = tuple[int, ...]
Side = Callable[[], Any]


def megaflop(side: Side) -> float:
    """Return the million floating-point operations of a call: of products and convolutions, as torch counts them."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.hg3.chain_messages: chain_flop}) as counter:
        side()
    return counter.get_total_flops() / 1e6


def chain_flop(seen: Shape, first: Shape, go: Shape, **_: Any) -> int:
    """Return the operations of hg3::chain_messages in its products, which torch cannot look into: both directions."""
    length, batch, states = seen
    return 2 * (length - 1) * 2 * batch * states * states


def network_megaflop(source: Source) -> float:
    """Return the million operations of the network a patient and step."""
    layout, device = source.recipe.encoder.layout, source.device
    x_static = torch.zeros(1, layout.n_static, device=device)
    x_dynamic = torch.zeros(1, layout.n_dynamic, source.recipe.network_length, device=device)
    given = torch.zeros(1, len(layout.static), dtype=torch.bool, device=device)
    t = torch.zeros(1, dtype=torch.int64, device=device)
    return round(megaflop(lambda: source.network(x_static, x_dynamic, t, given)), 1)


def rates(shape: Shape, device: torch.device, dtype: torch.dtype, repeats: int) -> dict[str, Any]:
    """Return GFLOP/s of a convolution in both memory formats, trained too, and of a large product of matrices.

    The product is what the machine can do, beside which the rates that networks achieve stand.

    Parameters
    ----------
    shape : (B, W, L) of what the convolution reads: a batch of a network's width and length.
    """
    size, (batch, width, length) = MATMUL[device.type], shape
    convolution = 2 * batch * length * width * width * KERNEL
    plain, image = (_Convolution(shape, last, device, dtype) for last in (False, True))
    square = torch.randn(size, size, device=device, dtype=dtype)
    sides: dict[str, tuple[int, Side]] = {
        "convolution, 1-D": (convolution, plain.forward),
        "convolution, channels-last": (convolution, image.forward),
        "convolution, 1-D, forwards and backwards": (3 * convolution, plain.forward_and_back),
        "convolution, channels-last, forwards and backwards": (3 * convolution, image.forward_and_back),
        f"product of two {size} x {size} matrices": (2 * size**3, lambda: square @ square),
    }
    with torch.enable_grad():
        timed = in_turns({name: side for name, (_, side) in sides.items()}, max(repeats, 5))
    found = {name: round(flop / timed[name].seconds / 1e9, 1) for name, (flop, _) in sides.items()}
    return {"dtype": str(dtype).removeprefix("torch."), "gflop_per_s": found}


class _Convolution:
    """A convolution over time, of (B, W, L) as it lies or of (B, L, W) as a channels-last image of height 1."""

    def __init__(self, shape: Shape, channels_last: bool, device: torch.device, dtype: torch.dtype) -> None:
        batch, width, length = shape
        shape = (batch, length, width) if channels_last else shape
        self.x = torch.randn(shape, device=device, dtype=dtype, requires_grad=True)
        self.weight = torch.randn(width, width, KERNEL, device=device, dtype=dtype, requires_grad=True)
        self.channels_last = channels_last

    def forward(self) -> Tensor:
        if self.channels_last:
            return F.conv2d(self.x.mT.unsqueeze(2), self.weight[:, :, None], padding=(0, 1))
        return F.conv1d(self.x, self.weight, padding=1)

    def forward_and_back(self) -> tuple[Tensor, ...]:
        """Return the gradients of what it reads and of its weight."""
        y = self.forward()
        return torch.autograd.grad(y, (self.x, self.weight), torch.ones_like(y))


def print_rates(found: dict[str, Any]) -> None:
    for name, rate in found["gflop_per_s"].items():
        print(f"{name + ', ' + found['dtype']:<72}{rate:>10.1f} GFLOP/s")
