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
SIZE = 4096  # bytes of a record, blanks included: a full disk takes no more, and has these already
LONGEST_ERROR = 1000  # characters, so that it fits in
IN_LOG = ": the log of the job says where"  # the end of an error whose own text may hold data


class Record:
    """The file of one piece of work: its state, how far it is, how fast, and why it failed.

    idle_starts : how many starts in a row were ended by the time limit before anything was done.
    """

    def __init__(self, path: Path, job: str | None) -> None:
        self.path = path
        before = read_record(path)
        self.content: dict[str, Any] = {"job": job, "host": socket.gethostname(), "process": os.getpid()}
        self.idle_starts = 0 if before.get("state") == "failed" else int(before.get("idle_starts", 0))
        self.moved = False
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
            self.moved, self.idle_starts = True, 0
        speed = (done - before) / (now - began) if now > began else None
        self.content |= {"done": done, "total": total, "per_second": speed}
        if now - self.written >= EVERY_SECONDS:
            self._write()

    def count_idle(self) -> int:
        """Count this start if nothing was done in it; return how many such there were in a row."""
        self.idle_starts += not self.moved
        return self.idle_starts

    def end(self, state: str, error: str | None = None) -> None:
        """Note how it ended: "done", "stopped" (by a signal, to go on later), or "failed" and why."""
        self._write(state=state, error=error and error[:LONGEST_ERROR])

    def _write(self, **changes: Any) -> None:
        self.written = time.time()
        self.content |= {**changes, "at": self.written, "idle_starts": self.idle_starts}
        text = disk.json_text(self.content)
        text = " " * (SIZE - len(text.encode())) + text
        with suppress(OSError):  # a full disk stops the work at its own next step, not here
            try:
                disk.write_text(self.path, text)
            except OSError:
                _overwrite(self.path, text)


def _overwrite(path: Path, text: str) -> None:
    """Write where a file has its room already, as the last word of a task on a full disk."""
    with path.open("r+", encoding="utf-8") as file:
        file.write(text)
        file.truncate()


def read_record(path: Path) -> dict[str, Any]:
    """Return what a piece of work noted last; nothing if it has not begun."""
    try:
        content = disk.read_json(path, "a record of hg3")
    except (RunError, OSError):
        return {}
    return content if isinstance(content, dict) else {}
