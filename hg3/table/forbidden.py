"""Forbidden combinations taken together: is there a way out, whatever the columns that do not give way hold?"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice, product

Combination = Mapping[str, int]  # the positions of codes, by column, that no row has together
MOST_STATES = 20_000  # looked at when a schema is read; beyond, what cannot be kept shows in a sample alone


def repaired(
    state: dict[str, int],
    combinations: Sequence[Combination],
    choices: Mapping[str, Sequence[int]],
    changes: int,
) -> dict[str, int] | None:
    """Return `state` without a forbidden combination, after at most `changes` changes; None if there is no such state.

    Parameters
    ----------
    state : positions of codes by column. choices : by column that gives way, the positions to try, best first.

    Notes
    -----
    A state that breaks no rule differs from one that does in a column of the broken combination, so to branch there
    finds it if there is one.
    """
    broken = next((c for c in combinations if all(state.get(name) == code for name, code in c.items())), None)
    if broken is None:
        return state
    for name in broken if changes else ():
        others = {column: codes for column, codes in choices.items() if column != name}
        for code in choices.get(name, ()):
            if code != state[name] and (found := repaired({**state, name: code}, combinations, others, changes - 1)):
                return found
    return None


def least_repaired(
    state: dict[str, int], combinations: Sequence[Combination], choices: Mapping[str, Sequence[int]], most: int
) -> dict[str, int] | None:
    """Return `repaired` with the fewest changes, at most `most`."""
    tries = (repaired(state, combinations, choices, changes) for changes in range(most + 1))
    return next((found for found in tries if found is not None), None)


def dead_end(
    combinations: Sequence[Combination],
    sizes: Mapping[str, int],
    givers: Collection[str],
    kept: Sequence[Combination],
) -> dict[str, int] | None:
    """Return codes of the columns that do not give way with which the others have no way out; None if there are none.

    Parameters
    ----------
    sizes : by column, how many codes it has; those that no combination names are as good as each other: one of them,
        -1, stands for all.
    kept : combinations that other columns have given way to before.
    """
    for part in _connected(combinations):
        codes: dict[str, set[int]] = {name: set() for combination in part for name in combination}
        for name, named in codes.items():
            named.update(combination[name] for combination in part if name in combination)
            named.update({-1} if len(named) < sizes[name] else ())
        yielding = {name: sorted(codes[name]) for name in codes if name in givers}
        for held in _states({name: sorted(codes[name]) for name in codes if name not in givers}):
            start = {**held, **{name: choices[0] for name, choices in yielding.items()}}
            possible = repaired(held, kept, {}, 0) is not None
            if possible and repaired(start, part, yielding, len(yielding)) is None:
                return held
    return None


def _states(codes: Mapping[str, Sequence[int]]) -> Iterator[dict[str, int]]:
    for state in islice(product(*codes.values()), MOST_STATES):
        yield dict(zip(codes, state, strict=True))


def _connected(combinations: Sequence[Combination]) -> list[list[Combination]]:
    """Return the combinations in groups that share columns, directly or through others."""
    groups: list[tuple[set[str], list[Combination]]] = []
    for combination in combinations:
        touched = [group for group in groups if group[0] & set(combination)]
        names = set(combination).union(*(group[0] for group in touched))
        groups = [group for group in groups if group not in touched]
        groups.append((names, [*(c for group in touched for c in group[1]), combination]))
    return [group[1] for group in groups]
