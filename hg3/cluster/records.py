"""What a task notes of itself while it works: a small file that whoever asks for the state reads."""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hg3 import disk
from hg3.errors import RunError

EVERY_SECONDS = 2.0


class Record:
    """The file of one piece of work: its state, how far it is, how fast, and why it failed."""

    def __init__(self, path: Path, job: str | None) -> None:
        self.path = path
        before = read_record(path)
        self.content: dict[str, Any] = {"job": job, "host": socket.gethostname(), "process": os.getpid()}
        idle = 0 if before.get("state") == "failed" else int(before.get("idle_starts", 0))
        self.idle_starts = idle + 1  # in a row in which nothing was done, this one too
        self.written = 0.0
        self.first: tuple[float, int, int] | None = None

    def begin(self) -> None:
        """Note that the work runs."""
        self._write(state="running", began=time.time())

    def tell(self, done: int, total: int | None, kept: int | None = None) -> None:
        """Note how far the work is, and how much a stop would leave, if not all; at most every few seconds."""
        now, kept = time.time(), done if kept is None else kept
        self.first = self.first or (now, done, kept)
        began, before, kept_before = self.first
        if kept > kept_before:
            self.idle_starts = 0
        speed = (done - before) / (now - began) if now > began else None
        self.content |= {"done": done, "total": total, "per_second": speed}
        if now - self.written >= EVERY_SECONDS:
            self._write()

    def end(self, state: str, error: str | None = None) -> None:
        """Note how it ended: "done", "stopped" (by a signal, to go on later), or "failed" and why."""
        self._write(state=state, error=error)

    def _write(self, **changes: Any) -> None:
        self.written = time.time()
        self.content |= {**changes, "at": self.written, "idle_starts": self.idle_starts}
        with suppress(OSError):  # a full disk stops the work at its own next step, not here
            disk.write_json(self.path, self.content)


def read_record(path: Path) -> dict[str, Any]:
    """Return what a piece of work noted last; nothing if it has not begun."""
    try:
        content = disk.read_json(path, "a record of hg3")
    except (RunError, OSError):
        return {}
    return content if isinstance(content, dict) else {}
