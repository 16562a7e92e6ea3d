"""What a job is given to do, and how it is spoken with: plain data, how far it is, whether it is to stop."""

from collections.abc import Callable
from typing import Any, Protocol

Call = dict[str, Any]  # arguments of one piece of work: plain data, as work.json holds it
Stop = Callable[[], bool]


class Tell(Protocol):
    """Takes how much is done, of how much, and how much of it a stop would leave; all of it if not said."""

    def __call__(self, done: int, total: int | None, kept: int | None = None) -> None: ...


class StoppedError(Exception):
    """A signal came where work can only be left by an exception."""
