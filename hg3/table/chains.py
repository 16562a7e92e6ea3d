"""Which categories go on together, and how: counted in training patients.

A regimen is several columns that change together. Two groups of columns become one as long as one says something of
the other and the combinations that occur stay few and common: none of fewer than ten patients counts, so that none of
a single patient is learnt by heart.
"""

import math
from dataclasses import dataclass

import numpy as np

from hg3.layout import Block, Chain, Layout
from hg3.table.codecs import FEWEST_CARRIERS
from hg3.table.encoding import Encoded

MOST_NUMBERS = 2**62  # that combinations are told apart by
MOST_STATES = 128  # a step costs their square
LEAST_SHARE = 0.99  # of the cells, that the combinations of enough patients cover
LEAST_INFORMATION = 0.02  # nats that two groups of columns say of each other


@dataclass(frozen=True)
class _Group:
    """Blocks on N patients and L times: codes (N, L, blocks), and where they have a value, bool (N, L)."""

    blocks: tuple[int, ...]
    codes: np.ndarray
    seen: np.ndarray

    def joined(self, other: "_Group") -> "_Group":
        return _Group(self.blocks + other.blocks, np.concatenate([self.codes, other.codes], axis=2), self.seen)

    def numbers(self, widths: tuple[int, ...]) -> np.ndarray:
        """Return one number a combination, (N, L)."""
        return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(self.codes, 2, 0)), widths))


def fit_chains(encoded: Encoded, train: np.ndarray, layout: Layout) -> tuple[Chain, ...]:
    """Return the chains of the categories that change over time, each in one of them; one of too many codes in none.

    Parameters
    ----------
    train : bool, shape (N,): the patients to count.
    """
    groups = [
        _Group((number,), _codes(encoded.x_dynamic[train], block), encoded.observed_dynamic[train, number])
        for number, block in enumerate(layout.dynamic)
        if block.kind == "category" and block.width <= MOST_STATES
    ]
    widths = tuple(block.width for block in layout.dynamic)
    while pair := _next_pair(groups, widths):
        one, other = pair
        groups[one] = groups[one].joined(groups.pop(other))
    return tuple(_counted(group, widths) for group in groups)


def _codes(x: np.ndarray, block: Block) -> np.ndarray:
    return np.asarray(x[:, block.channels].argmax(axis=1)[:, :, None])


def _next_pair(groups: list[_Group], widths: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the two groups that say most of each other, of those that can be one."""
    found = []
    for other in range(len(groups)):
        for one in range(other):
            n_thinkable = math.prod(_of(groups[one], widths)) * math.prod(_of(groups[other], widths))
            if n_thinkable < MOST_NUMBERS and np.array_equal(groups[one].seen, groups[other].seen):
                said = _information(groups[one], groups[other], widths)
                found.append((said, one, other))
    for said, one, other in sorted(found, reverse=True):
        if said > LEAST_INFORMATION and _is_common(groups[one].joined(groups[other]), widths):
            return one, other
    return None


def _information(one: _Group, other: _Group, widths: tuple[int, ...]) -> float:
    """Return the mutual information of two groups of columns, in nats."""
    numbers = [group.numbers(_of(group, widths))[group.seen] for group in (one, other)]
    (_, first), (_, second) = (np.unique(n, return_inverse=True) for n in numbers)
    if not len(first):
        return 0.0
    width = int(second.max()) + 1
    share = np.bincount(first * width + second, minlength=(int(first.max()) + 1) * width).reshape(-1, width)
    share = share / share.sum()
    apart = share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)
    return float((share[share > 0] * np.log(share[share > 0] / apart[share > 0])).sum())


def _is_common(group: _Group, widths: tuple[int, ...]) -> bool:
    """Whether the combinations of enough patients are few and cover nearly all cells."""
    _, kept, cells = _combinations(group, widths)
    return bool(0 < kept.sum() <= MOST_STATES and cells[kept].sum() >= LEAST_SHARE * cells.sum())


def _combinations(group: _Group, widths: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the numbers of combinations that occur, which of them enough patients have, and their cells."""
    n_patients = len(group.seen)
    numbers, which, cells = np.unique(
        group.numbers(_of(group, widths))[group.seen], return_inverse=True, return_counts=True
    )
    carried = np.unique(which * n_patients + np.nonzero(group.seen)[0]) // n_patients
    return numbers, np.bincount(carried, minlength=len(numbers)) >= FEWEST_CARRIERS, cells


def _counted(group: _Group, widths: tuple[int, ...]) -> Chain:
    """Return the chain of a group: of one column over all its codes, else over the combinations of enough patients."""
    own = _of(group, widths)
    numbers = np.arange(own[0])
    if len(own) > 1:
        occurring, kept, _ = _combinations(group, widths)
        numbers = occurring[kept]
    found = group.numbers(own)
    place = np.searchsorted(numbers, found).clip(max=len(numbers) - 1)
    state = np.where(group.seen & (numbers[place] == found), place, -1)
    first, before, after = state[:, 0], state[:, :-1].ravel(), state[:, 1:].ravel()
    both = (before >= 0) & (after >= 0)
    follow = np.bincount(before[both] * len(numbers) + after[both], minlength=len(numbers) ** 2)
    states = np.stack(np.unravel_index(numbers, own), axis=1)
    return Chain(
        group.blocks,
        tuple(map(tuple, states.tolist())),
        tuple(np.bincount(first[first >= 0], minlength=len(numbers)).tolist()),
        tuple(map(tuple, follow.reshape(len(numbers), -1).tolist())),
    )


def _of(group: _Group, widths: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(widths[number] for number in group.blocks)
