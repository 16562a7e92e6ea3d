"""Sides measured in one process, in turns."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch


@dataclass(frozen=True)
class Timed:
    """Seconds of a side: the least and the median of its repeats, and the first call, which compiles and warms up."""

    seconds: float
    median: float
    first: float


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


def _seconds(side: Callable[[], Any]) -> float:
    _wait()
    started = time.perf_counter()
    side()
    _wait()
    return time.perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
