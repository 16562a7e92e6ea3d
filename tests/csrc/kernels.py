"""The CUDA kernel where it can run: its source compiled for the host, and itself on a GPU, with tensors of the host."""

import ctypes
import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hg3.sampling.ops import reverse_step, reverse_step_
from tests.csrc.cuda_on_the_host import launch
from tests.csrc.step_cases import Arguments
from tests.devices import sent


class Kernel(Protocol):
    """One of the two; `many` patients are several turns for every block of threads."""

    @property
    def many(self) -> int: ...

    def step(self, args: Arguments) -> list[Tensor]:
        """Return what the functional operator does."""

    def in_place(self, args: Arguments) -> list[Tensor]:
        """Return what the operator in place does; x and x_0 are written over."""


@dataclass(frozen=True)
class OnHost:
    library: ctypes.CDLL
    many = 7  # of the two blocks at a time that cuda_on_the_host.h grants

    def step(self, args: Arguments) -> list[Tensor]:
        x_s, x_0_hat = torch.full_like(args[0], math.nan), torch.full_like(args[0], math.nan)
        return [x_s, x_0_hat, *launch(self.library, args, x_s, x_0_hat, always=True)]

    def in_place(self, args: Arguments) -> list[Tensor]:
        return launch(self.library, args, args[0], args[2], always=False)


@dataclass(frozen=True)
class OnGpu:
    many = 5000  # of the thousand or so blocks that run at a time on an H200

    def step(self, args: Arguments) -> list[Tensor]:
        return [part.cpu() for part in reverse_step(*sent(args))]

    def in_place(self, args: Arguments) -> list[Tensor]:
        copies = sent(args)
        counts = [part.cpu() for part in reverse_step_(*copies)]
        args[0].copy_(copies[0])
        args[2].copy_(copies[2])
        return counts
