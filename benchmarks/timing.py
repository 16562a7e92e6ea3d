"""Sides measured in one process, in turns; and where the time of one of them goes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Timed:
    """Seconds of a side: the least and the median of its repeats, and the first call, which compiles and warms up."""

    seconds: float
    median: float
    first: float

    def over(self, n: int) -> "Timed":
        """Return the seconds of one of `n` patients."""
        return Timed(self.seconds / n, self.median / n, self.first / n)


def in_turns(sides: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Timed]:
    """Return the seconds of each side, called `repeats` times in turns after a first call of each.

    The least is taken: what else runs on the machine can only add.
    """
    first = {name: _seconds(side) for name, side in sides.items()}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            taken[name].append(_seconds(side))
    return {name: Timed(min(taken[name]), median(taken[name]), first[name]) for name in sides}


def lever(name: str, without: Timed, with_it: Timed) -> dict[str, Any]:
    """Return a row: how many times as fast a side is with a lever as without it; of medians, too, to tell chance."""
    times = {"times": without.seconds / with_it.seconds, "times_of_medians": without.median / with_it.median}
    return {"lever": name, **{key: round(value, 3) for key, value in times.items()}}


def print_levers(rows: list[dict[str, Any]]) -> None:
    print(f"{'lever, all else equal':<60}{'times':>8}{'of medians':>12}")
    for row in rows:
        known = [f"{row[key]:.3f}" for key in ("times", "times_of_medians") if key in row]
        print(f"{row['lever']:<60}" + (f"{known[0]:>8}{''.join(known[1:]):>12}" if known else f"  {row['skipped']}"))


class Parts:
    """Seconds by part of what calls each other: a function's or a module's own, without what those it calls take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since = 0.0

    def function(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` such that its own time counts for `part`."""

        def timed(*given: Any, **named: Any) -> Any:
            self._enter(part)
            try:
                return function(*given, **named)
            finally:
                self._leave()

        return timed

    def modules(self, network: nn.Module, names: Mapping[str, str]) -> None:
        """Let the own time of every module of `network` count for what `names` calls its class."""
        for module in network.modules():
            part = names[type(module).__name__]
            module.register_forward_pre_hook(lambda _, __, part=part: self._enter(part))
            module.register_forward_hook(lambda _, __, ___: self._leave())

    def shares(self) -> dict[str, float]:
        """Return the share of each part, the largest first."""
        whole = sum(self.seconds.values())
        largest = sorted(self.seconds.items(), key=lambda item: -item[1])
        return {part: round(seconds / whole, 4) for part, seconds in largest}

    def _enter(self, part: str) -> None:
        self._count()
        self._running.append(part)

    def _leave(self) -> None:
        self._count()
        self._running.pop()

    def _count(self) -> None:
        """Count the time since the last change for the part that is running."""
        wait()
        now = time.perf_counter()
        if self._running:
            part = self._running[-1]
            self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since = now


def _seconds(side: Callable[[], Any]) -> float:
    wait()
    started = time.perf_counter()
    side()
    wait()
    return time.perf_counter() - started


def wait() -> None:
    """Wait for what a GPU was given to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
