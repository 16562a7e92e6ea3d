"""What a measured figure stands beside: machine, versions, load, and the data's hash."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

from hg3 import disk
from hg3.cluster.record import commit, preset_of
from hg3.diagnosis import doctor
from hg3.training.checkpoint import best_checkpoint, checkpoint_hash, read_state
from hg3.training.run import read_split


def machine() -> dict[str, Any]:
    """Return the machine, versions, commit and load of this moment; no host name, no path."""
    found = doctor()
    return {
        "device": found["device"],
        "threads": found["threads"],
        "python": platform.python_version(),
        "versions": found["versions"],
        "hg3": found["hg3"],
        "commit": commit(),
        "precision": found["precision"],
        "reverse_step": found["reverse_step"],
        "load_1min": round(os.getloadavg()[0], 2),
    }


def last_cache(device: torch.device) -> int | None:
    """Return the bytes of the largest cache before the memory: every L3 of the CPUs, or a GPU's L2; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).L2_cache_size
    caches = {}
    for folder in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index*"):
        if (folder / "level").read_text().strip() == "3":
            size = (folder / "size").read_text().strip()  # as in 32768K
            caches[(folder / "shared_cpu_list").read_text()] = int(size.removesuffix("K")) * 1024
    return sum(caches.values()) or None


def data(path: Path) -> dict[str, str]:
    """Return the name and SHA-256 of a file."""
    return {"file": path.name, "sha256": disk.sha256_of(path)}


def trained(run: Path) -> dict[str, Any]:
    """Return what a run was made of: its table's SHA-256, its preset, the checkpoint that generates, its update."""
    best = best_checkpoint(run)
    made = {"preset": preset_of(run).name, "checkpoint": checkpoint_hash(best), "update": read_state(best)["update"]}
    return {"data": {"sha256": read_split(run)["table"]["sha256"]}, "run": made}
