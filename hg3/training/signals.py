"""Work that is asked to stop does so at its next step boundary: a signal only sets a flag."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# USR1 and USR2 are what SLURM can be told to send before a time limit; submitit tells it USR2
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Stopped:
    """Whether a signal has come, and which ones."""

    def __init__(self) -> None:
        self.caught: list[int] = []

    def __call__(self) -> bool:
        return bool(self.caught)


_outermost: Stopped | None = None


@contextmanager
def stop_on_signals() -> Iterator[Stopped]:
    """Turn SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 into a flag that loops look at; inside another, it is that one's."""
    global _outermost
    if _outermost is not None:
        yield _outermost
        return
    if threading.current_thread() is not threading.main_thread():  # Python allows handlers nowhere else
        yield Stopped()
        return
    _outermost = stopped = Stopped()
    previous = {number: signal.signal(number, lambda n, _: stopped.caught.append(n)) for number in NUMBERS}
    try:
        yield stopped
    finally:
        _outermost = None
        for number, handler in previous.items():
            signal.signal(number, handler)
