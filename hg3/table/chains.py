"""Which categories go on together, and how: counted in training patients.

A regimen is several columns that change together. Two groups of columns become one as long as one says something of
the other and the combinations of codes that ten patients or more have are few, cover nearly all cells, and miss none
of the codes: a combination of fewer patients is none that a network is told of. A column by itself has all its codes.
"""

from dataclasses import dataclass, replace

import numpy as np

from hg3.layout import Block, Chain, Layout
from hg3.table.codecs import FEWEST_CARRIERS
from hg3.table.encoding import Encoded

MOST_STATES = 128  # a step costs their square
LEAST_SHARE = 0.99  # of the cells, that the combinations of enough patients cover
LEAST_INFORMATION = 0.02  # nats that two groups of columns say of each other
LEAST_MOBILITY, LARGEST_MOBILITY = 0.05, 9.0  # as good as none; all but a few patients never change
LARGEST_TABLE = 2**20  # counted as it is; a larger one has mostly empty places

Blocks = tuple[int, ...]


@dataclass(frozen=True)
class _Group:
    """Blocks on N patients and L times.

    Parameters
    ----------
    seen : bool (N, L), where they have a value.
    state : int64, of every seen cell, its combination of codes, by its row in `codes`.
    codes : int64 (combinations, blocks), those that occur; of a single block all codes.
    """

    blocks: Blocks
    seen: np.ndarray
    state: np.ndarray
    codes: np.ndarray

    def joined(self, other: "_Group") -> "_Group":
        both, state = np.unique(self.state * len(other.codes) + other.state, return_inverse=True)
        one, two = np.divmod(both, len(other.codes))
        return _Group(
            self.blocks + other.blocks, self.seen, state, np.concatenate([self.codes[one], other.codes[two]], axis=1)
        )


def fit_chains(encoded: Encoded, train: np.ndarray, layout: Layout) -> Layout:
    """Return the layout with chains of its categories, each in one of them; one of too many codes in none.

    Static categories are such of a single time: they have no transitions, but go together as others do.

    Parameters
    ----------
    train : bool, shape (N,): the patients to count.
    """
    static = _chains(encoded.x_static[train, :, None], encoded.observed_static[train, :, None], layout.static)
    observed = encoded.observed_dynamic[train]
    filled = np.broadcast_to(observed.any(axis=2, keepdims=True), observed.shape)  # what a network sees
    dynamic = _chains(encoded.x_dynamic[train], filled, layout.dynamic)
    return replace(layout, chains=dynamic, static_chains=static)


def _chains(x: np.ndarray, observed: np.ndarray, blocks: tuple[Block, ...]) -> tuple[Chain, ...]:
    """Return the chains of the categories among blocks, from x (N, C, L) and observed (N, blocks, L)."""
    wanted = [(number, block) for number, block in enumerate(blocks) if has_chain(block)]
    groups = [_alone(number, x[:, block.channels], observed[:, number]) for number, block in wanted]
    return tuple(_counted(group) for group in _merged(groups))


def has_chain(block: Block) -> bool:
    """Whether a block is one of categories, and of few enough to count what follows what."""
    return block.kind == "category" and block.width <= MOST_STATES


def _alone(number: int, x: np.ndarray, seen: np.ndarray) -> _Group:
    return _Group((number,), seen, x.argmax(axis=1)[seen], np.arange(x.shape[1])[:, None])


def _merged(groups: list[_Group]) -> list[_Group]:
    """Return the groups after all that can be one are; those that say most of each other first."""
    said: dict[tuple[Blocks, Blocks], float] = {}
    while True:
        pairs = [(a, b) for place, b in enumerate(groups) for a in groups[:place]]
        for a, b in pairs:
            if (a.blocks, b.blocks) not in said:
                said[a.blocks, b.blocks] = _information(a, b)
        for a, b in sorted(pairs, key=lambda pair: -said[pair[0].blocks, pair[1].blocks]):
            if said[a.blocks, b.blocks] <= LEAST_INFORMATION:
                return groups
            one = _kept(a.joined(b))
            if one is not None:
                groups = [one if group is a else group for group in groups if group is not b]
                break
            said[a.blocks, b.blocks] = 0.0
        else:
            return groups


def _information(one: _Group, other: _Group) -> float:
    """Return the mutual information of two groups of columns in nats; 0 where they have values in other cells."""
    if not len(one.state) or not np.array_equal(one.seen, other.seen):
        return 0.0
    both = one.state * len(other.codes) + other.state
    size = len(one.codes) * len(other.codes)
    if size <= LARGEST_TABLE:
        cells = np.bincount(both, minlength=size)
        place = np.flatnonzero(cells)
        cells = cells[place]
    else:
        place, cells = np.unique(both, return_counts=True)
    first, second = np.divmod(place, len(other.codes))
    alone = [np.bincount(group.state, minlength=len(group.codes)) for group in (one, other)]
    n = len(both)
    return float((cells / n * np.log(cells / n / (alone[0][first] / n * alone[1][second] / n))).sum())


def _is_common(group: _Group) -> np.ndarray:
    """Return which combinations ten patients or more have, bool (combinations,)."""
    n_patients = len(group.seen)
    carried = np.unique(group.state * n_patients + np.nonzero(group.seen)[0]) // n_patients
    return np.asarray(np.bincount(carried, minlength=len(group.codes)) >= FEWEST_CARRIERS)


def _kept(group: _Group) -> _Group | None:
    """Return the group if the combinations of enough patients can stand for all of it."""
    kept = _is_common(group)
    cells = np.bincount(group.state, minlength=len(group.codes))
    misses = any(set(codes) - set(codes[kept]) for codes in group.codes.T)
    if misses or kept.sum() > MOST_STATES or cells[kept].sum() < LEAST_SHARE * cells.sum():
        return None
    return group


def _counted(group: _Group) -> Chain:
    """Return the chain of a group, over the combinations of enough patients, or over all codes of a single block."""
    kept = _is_common(group) if len(group.blocks) > 1 else np.ones(len(group.codes), bool)
    place = np.where(kept, np.cumsum(kept) - 1, -1)
    state = np.full(group.seen.shape, -1)
    state[group.seen] = place[group.state]
    n = int(kept.sum())
    first, before, after = state[:, 0], state[:, :-1], state[:, 1:]
    both = (before >= 0) & (after >= 0)
    follow = np.bincount(before[both] * n + after[both], minlength=n * n).reshape(n, n)
    return Chain(
        group.blocks,
        tuple(map(tuple, group.codes[kept].tolist())),
        tuple(np.bincount(first[first >= 0], minlength=n).tolist()),
        tuple(map(tuple, follow.tolist())),
        _mobility(before, after, both, follow),
    )


def _mobility(before: np.ndarray, after: np.ndarray, both: np.ndarray, follow: np.ndarray) -> float:
    """Return the variance between patients of how much more often than the average they change; 0 where it may be.

    Were all alike, a patient's changes would vary around the sum E of the chances to change, with the variance V of so
    many draws. What they vary beyond it, (changes - E)^2 - V, is E^2 times the variance asked for (the moments of a
    frailty, Vaupel et al. 1979), which is taken for chance within two standard errors of 0.

    Parameters
    ----------
    before, after : int64 (N, L - 1), states of neighbouring times, where `both` are; follow : (S, S) their counts.
    """
    n_of = follow.sum(axis=1)
    chance = 1.0 - np.diag(follow) / np.maximum(n_of, 1)
    chance_here = np.where(both, chance[before], 0.0)
    changes = (both & (before != after)).sum(axis=1)
    expected = chance_here.sum(axis=1)
    excess = (changes - expected) ** 2 - (chance_here * (1.0 - chance_here)).sum(axis=1)
    total, error = float(excess.sum()), float(np.sqrt((excess**2).sum()))
    variance = total / max(float((expected**2).sum()), 1.0)
    return min(variance, LARGEST_MOBILITY) if total > 2.0 * error and variance >= LEAST_MOBILITY else 0.0
