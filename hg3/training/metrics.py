"""metrics.jsonl of a run: numbers of its updates, one line each."""

import json
import math
import os
from pathlib import Path
from typing import Any

from hg3 import disk
from hg3.training.loop import LOG_EVERY
from hg3.training.trainer import Progress


class Metrics:
    """metrics.jsonl: one line every tenth update and at each validation; a resume drops what it will repeat."""

    def __init__(self, path: Path, progress: Progress) -> None:
        kept = [line for line in _lines(path) if _update_of(line) <= progress.update]
        disk.write_text(path, "".join(line + "\n" for line in kept))
        self.file = path.open("a", encoding="utf-8")

    def add(self, entry: dict[str, Any]) -> None:
        if entry["update"] % LOG_EVERY == 0 or "validation" in entry:
            finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in entry.items()}
            self.file.write(json.dumps(finite) + "\n")
            self.file.flush()

    def secure(self) -> None:
        """Have the disk hold all lines: a checkpoint that outlives them would leave them out for good."""
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()


def _update_of(line: str) -> float:
    """Return the update of a line; infinity of one that is altered, which is dropped like one to be repeated."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return math.inf
    update = entry.get("update") if isinstance(entry, dict) else None
    return update if isinstance(update, int) else math.inf


def _lines(path: Path) -> list[str]:
    """Return the whole lines of a file that a kill may have cut within its last one."""
    if not path.is_file():
        return []
    whole = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    return [line for line in whole if line.startswith("{") and line.endswith("}")]
