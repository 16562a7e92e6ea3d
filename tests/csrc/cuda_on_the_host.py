"""The CUDA kernel's own source, compiled for the host and called like the operator: its logic without a GPU."""

import ctypes
import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.csrc.compilers import COMPILER, ROOT, setup_py

KERNEL_FLAGS = "HG3_HOST_KERNEL_FLAGS"  # in the environment: further flags for the compiler, of sanitizers
HERE = Path(__file__).parent
CUDA_HEADERS = ("cuda_bf16.h", "cuda_fp16.h", "cuda_runtime_api.h")
# What no header can give a C++ compiler: memory of a size known at the launch, an instruction, and the launch.
REPLACED = (
    (r"extern __shared__ float4 shared\[\];", "float4* shared = host::shared.data();"),
    (r"asm volatile\(.*\(from \+ i\)\)\);", "static_cast<void>(*static_cast<const volatile char*>(from + i));"),
    (r"kernel<<<(.*), (.*), (.*), stream>>>\((.*)\);", r"host::run(\1, \2, \3, [&] { kernel(\4); });"),
)
RAW_TYPES = (torch.float32, torch.bfloat16, torch.float16)  # as RawType counts them
POINTER, INT64 = ctypes.c_void_p, ctypes.c_int64


class DeviceStep(ctypes.Structure):
    """DeviceStep of csrc/reverse_step_cuda.h."""

    _fields_ = [
        *((name, POINTER) for name in ("x_t", "x_0_prev", "x_s", "x_0_hat")),
        ("always_x_0_hat", ctypes.c_bool),
        ("raw", POINTER),
        ("raw_type", ctypes.c_int),
        ("raw_stride", INT64 * 3),
        *((name, INT64) for name in ("B", "C", "L")),
        ("rows", POINTER),
        ("n_rows", INT64),
        *((name, POINTER) for name in ("layout", "bounds", "step", "seed", "patient", "stream", "moved", "nonfinite")),
    ]


def source_for_the_host() -> str:
    source = (ROOT / "csrc" / "reverse_step_cuda.cu").read_text(encoding="utf-8")
    for pattern, replacement in REPLACED:
        source, n_replaced = re.subn(pattern, replacement, source)
        assert n_replaced == 1, f"{pattern} stands {n_replaced} times in the kernel's source, expected once"
    return (
        source + 'extern "C" int launch(const hg3::DeviceStep& call) { return launch_reverse_step(call, nullptr); }\n'
    )


def compile_for_the_host(folder: Path) -> ctypes.CDLL:
    """Return the kernel's source as a library of the host, made in `folder`."""
    (folder / "kernel.cpp").write_text(source_for_the_host(), encoding="utf-8")
    for name in CUDA_HEADERS:
        (folder / name).write_text('#include "cuda_on_the_host.h"\n', encoding="utf-8")
    flags = [
        *setup_py()["CXX_FLAGS"],
        "-std=c++20",
        "-fPIC",
        "-shared",
        "-pthread",
        *os.environ.get(KERNEL_FLAGS, "").split(),
    ]
    folders = [f"-I{path}" for path in (folder, HERE, ROOT / "csrc")]
    command = [*COMPILER, *flags, *folders, str(folder / "kernel.cpp"), "-o", str(folder / "kernel.so")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(folder / "kernel.so"))


def launch(library: ctypes.CDLL, args: tuple[Tensor, ...], x_s: Tensor, x_0_hat: Tensor, always: bool) -> list[Tensor]:
    """Launch the kernel on tensors of the host, as csrc/launch_cuda.cpp does on a device's; return the counts."""
    x_t, raw, x_0_prev, rows, step, layout, bounds, seed, patient, stream = args
    moved, nonfinite = torch.full_like(patient, -1), torch.full_like(patient, -1)
    call = DeviceStep(
        *(part.data_ptr() for part in (x_t, x_0_prev, x_s, x_0_hat)),
        always,
        raw.data_ptr(),
        RAW_TYPES.index(raw.dtype),
        (INT64 * 3)(*raw.stride()),
        *x_t.shape,
        rows.data_ptr(),
        len(rows),
        *(part.data_ptr() for part in (layout, bounds, step, seed, patient, stream, moved, nonfinite)),
    )
    if library.launch(ctypes.byref(call)) != 0:
        pytest.fail("the launch was refused")
    return [moved, nonfinite]
