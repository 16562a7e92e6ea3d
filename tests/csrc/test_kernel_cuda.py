"""The CUDA kernel, its own source run on the host and itself on a GPU: the bits of the CPU's extension, always."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import which

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hg3.diffusion.heads import HEADS, LOGITS, V
from hg3.extension import implementation
from hg3.sampling.ops import reverse_step
from tests.csrc import sanitizers
from tests.csrc.compilers import COMPILER, ROOT
from tests.csrc.cuda_on_the_host import KERNEL_FLAGS, RAW_TYPES, compile_for_the_host
from tests.csrc.kernels import Kernel, OnGpu, OnHost
from tests.csrc.step_cases import (
    HISTORY_ALONE,
    MEMORY,
    MIXED,
    NOISE_AND_HISTORY,
    ROWS,
    SHAPES,
    Arguments,
    Block,
    arguments,
    channels_last,
)
from tests.devices import CPU, NEEDS_GPU

pytestmark = pytest.mark.skipif(implementation("reverse_step", CPU) == "torch", reason="the extension is not built")
NEEDS_COMPILER = pytest.mark.skipif(which(COMPILER[0]) is None, reason=f"there is no C++ compiler {COMPILER[0]}")
TYPES = pytest.mark.parametrize("dtype", RAW_TYPES, ids=str)
STEPS = pytest.mark.parametrize("step", range(len(ROWS)))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("host", id="on_host", marks=NEEDS_COMPILER),
        pytest.param("gpu", id="on_gpu", marks=NEEDS_GPU),
    ],
)
def kernel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    return OnGpu() if request.param == "gpu" else OnHost(compile_for_the_host(tmp_path_factory.mktemp("kernel")))


def assert_same_bits(actual: list[Tensor], expected: tuple[Tensor, ...] | list[Tensor]) -> None:
    """No tolerance: fma is explicit on both sides, and both round divisions and square roots as IEEE 754 says."""
    for part, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(part, wanted, rtol=0, atol=0, equal_nan=True)


@STEPS
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_and_rows(kernel: Kernel, shape: str, step: int) -> None:
    args = arguments(*SHAPES[shape], step)
    assert_same_bits(kernel.step(args), reverse_step(*args))


@TYPES
@pytest.mark.parametrize("make", MEMORY)
def test_memory_and_types(kernel: Kernel, make: Callable[..., Tensor], dtype: torch.dtype) -> None:
    args = arguments(MIXED, 20, make=make, dtype=dtype)
    assert_same_bits(kernel.step(args), reverse_step(*args))


@st.composite
def blocks(draw: st.DrawFn) -> list[Block]:
    heads = draw(st.lists(st.sampled_from(range(len(HEADS))), min_size=1, max_size=6))
    return [(head, draw(st.integers(1, 9)) if head == LOGITS else 1) for head in heads]


@settings(max_examples=30)
@given(
    blocks=blocks(),
    length=st.integers(1, 40),
    step=st.sampled_from(range(len(ROWS))),
    make=st.sampled_from(MEMORY),
    dtype=st.sampled_from(RAW_TYPES),
    n_patients=st.integers(1, 5),
)
def test_random_shapes(
    kernel: Kernel,
    blocks: list[Block],
    length: int,
    step: int,
    make: Callable[..., Tensor],
    dtype: torch.dtype,
    n_patients: int,
) -> None:
    args = arguments(blocks, length, step, make, dtype, n_patients)
    assert_same_bits(kernel.step(args), reverse_step(*args))


@STEPS
def test_patients_share_the_blocks_of_threads(kernel: Kernel, step: int) -> None:
    """Several turns for each: what one patient leaves in shared memory is not read for the next."""
    args = arguments(step=step, n_patients=kernel.many)
    assert_same_bits(kernel.step(args), reverse_step(*args))


def test_memory_that_is_not_aligned(kernel: Kernel) -> None:
    args = arguments(MIXED, 8)  # which the sanitized kernel alone can find to be read as if it were
    moved = torch.empty(args[0].numel() + 1)[1:].reshape(args[0].shape).copy_(args[0])
    assert moved.data_ptr() % 16 != 0
    assert_same_bits(kernel.step((moved, *args[1:])), reverse_step(*args))


EXTREMES = [math.nan, math.inf, -math.inf, 3.4e38, -3.4e38, 1e30, -1e30, 1e-30, 1e-42, -1e-42, 0.0, -0.0, 88.0, -87.5]


@TYPES
@STEPS
def test_extreme_values(kernel: Kernel, step: int, dtype: torch.dtype) -> None:
    """A third of all entries; where dtype is float16, the largest are infinite."""
    args, generator = arguments(MIXED, 20, step, dtype=dtype, n_patients=4), torch.Generator().manual_seed(step)
    for part in args[:3]:
        drawn = torch.tensor(EXTREMES)[torch.randint(len(EXTREMES), part.shape, generator=generator)]
        part.copy_(torch.where(torch.rand(part.shape, generator=generator) < 1 / 3, drawn.to(part.dtype), part))
    actual = kernel.step(args)
    assert (actual[3] > 0).all()
    assert_same_bits(actual, reverse_step(*args))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_counted(kernel: Kernel, bad: float) -> None:
    args = arguments(MIXED, 6)
    args[1][1, [0, 2, 4, 7], 3] = bad
    actual = kernel.step(args)
    assert actual[3].tolist() == [0, 4, 0]
    assert_same_bits(actual, reverse_step(*args))


@STEPS
def test_in_place(kernel: Kernel, step: int) -> None:
    """x_0 is neither read nor written where the row has no history."""
    args = arguments(MIXED, 6, step)
    if step < HISTORY_ALONE:
        args[2].fill_(math.nan)
    expected = list(reverse_step(*args))
    if step < HISTORY_ALONE:
        expected[1] = args[2].clone()
    counts = kernel.in_place(args)
    assert_same_bits([args[0], args[2], *counts], expected)


def assert_refused(kernel: Kernel, args: Arguments) -> None:
    x_s, x_0_hat, _, nonfinite = kernel.step(args)
    assert nonfinite.tolist() == [args[0][0].numel()] * len(args[0])
    assert torch.isfinite(x_s).all() and torch.isfinite(x_0_hat).all()


@pytest.mark.parametrize("step", [-1, len(ROWS), 2**40])
def test_a_step_outside_the_table_refuses_every_patient(kernel: Kernel, step: int) -> None:
    args = arguments(MIXED, 6)
    args[4].fill_(step)
    assert_refused(kernel, args)


NO_LAYOUTS = {  # rows of MIXED's that are put in place of its own
    "head too high": {0: (4, 0, 1)},
    "head below 0": {0: (-1, 0, 1)},
    "start after the channel": {0: (V, 1, 1)},
    "start before the first": {0: (V, -1, 2)},
    "width of none": {0: (V, 0, 0)},
    "other width": {1: (LOGITS, 1, 2)},
    "other start": {3: (LOGITS, 2, 2)},
    "other head": {2: (V, 1, 3)},
    "block in a block": {3: (LOGITS, 3, 1)},
    "beyond the end": {7: (LOGITS, 7, 3), 8: (LOGITS, 7, 3)},
}


@pytest.mark.parametrize("rows", NO_LAYOUTS.values(), ids=NO_LAYOUTS)
def test_a_layout_that_is_none_refuses_every_patient(kernel: Kernel, rows: dict[int, tuple[int, int, int]]) -> None:
    args = arguments(MIXED, 6)
    for channel, row in rows.items():
        args[5][channel] = torch.tensor(row)
    with pytest.raises(ValueError, match="layout row"):
        reverse_step(*args)
    assert_refused(kernel, args)


def test_the_case_of_a_cohort_has_everything(kernel: Kernel) -> None:
    args = arguments(make=channels_last, step=NOISE_AND_HISTORY)
    _, x_0_hat, moved, nonfinite = kernel.step(args)
    assert (moved > 0).all() and (moved < x_0_hat[0].numel()).all() and (nonfinite == 0).all()


@pytest.mark.slow
@NEEDS_COMPILER
def test_no_memory_but_its_own_is_touched(tmp_path: Path) -> None:
    """All that runs on the host once more in a process with the sanitizers, which watch the tensors' memory too."""
    if KERNEL_FLAGS in os.environ:
        pytest.skip("this is that process")
    watch = {**sanitizers.environment(), KERNEL_FLAGS: f"-O1 {sanitizers.FLAGS}"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "on_host"]
    done = subprocess.run(command, env={**os.environ, **watch}, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
