"""Where to compute and in what precision."""

import contextlib
import hashlib
import json
import os
import platform
import warnings
from typing import Any

import torch

KERNEL_CHOICES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")


def default_device() -> torch.device:
    """Return the GPU if there is one, else the CPU; of several processes on a node, each has a GPU of its own."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if "LOCAL_RANK" not in os.environ:
        return torch.device("cuda")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())


def device_model(device: torch.device) -> str:
    """Return what tells device models apart, which equal bytes require to be equal.

    One name of a CPU covers several generations: its kernels are chosen by instruction sets and cache sizes, which a
    digest stands for, and by the environment.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    has = torch.cpu.get_capabilities()
    kernels = {key: value for key, value in has.items() if not key.startswith("num_")}
    chosen = {key: os.environ[key] for key in KERNEL_CHOICES if key in os.environ}
    digest = hashlib.sha256(json.dumps([kernels, chosen], sort_keys=True).encode()).hexdigest()[:8]
    name = has.get("cpu_name") or platform.machine()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()}, {digest})"


def resolve_precision(wanted: str, device: torch.device) -> str:
    """Return bfloat16, float16 or float32 for a preset's precision; "auto" takes what the device has in hardware.

    A precision that is asked for outright and that a CPU only emulates is granted with a warning.
    """
    if wanted in ("auto", "float32"):
        return _native_precision(device) if wanted == "auto" else wanted
    if device.type == "cpu" and wanted != _native_precision(device):
        warnings.warn(f"this CPU has no {wanted}: torch emulates it, slower than float32", stacklevel=2)
    return wanted


def _native_precision(device: torch.device) -> str:
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    has = torch.cpu.get_capabilities()
    return "bfloat16" if has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16") else "float32"


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which the network computes in `precision`."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))
