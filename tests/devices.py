"""What tests are parametrised over: the CPU, and a GPU where there is one; and which operators were called on it."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hg3.extension import implementation

CPU, GPU = torch.device("cpu"), torch.device("cuda")
HAS_GPU = torch.cuda.is_available()
NEEDS_GPU = (
    pytest.mark.skipif(not HAS_GPU, reason="there is no CUDA device"),
    pytest.mark.skipif(
        HAS_GPU and implementation("reverse_step", GPU) != "extension", reason="the extension is not built for CUDA"
    ),
)
DEVICES = pytest.mark.parametrize(
    "device", [pytest.param(CPU, id="on_cpu"), pytest.param(GPU, id="on_gpu", marks=NEEDS_GPU)]
)
# Where the host asks for a number of the device's, or sends it one: it has to wait until the device comes to it.
WAITS = {"aten::_local_scalar_dense", "aten::lift_fresh", "aten::_to_copy", "aten::nonzero", "aten::is_nonzero"}


def sent(args: tuple[Tensor, ...], device: torch.device = GPU) -> tuple[Tensor, ...]:
    """Return copies on `device` that lie as their originals: strides, holes and repetitions, aligned or not."""
    copies = []
    for part in args:
        first = part.storage_offset()
        beside = first % 4 if part.numel() else 0  # numbers before it, up to where 16 bytes begin
        size = sum((n - 1) * stride for n, stride in zip(part.shape, part.stride(), strict=True)) + 1 + beside
        memory = part.as_strided((size if part.numel() else 0,), (1,), first - beside)
        copies.append(memory.to(device, copy=True).as_strided(part.shape, part.stride(), beside))
    return tuple(copies)


class Called(TorchDispatchMode):
    """The names of all operators that are called, in order, without their overloads."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name().partition(".")[0])
        return func(*args, **(kwargs or {}))
