"""The CUDA file compiles wherever nvcc is, without a GPU and without torch, into kernels that stay in registers."""

import json
import subprocess
from pathlib import Path
from shutil import which

import pytest
import torch

from benchmarks.ptxas import ARCHITECTURES, FIGURES, KERNEL, TYPES, nvcc, nvcc_version, report
from tests.csrc.compilers import COMPILER, ROOT

LAUNCHER = ROOT / "csrc" / "launch_cuda.cpp"
MOST_REGISTERS = 64  # of a thread, so that four blocks of 256 share the 65,536 of a multiprocessor
COMMITTED = json.loads((ROOT / "benchmarks" / "results" / "ptxas.json").read_text(encoding="utf-8"))
pytestmark = pytest.mark.skipif(which("nvcc") is None, reason="nvcc is not on PATH")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_stay_in_registers(architecture: str) -> None:
    """A stack frame is what sincosf would bring, and spilling what a careless loop does: both go through memory."""
    rows = report(architecture)
    assert {row["raw"] for row in rows} == set(TYPES.values()) and len(rows) == len(TYPES)
    for row in rows:
        *through_memory, registers = (row[figure] for figure in FIGURES)
        assert through_memory == [0, 0, 0] and registers <= MOST_REGISTERS
    if COMMITTED["nvcc"] == nvcc_version():
        assert rows == [row for row in COMMITTED["kernels"] if row["architecture"] == architecture]


def headers() -> list[Path]:
    """Return every file that the kernel's source brings in."""
    return [Path(word).resolve() for word in nvcc("-M", KERNEL).replace("\\\n", " ").split()[2:]]


def test_kernel_needs_no_header_of_torch() -> None:
    needed = headers()
    ours = {path.name for path in needed if path.parent == ROOT / "csrc"}
    assert {"reverse_step.h", "philox.h", "reverse_step_cuda.h"} <= ours
    torch_folder = Path(torch.__file__).parent
    assert [path for path in needed if torch_folder in path.parents] == []


@pytest.mark.slow
def test_launcher_is_of_this_torch() -> None:
    """Its syntax, against torch's headers and the toolkit's; a CPU build of torch leaves out one generated header."""
    toolkit = next(path.parent for path in headers() if path.name == "cuda_runtime_api.h")
    torch_include = Path(torch.__file__).parent / "include"
    folders = (ROOT / "csrc", torch_include, torch_include / "torch" / "csrc" / "api" / "include", toolkit)
    macros = [] if torch.version.cuda else ["-DC10_USING_CUSTOM_GENERATED_MACROS"]
    command = [*COMPILER, "-std=c++20", "-fsyntax-only", *macros, *(f"-I{folder}" for folder in folders), str(LAUNCHER)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
