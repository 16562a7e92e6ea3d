"""The verb doctor: what this installation is, and which implementations are live."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from hg3 import __version__
from hg3.extension import build_info, implementation, instruction_set
from hg3.training.device import default_device, device_model, resolve_precision

LIBRARIES = ("torch", "numpy", "pandas", "pyarrow", "scipy", "pydantic", "safetensors", "matplotlib")
EXTRAS = ("mlflow", "submitit", "scikit-learn", "sdmetrics", "lifelines")


def doctor() -> dict[str, Any]:
    """Return versions, device, precision, which implementation of each operator is live and how it was built."""
    device = default_device()
    return {
        "hg3": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {name: version(name) for name in LIBRARIES},
        "extras": {name: _version(name) for name in EXTRAS},
        "device": {"type": device.type, "model": device_model(device), "cuda": torch.version.cuda},
        "threads": torch.get_num_threads(),
        "precision": resolve_precision("auto", device),
        "reverse_step": implementation("reverse_step", device),
        "instructions": instruction_set(),
        "decode": implementation("decode", torch.device("cpu")),
        "extension": build_info(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
