"""One training in several processes, as `torchrun` starts them: each computes a slice of every batch.

Every process draws the whole batch with all its noise and takes its slice of it for the network. The network's answers
are put together before the loss, which so divides its masked means by the counts of the whole batch, and knows
nothing of processes. Each then has the gradient of its slice, and their sum is that of the batch.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

Model = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Processes:
    """This process among `count`; the first one leads: it alone writes and speaks."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def shared(self, model: Model) -> Model:
        """Return `model` as a function of whole batches, of which each process computes its slice."""
        if self.count == 1:
            return model

        def whole(*given: Tensor) -> tuple[Tensor, Tensor]:
            n = len(given[0])
            if n < self.count:  # a handful of validation patients
                return model(*given)
            start, stop = (n * place // self.count for place in (self.rank, self.rank + 1))
            static, dynamic = model(*(tensor[start:stop] for tensor in given))
            return _Together.apply(static, start, n), _Together.apply(dynamic, start, n)

        return whole

    def sum_gradients(self, parameters: Iterable[Tensor], loss: Tensor) -> Tensor:
        """Give each parameter the gradient of the whole batch; return the loss, the same bits for all."""
        if self.count == 1:
            return loss
        gradients = [weight.grad for weight in parameters if weight.grad is not None]
        flat = torch.cat([parameters_to_vector(gradients), (loss.detach() / self.count)[None]])
        dist.all_reduce(flat)
        vector_to_parameters(flat[:-1], gradients)
        return flat[-1]

    def any(self, flag: bool) -> bool:
        """Whether one process or more has `flag`: what all must do at the same update."""
        if self.count == 1:
            return flag
        flags = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(flags)
        return bool(flags > 0)

    def of_leader(self, number: float) -> float:
        """Return the leader's `number`, which another process may have measured otherwise."""
        if self.count == 1:
            return number
        shared = torch.tensor(number, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, src=0)
        return float(shared)

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.any(False)


class _Together(torch.autograd.Function):
    """The slices of all processes as one tensor of n rows; a gradient goes back to this process's own rows."""

    @staticmethod
    def forward(context: Any, part: Tensor, start: int, n: int) -> Tensor:
        context.rows, context.kind = (start, start + len(part)), part.dtype
        whole = torch.zeros((n, *part.shape[1:]), device=part.device)
        whole[start : start + len(part)] = part
        dist.all_reduce(whole)  # the others have zeros there, which change no bit
        return whole

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        start, stop = context.rows
        return gradients[0][start:stop].to(context.kind), None, None


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Yield this process among those that `torchrun` started; alone where it started none."""
    count = process_count()
    if count == 1:
        yield Processes(device=device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), count, device)
    finally:
        dist.destroy_process_group()


def process_count() -> int:
    """Return how many processes `torchrun` has started for this training."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this process is the first of its training, or the only one."""
    return process_count() == 1 or os.environ.get("RANK", "0") == "0"
