"""The CUDA kernel's own source run on the host: the bits of the CPU's extension, whatever the shape and memory."""

import ctypes
import math
import os
import subprocess
import sys
from collections.abc import Callable
from shutil import which

import pytest
import torch
from torch import Tensor

from hg3.diffusion.heads import LOGITS, V
from hg3.extension import implementation
from hg3.sampling.ops import reverse_step
from tests.csrc.compilers import COMPILER, ROOT
from tests.csrc.cuda_on_the_host import KERNEL_FLAGS, RAW_TYPES, compile_for_the_host, launch
from tests.csrc.step_cases import (
    HISTORY_ALONE,
    MEMORY,
    MIXED,
    NOISE_AND_HISTORY,
    ROWS,
    SHAPES,
    Arguments,
    arguments,
    channels_last,
)

pytestmark = [
    pytest.mark.skipif(which(COMPILER[0]) is None, reason=f"there is no C++ compiler {COMPILER[0]}"),
    pytest.mark.skipif(
        implementation("reverse_step", torch.device("cpu")) == "torch", reason="the extension is not built"
    ),
]

WATCHED = ("libasan.so", "libubsan.so", "libstdc++.so")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return compile_for_the_host(tmp_path_factory.mktemp("kernel"))


def kernel(library: ctypes.CDLL, args: Arguments) -> list[Tensor]:
    """What the functional operator returns."""
    x_s, x_0_hat = torch.full_like(args[0], math.nan), torch.full_like(args[0], math.nan)
    return [x_s, x_0_hat, *launch(library, args, x_s, x_0_hat, always=True)]


def assert_same_bits(actual: list[Tensor], expected: tuple[Tensor, ...]) -> None:
    for part, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(part, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", range(len(ROWS)))
def test_shapes_and_rows(library: ctypes.CDLL, shape: str, step: int) -> None:
    args = arguments(*SHAPES[shape], step)
    assert_same_bits(kernel(library, args), reverse_step(*args))


@pytest.mark.parametrize("make", MEMORY)
@pytest.mark.parametrize("dtype", RAW_TYPES, ids=str)
def test_memory_and_types(library: ctypes.CDLL, make: Callable[..., Tensor], dtype: torch.dtype) -> None:
    args = arguments(MIXED, 20, make=make, dtype=dtype)
    assert_same_bits(kernel(library, args), reverse_step(*args))


@pytest.mark.parametrize("n_patients", [1, 2, 7])
def test_patients_share_the_blocks_of_threads(library: ctypes.CDLL, n_patients: int) -> None:
    args = arguments(MIXED, 8, n_patients=n_patients)
    assert_same_bits(kernel(library, args), reverse_step(*args))


def test_memory_that_is_not_aligned(library: ctypes.CDLL) -> None:
    args = arguments(MIXED, 8)  # which the sanitized kernel alone can find to be read as if it were
    moved = torch.empty(args[0].numel() + 1)[1:].reshape(args[0].shape).copy_(args[0])
    assert moved.data_ptr() % 16 != 0
    assert_same_bits(kernel(library, (moved, *args[1:])), reverse_step(*args))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_counted(library: ctypes.CDLL, bad: float) -> None:
    args = arguments(MIXED, 6)
    args[1][1, [0, 2, 4, 7], 3] = bad
    actual = kernel(library, args)
    assert actual[3].tolist() == [0, 4, 0]
    assert_same_bits(actual, reverse_step(*args))


@pytest.mark.parametrize("step", range(len(ROWS)))
def test_in_place(library: ctypes.CDLL, step: int) -> None:
    """x_0 is neither read nor written where the row has no history."""
    args = arguments(MIXED, 6, step)
    if step < HISTORY_ALONE:
        args[2].fill_(math.nan)
    expected = list(reverse_step(*args))
    if step < HISTORY_ALONE:
        expected[1] = args[2].clone()
    counts = launch(library, args, args[0], args[2], always=False)
    assert_same_bits([args[0], args[2], *counts], tuple(expected))


def assert_refused(library: ctypes.CDLL, args: Arguments) -> None:
    x_s, x_0_hat, _, nonfinite = kernel(library, args)
    assert nonfinite.tolist() == [args[0][0].numel()] * len(args[0])
    assert torch.isfinite(x_s).all() and torch.isfinite(x_0_hat).all()


@pytest.mark.parametrize("step", [-1, len(ROWS), 2**40])
def test_a_step_outside_the_table_is_no_step(library: ctypes.CDLL, step: int) -> None:
    args = arguments(MIXED, 6)
    args[4].fill_(step)
    assert_refused(library, args)


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
def test_a_layout_that_is_none_is_refused(library: ctypes.CDLL, rows: dict[int, tuple[int, int, int]]) -> None:
    args = arguments(MIXED, 6)
    for channel, row in rows.items():
        args[5][channel] = torch.tensor(row)
    with pytest.raises(ValueError, match="layout row"):
        reverse_step(*args)
    assert_refused(library, args)


def test_the_case_of_a_cohort_has_everything(library: ctypes.CDLL) -> None:
    args = arguments(make=channels_last, step=NOISE_AND_HISTORY)
    _, x_0_hat, moved, nonfinite = kernel(library, args)
    assert (moved > 0).all() and (moved < x_0_hat[0].numel()).all() and (nonfinite == 0).all()


@pytest.mark.slow
def test_no_memory_but_its_own_is_touched() -> None:
    """All of the above once more in a process with AddressSanitizer, which watches the tensors' memory too."""
    if KERNEL_FLAGS in os.environ:
        pytest.skip("this is that process")
    libraries = [
        subprocess.check_output([*COMPILER, f"-print-file-name={name}"], text=True).strip() for name in WATCHED
    ]
    if not all(map(os.path.isabs, libraries)):
        pytest.skip(f"{COMPILER[0]} has no AddressSanitizer")
    flags = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
    watch = {"LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": "detect_leaks=0", KERNEL_FLAGS: flags}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env={**os.environ, **watch}, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
