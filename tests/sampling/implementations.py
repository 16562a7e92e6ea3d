"""reverse_step in every implementation that can run here, and arguments in which everything about it matters."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hg3.diffusion.heads import HEADS
from hg3.diffusion.schedule import cosine_schedule
from hg3.extension import build_info
from hg3.philox import Stream, stream_word
from hg3.sampling import ops
from hg3.sampling.solvers import sampler_table
from tests import oracle

Arguments = tuple[Tensor, ...]
Make = Callable[[int, int, int, torch.Generator], Tensor]

# The torch implementation once more under a name of its own, which the compiled one does not hide.
_LIBRARY = torch.library.Library("hg3_torch", "DEF")
for _schema, _python, _fake in (
    (ops.SCHEMAS[0], ops._reverse_step_torch, ops._reverse_step_fake),
    (ops.SCHEMAS[1], ops._reverse_step_in_place_torch, ops._reverse_step_in_place_fake),
):
    _name = _schema.partition("(")[0]
    _LIBRARY.define(_schema)
    _LIBRARY.impl(_name, _python, "CompositeExplicitAutograd")
    torch.library.register_fake(f"hg3_torch::{_name}", _fake)


@dataclass(frozen=True)
class Implementation:
    """The two forms of the step, as operators of torch."""

    name: str
    step: Any
    in_place: Any


TORCH = Implementation("torch", torch.ops.hg3_torch.reverse_step.default, torch.ops.hg3_torch.reverse_step_.default)
COMPILED = Implementation("compiled", torch.ops.hg3.reverse_step.default, torch.ops.hg3.reverse_step_.default)
NEEDS_EXTENSION = pytest.mark.skipif(build_info() is None, reason="hg3 was installed with HG3_BUILD=none: no hg3._C")
EVERY = pytest.mark.parametrize(
    "how", [TORCH, pytest.param(COMPILED, marks=NEEDS_EXTENSION)], ids=lambda implementation: implementation.name
)

SCHEDULE = cosine_schedule(100)
N_STEPS = 12
# heads of every kind beside one another: blocks of three codes, two and one, with and without bounds
EPS, V, X_0, LOGITS = (HEADS.index(head) for head in ("eps", "v", "x_0", "logits"))
LAYOUT = [(V, 0, 1), *[(LOGITS, 1, 3)] * 3, (EPS, 4, 1), (X_0, 5, 1)]
LAYOUT += [(V, 6, 1), *[(LOGITS, 7, 2)] * 2]
FREE = (-math.inf, math.inf)
# the one at a code says nothing: logits cannot leave their simplex, and nothing of theirs is moved
BOUNDS = [(-0.75, 0.5), FREE, (-0.2, 0.2), FREE, (-1.0, 1.0), (-0.25, math.inf), FREE, FREE, FREE]
SEED, RETRY = -(2**62) - 12345, 2
PATIENTS = [7, 2**32 + 5, 2**40, 1, 2]
PER_PATIENT = {0, 1, 2, 8, 9}  # the arguments with a row a patient


def dense(batch: int, channels: int, length: int, generator: torch.Generator) -> Tensor:
    return torch.randn(batch, channels, length, generator=generator)


def permuted(batch: int, channels: int, length: int, generator: torch.Generator) -> Tensor:
    """Channels last, as the network leaves its output."""
    return dense(batch, length, channels, generator).transpose(1, 2)


def patients_last(batch: int, channels: int, length: int, generator: torch.Generator) -> Tensor:
    return dense(channels, length, batch, generator).permute(2, 0, 1)


def sliced(batch: int, channels: int, length: int, generator: torch.Generator) -> Tensor:
    """A view with holes in memory, like months cut off a pad."""
    return dense(batch, channels, length + 3, generator)[:, :, :length]


def sliced_last(batch: int, channels: int, length: int, generator: torch.Generator) -> Tensor:
    """Channels last, with months and channels cut off."""
    return permuted(batch, channels + 2, length + 3, generator)[:, 1:-1, :length]


MAKES = [dense, permuted, patients_last, sliced, sliced_last]


def arguments(
    make: Make = dense,
    dtype: torch.dtype = torch.float32,
    solver: str = "dpm++",
    step: int = 5,
    n_patients: int = 3,
    length: int = 6,
    layout: list[tuple[int, int, int]] = LAYOUT,
    eta: float | None = None,
) -> Arguments:
    """Return arguments of reverse_step in which bounds, history and noise all matter."""
    generator = torch.Generator().manual_seed(step)
    x_t, raw, x_0_prev = (make(n_patients, len(layout), length, generator) for _ in range(3))
    patient = torch.tensor(PATIENTS[:n_patients], dtype=torch.int64)
    bounds = [BOUNDS[c % len(BOUNDS)] for c in range(len(layout))]
    return (
        x_t,
        (1.5 * raw).to(dtype),
        x_0_prev,
        torch.tensor(sampler_table(solver, SCHEDULE, N_STEPS, eta).rows, dtype=torch.float32),
        torch.tensor(step),
        torch.tensor(layout, dtype=torch.int64).reshape(-1, 3),
        torch.tensor(bounds).reshape(-1, 2),
        torch.tensor(SEED),
        patient,
        torch.full_like(patient, stream_word(Stream.STEP_DYNAMIC, RETRY)),
    )


def repeated(layout: list[tuple[int, int, int]], times: int) -> list[tuple[int, int, int]]:
    """Return a layout `times` in a row: more channels than a tile of the compiled step has."""
    return [(head, start + k * len(layout), width) for k in range(times) for head, start, width in layout]


def slowly(args: Arguments) -> tuple[np.ndarray, np.ndarray, list[int], list[int]]:
    x_t, raw, x_0_prev, rows, step, layout, bounds, seed, patient, _ = args
    channels = [(HEADS[head], start, width) for head, start, width in layout.tolist()]
    return oracle.reverse_step(
        x_t.double().numpy(),
        raw.double().numpy(),
        x_0_prev.double().numpy(),
        rows[int(step)].tolist(),
        int(step),
        channels,
        [(low, high) for low, high in bounds.tolist()],
        int(seed),
        patient.tolist(),
        int(Stream.STEP_DYNAMIC),
        RETRY,
    )


def assert_agrees(how: Implementation, args: Arguments) -> None:
    """A few roundings to float32 of numbers below 8; an eps head divides them by the signal."""
    actual, (x_s, x_0_hat, moved, nonfinite) = how.step(*args), slowly(args)
    signal, _, _, b0 = args[3][int(args[4])][:4].tolist()
    for channel, (head, _, _) in enumerate(args[5].tolist()):
        tolerance = 2e-6 / (signal if HEADS[head] == "eps" else 1.0)
        np.testing.assert_allclose(actual[1][:, channel], x_0_hat[:, channel], rtol=2e-6, atol=tolerance)
        tolerance = 3e-6 + b0 * tolerance
        np.testing.assert_allclose(actual[0][:, channel], x_s[:, channel], rtol=2e-6, atol=tolerance)
    assert actual[2].tolist() == moved
    assert actual[3].tolist() == nonfinite
    for part in actual[:2]:
        assert part.is_contiguous() and part.dtype == torch.float32 and part.shape == args[0].shape
