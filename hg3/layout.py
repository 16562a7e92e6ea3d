"""What the channels of an encoded patient are: the one thing that tables and networks both know."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Block:
    """Neighbouring channels that encode one thing: a real (width 1) or a category (one channel a code).

    `low` and `high` are the sampling bounds of a real in model space; a category lives on its simplex.
    """

    name: str
    kind: Literal["real", "category"]
    start: int
    width: int
    low: float = -math.inf
    high: float = math.inf

    @property
    def channels(self) -> slice:
        return slice(self.start, self.start + self.width)

    @property
    def fill(self) -> float:
        """What a cell without a value holds: the middle of a real, the uniform distribution of a category."""
        return 0.0 if self.kind == "real" else 2.0 / self.width - 1.0


def chained(blocks: Iterable[Block]) -> tuple[Block, ...]:
    """Return the blocks one after another: each starts where the one before it ends."""
    placed: list[Block] = []
    for block in blocks:
        start = placed[-1].start + placed[-1].width if placed else 0
        placed.append(replace(block, start=start))
    return tuple(placed)


@dataclass(frozen=True)
class Chain:
    """Categories that go on together: how often training patients had each combination of codes, and what came next.

    Parameters
    ----------
    blocks : positions of K category blocks in `Layout.dynamic`, or in `Layout.static`, which has a single time.
    states : the S combinations, each as K positions of codes.
    first : by state, at how many patients' first time it stood.
    next : by state, how often each state followed it.
    mobility : the variance between patients of how much more often than the average (1) a patient changes.
    """

    blocks: tuple[int, ...]
    states: tuple[tuple[int, ...], ...]
    first: tuple[int, ...]
    next: tuple[tuple[int, ...], ...]
    mobility: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return vars(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Chain":
        blocks, first = tuple(content["blocks"]), tuple(content["first"])
        states, follow = (tuple(map(tuple, content[key])) for key in ("states", "next"))
        return cls(blocks, states, first, follow, content.get("mobility", 0.0))


@dataclass(frozen=True)
class Layout:
    """The blocks of x_static (B, S) and of x_dynamic (B, C, L), with L = `length`, and how categories go on."""

    static: tuple[Block, ...]
    dynamic: tuple[Block, ...]
    length: int
    chains: tuple[Chain, ...] = ()
    static_chains: tuple[Chain, ...] = ()

    @property
    def n_static(self) -> int:
        """S, the number of static channels."""
        return sum(block.width for block in self.static)

    @property
    def n_dynamic(self) -> int:
        """C, the number of dynamic channels."""
        return sum(block.width for block in self.dynamic)

    def block(self, name: str, static: bool) -> Block | None:
        """Return the block of that name, if there is one."""
        return next((block for block in (self.static if static else self.dynamic) if block.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        return {
            "length": self.length,
            "static": [_block_to_dict(b) for b in self.static],
            "dynamic": [_block_to_dict(b) for b in self.dynamic],
            "chains": [chain.to_dict() for chain in self.chains],
            "static_chains": [chain.to_dict() for chain in self.static_chains],
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Layout":
        static, dynamic = (tuple(_block_from_dict(block) for block in content[part]) for part in ("static", "dynamic"))
        chains = (tuple(map(Chain.from_dict, content.get(key, ()))) for key in ("chains", "static_chains"))
        return cls(static, dynamic, content["length"], *chains)  # an older hg3 knew of no chains


def _block_to_dict(block: Block) -> dict[str, Any]:
    """Return the block as JSON can hold it: an infinite bound is null."""
    bounds = {side: None if math.isinf(v) else v for side, v in (("low", block.low), ("high", block.high))}
    return {"name": block.name, "kind": block.kind, "start": block.start, "width": block.width, **bounds}


def _block_from_dict(content: dict[str, Any]) -> Block:
    low = -math.inf if content["low"] is None else content["low"]
    high = math.inf if content["high"] is None else content["high"]
    return Block(content["name"], content["kind"], content["start"], content["width"], low, high)
