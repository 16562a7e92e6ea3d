"""What a training takes of its node: system.jsonl, one line a look, never rewritten."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

LOOK_EVERY_S = 10.0
MB = 1e6


class Meter:
    """Looks at this process now and then: processor, memory, GPU; named as MLflow's page of system metrics wants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.step = path.read_bytes().count(b"\n") if path.is_file() else 0
        self.looked, self.spent = time.monotonic(), _processor_s()

    def write(self) -> None:
        """Write a line, unless the last one is younger than ten seconds."""
        now, spent = time.monotonic(), _processor_s()
        if now - self.looked < LOOK_EVERY_S:
            return
        share = 100 * (spent - self.spent) / (now - self.looked)
        self.looked, self.spent = now, spent
        entry: dict[str, Any] = {"time": time.time_ns() // 1_000_000, "step": self.step}
        entry |= {"system/cpu_utilization_percentage": round(share, 1), **_memory(), **_gpus()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self.step += 1


def _processor_s() -> float:
    """Return the processor time of this process and of the children that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _memory() -> dict[str, float]:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return {}  # no Linux
    return {"system/system_memory_usage_megabytes": round(pages * os.sysconf("SC_PAGE_SIZE") / MB, 1)}


def _gpus() -> dict[str, float]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    found = {}
    for device in range(torch.cuda.device_count()):
        if not torch.cuda.memory_reserved(device):
            continue  # another's: a look at it would take half a gigabyte of it
        free, total = torch.cuda.mem_get_info(device)
        found[f"system/gpu_{device}_memory_usage_megabytes"] = round((total - free) / MB, 1)
        try:
            found[f"system/gpu_{device}_utilization_percentage"] = float(torch.cuda.utilization(device))
        except (ImportError, RuntimeError, OSError):  # without NVIDIA's own library, or without its leave
            continue
    return found
