"""The CUDA file compiles wherever nvcc is, without a GPU and without torch, into kernels that stay in registers."""

import re
import subprocess
from pathlib import Path
from shutil import which

import pytest
import torch

from tests.csrc.compilers import COMPILER, ROOT, setup_py

NVCC = which("nvcc")
KERNEL, LAUNCHER = ROOT / "csrc" / "reverse_step_cuda.cu", ROOT / "csrc" / "launch_cuda.cpp"
REPORT = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
RAW_TYPES = 3  # float32, bfloat16, float16: a kernel each
pytestmark = pytest.mark.skipif(NVCC is None, reason="nvcc is not on PATH")


def nvcc(*words: object) -> str:
    """Return what nvcc says; C++20 is what torch's build gives it."""
    command = [str(NVCC), "-std=c++20", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_kernels_stay_in_registers(tmp_path: Path, architecture: str) -> None:
    """A stack frame is what sincosf would bring, and spilling what a careless loop does: both go through memory."""
    flags = [*setup_py()["NVCC_FLAGS"], f"-arch={architecture}", "-Xptxas", "-v", "-cubin"]
    reports = REPORT.findall(nvcc(*flags, KERNEL, "-o", tmp_path / "kernel.cubin"))
    assert reports == [("0", "0", "0")] * RAW_TYPES


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
