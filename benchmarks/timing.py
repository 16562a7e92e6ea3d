"""Sides measured in one process, in turns."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Timed:
    """Seconds of a side: the least of its repeats, and the first call, which compiles, allocates and warms up."""

    seconds: float
    first: float


def in_turns(sides: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Timed]:
    """Return the seconds of each side, called `repeats` times in turns after a first call of each.

    The least is taken: what else runs on the machine can only add.
    """
    first = {name: _seconds(side) for name, side in sides.items()}
    least = dict.fromkeys(sides, float("inf"))
    for _ in range(repeats):
        for name, side in sides.items():
            least[name] = min(least[name], _seconds(side))
    return {name: Timed(least[name], first[name]) for name in sides}


def _seconds(side: Callable[[], Any]) -> float:
    _wait()
    started = time.perf_counter()
    side()
    _wait()
    return time.perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
