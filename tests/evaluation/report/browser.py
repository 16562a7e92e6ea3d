"""A headless Chromium, spoken to over two pipes in its DevTools protocol."""

import base64
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
# The browser reads commands from descriptor 3 and writes what happens to 4.
START = """
import os, sys
reads, writes = (os.dup(int(number)) for number in sys.argv[1:3])
high = [os.dup2(end, 60 + place) for place, end in enumerate((reads, writes))]
os.dup2(high[0], 3), os.dup2(high[1], 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
PATIENCE_S = 60.0


def program() -> str | None:
    """Return the path of a Chromium, if there is one."""
    return next(filter(None, map(which, NAMES)), None)


@dataclass
class Browser:
    """One tab. `events` are all that it told about the network, the console and errors."""

    commands: int
    answers: int
    session: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    _number: int = 0
    _rest: bytes = b""

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return what the browser answers to a command."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._number:
                assert "error" not in told, told["error"]
                return dict(told["result"])
            self.events.append(told)

    def wait_for(self, method: str, since: int) -> None:
        """Wait for an event after the first `since` ones."""
        while not any(event.get("method") == method for event in self.events[since:]):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE_S
        while b"\0" not in self._rest:
            assert select.select([self.answers], [], [], end - time.monotonic())[0], "the browser says nothing"
            part = os.read(self.answers, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def run(self, script: str) -> Any:
        """Return the value of a piece of JavaScript."""
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def resize(self, width: int, height: int, mobile: bool = False) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def open(self, page: Path) -> None:
        since = len(self.events)
        self.ask("Page.navigate", url=page.absolute().as_uri())
        self.wait_for("Page.loadEventFired", since)

    def pdf(self) -> bytes:
        return base64.b64decode(self.ask("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])

    def named(self, *methods: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("method") in methods]


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Yield a browser with an empty tab; its profile lies in `folder`."""
    path = program()
    assert path is not None
    (reads, commands), (answers, writes) = os.pipe(), os.pipe()
    words = [sys.executable, "-c", START, str(reads), str(writes), path, *FLAGS]
    words += ["--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(words, pass_fds=(reads, writes), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        os.close(reads)
        os.close(writes)
        tab = Browser(commands, answers)
        try:
            target = tab.ask("Target.createTarget", url="about:blank")["targetId"]
            tab.session = tab.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                tab.ask(f"{domain}.enable")
            yield tab
            tab.session = ""
            with suppress(AssertionError, OSError):
                tab.ask("Browser.close")
        finally:
            os.close(commands)
            os.close(answers)
            try:
                run.wait(10)
            except subprocess.TimeoutExpired:
                run.kill()
