"""Samples made to keep the rules of their schema: each patient by itself, without chance."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from hg3.table.column import lattice_bounds
from hg3.table.forbidden import least_repaired
from hg3.table.rules import AbsorbingRule, EndsRule, ForbiddenRule, MonotoneRule, OrderRule, Rule, forbidden_of
from hg3.table.schema import TableSchema
from hg3.table.violations import Cells, violations

NEARLY_WHOLE = 6  # decimals
MOST_CHANGES = 4  # of columns that give way together in a row
MORE_ROUNDS = 20  # than there are rules; those that can hold together mostly settle in two or three


@dataclass(frozen=True)
class RuleCount:
    """What became of one rule: where it could be broken, where it was before and after, and what that took.

    `eligible` and both `violations` count rows or cells (patients, if the rule is about static columns), as
    `violations.violations` says; `rows_dropped` are those after an end, and those that no change could mend.
    """

    eligible: int = 0
    violations_before: int = 0
    cells_changed: int = 0
    rows_dropped: int = 0
    violations_after: int = 0

    def __add__(self, other: "RuleCount") -> "RuleCount":
        mine, others = asdict(self), asdict(other)
        return RuleCount(**{key: mine[key] + others[key] for key in mine})


def total(counts: list[list[RuleCount]]) -> list[RuleCount]:
    """Return the sums over blocks or parts of the counts of each rule."""
    return [sum(of_rule, RuleCount()) for of_rule in zip(*counts, strict=True)]


@dataclass(frozen=True)
class Enforcer:
    """The rules of a schema and what keeping them needs to know of a sample.

    Parameters
    ----------
    decimals : by real column, those of the release.
    scores : by column that gives way, how probable each code is, float, shape (N, codes, L), or (N, codes, 1).
    """

    schema: TableSchema
    decimals: Mapping[str, int]
    scores: Mapping[str, np.ndarray]

    def enforce(self, cells: Cells) -> tuple[Cells, list[RuleCount]]:
        """Return the cells with every rule kept, and a count for each rule.

        A patient is changed only where a rule is broken. Rules are applied in turn until all are kept. Where they
        undo each other for good, the columns that give way are looked at together, and the rows that then break one
        are dropped: what keeps the rules keeps them with fewer rows, too. What then is still broken, among static
        columns or in all rows of a patient, is counted.
        """
        counts = [RuleCount(*self._count(rule, cells)) for rule in self.schema.rules]
        for _ in range(len(self.schema.rules) + MORE_ROUNDS):
            settled = True
            for number, rule in enumerate(self.schema.rules):
                broken, _ = violations(rule, cells, self.schema.by_name)
                if broken.any():
                    settled, before = False, cells
                    cells = self._mended(rule, cells, broken)
                    counts[number] += _difference(rule, before, cells)
            if settled:
                break
        else:
            cells = self._dropped(self._searched(cells, counts), counts)
        after = [self._count(rule, cells)[1] for rule in self.schema.rules]
        return cells, [replace(c, violations_after=n) for c, n in zip(counts, after, strict=True)]

    def _searched(self, cells: Cells, counts: list[RuleCount]) -> Cells:
        """Return the cells with codes of the columns that give way which break no forbidden rule, few of them other."""
        columns, values = self.schema.by_name, {name: value.copy() for name, value in cells.values.items()}
        for static in (True, False):
            rules = forbidden_of(self.schema.rules, columns, static)
            combinations = [combination for _, combination in rules]
            first = {rule.columns[-1]: rule for rule, _ in reversed(rules)}
            broken = [violations(rule, Cells(values, cells.has_row), columns)[0] for rule, _ in rules]
            for patient, time in np.argwhere(np.any(broken, axis=0)) if rules else ():
                at = {name: (patient, 0 if columns[name].static else time) for c in combinations for name in c}
                state = {name: int(values[name][at[name]]) for name in at if not np.isnan(values[name][at[name]])}
                choices = {
                    name: np.argsort(-self.scores[name][patient, :, at[name][1]], kind="stable").tolist()
                    for name in first
                    if name in state
                }
                found = least_repaired(state, combinations, choices, MOST_CHANGES) or state
                for name in (name for name in found if found[name] != state[name]):
                    values[name][at[name]] = found[name]
                    counts[self.schema.rules.index(first[name])] += RuleCount(cells_changed=1)
        return Cells(values, cells.has_row)

    def _dropped(self, cells: Cells, counts: list[RuleCount]) -> Cells:
        """Return the cells without the rows that break a rule, but for patients who would have none left."""
        for number, rule in enumerate(self.schema.rules):
            if all(self.schema.by_name[name].static for name in rule.columns):
                continue
            broken, _ = violations(rule, cells, self.schema.by_name)
            kept = cells.has_row & ~broken
            kept = np.where(kept.any(axis=1, keepdims=True), kept, cells.has_row)
            counts[number] += RuleCount(rows_dropped=int((cells.has_row & ~kept).sum()))
            cells = _cut(cells, kept, self.schema)
        return cells

    def _count(self, rule: Rule, cells: Cells) -> tuple[int, int]:
        broken, could = violations(rule, cells, self.schema.by_name)
        return int(could.sum()), int(broken.sum())

    def _mended(self, rule: Rule, cells: Cells, broken: np.ndarray) -> Cells:
        """Return the cells changed where `rule` is broken, bool as `violations` gives it."""
        match rule:
            case OrderRule():
                changed = self._sorted(rule, cells, broken)
            case ForbiddenRule():
                changed = self._given_way(rule, cells, broken)
            case MonotoneRule(column=name, direction=direction):
                accumulate = np.fmax.accumulate if direction == "increasing" else np.fmin.accumulate
                changed = {name: np.where(broken, accumulate(cells.values[name], axis=1), cells.values[name])}
            case AbsorbingRule(column=name, code=code):
                position = self.schema.by_name[name].position(code)
                changed = {name: np.where(broken, position, cells.values[name])}
            case EndsRule():
                return _cut(cells, cells.has_row & ~broken, self.schema)
        return Cells(cells.values | changed, cells.has_row)

    def _sorted(self, rule: OrderRule, cells: Cells, broken: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns with their values sorted in each broken row; empty cells stay empty."""
        values = np.stack([cells.values[name][broken] for name in rule.columns])
        there = ~np.isnan(values)
        rank = np.maximum(there.cumsum(axis=0) - 1, 0)
        values = np.where(there, np.take_along_axis(np.sort(values, axis=0), rank, axis=0), np.nan)
        out = {name: cells.values[name].copy() for name in rule.columns}
        for name, value in zip(rule.columns, self._on_lattices(values, rule.columns), strict=True):
            out[name][broken] = value
        return out

    def _on_lattices(self, values: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        """Return rising values (columns, rows) at the decimals and inside the bounds of their columns, still rising.

        Each goes to the nearest decimal that is not below the one before it; then, from the last to the first, to one
        that is inside its bounds and not above the one after it. Bounds rise along the order, so that there is one.
        """
        values = values.copy()
        lowest = np.full(values.shape[1], -np.inf)
        for number, name in enumerate(names):
            rounded = self._rounded(values[number], name, np.round)
            values[number] = np.maximum(rounded, self._rounded(lowest, name, np.ceil))
            lowest = np.fmax(lowest, values[number])
        highest = np.full(values.shape[1], np.inf)
        for number, name in reversed(list(enumerate(names))):
            low, high = self._ends(name)
            values[number] = (
                np.clip(np.minimum(values[number], self._rounded(highest, name, np.floor)), low, high) + 0.0
            )
            highest = np.fmin(highest, values[number])
        return values

    def _rounded(self, value: np.ndarray, name: str, how: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return `value` rounded by `how` to the decimals of column `name`, if it has some."""
        if name not in self.decimals:
            return value
        scale = 10.0 ** self.decimals[name]
        steps = np.round(value * scale, NEARLY_WHOLE)  # 0.3 has three steps of 0.1, whatever floats make of it
        return np.round(how(steps) / scale, self.decimals[name])

    def _ends(self, name: str) -> tuple[float, float]:
        bounds = self.schema.by_name[name].bounds
        return lattice_bounds(bounds, self.decimals[name]) if name in self.decimals else bounds

    def _given_way(self, rule: ForbiddenRule, cells: Cells, broken: np.ndarray) -> dict[str, np.ndarray]:
        """Return the column named last with its most probable code that no rule forbids in each broken row.

        Where every code breaks some rule, one that breaks only rules in which other columns give way is taken.
        """
        name = rule.columns[-1]
        score = np.moveaxis(self.scores[name], 1, -1)[broken]
        order = np.argsort(np.argsort(score, axis=1, kind="stable"), axis=1).astype(np.float64)  # ranks, no infinities
        banned = self._banned(name, cells, broken, lambda other: other.columns[-1] == name)
        disliked = self._banned(name, cells, broken, lambda other: other.columns[-1] != name)
        order -= np.where(disliked, score.shape[1], 0)
        order[banned] = -np.inf
        current = cells.values[name].copy()
        current[broken] = np.where(banned.all(axis=1), current[broken], order.argmax(axis=1))
        return {name: current}

    def _banned(
        self, name: str, cells: Cells, broken: np.ndarray, counts: Callable[[ForbiddenRule], bool]
    ) -> np.ndarray:
        """Return which codes of column `name` complete a combination whose rule `counts`, bool (cells, codes)."""
        columns = self.schema.by_name
        banned = np.zeros((int(broken.sum()), len(columns[name].categories or ())), bool)
        for rule in self.schema.rules:
            if not isinstance(rule, ForbiddenRule) or name not in rule.codes or not counts(rule):
                continue
            rest = np.ones_like(broken)
            for other, code in rule.codes.items():
                if other != name:
                    rest = rest & (cells.values[other] == columns[other].position(code))
            if rest.shape == broken.shape:  # else a static column among moving ones, of which one gives way
                banned[rest[broken], columns[name].position(rule.codes[name])] = True
        return banned


def _cut(cells: Cells, has_row: np.ndarray, schema: TableSchema) -> Cells:
    """Return the cells with the rows `has_row` only."""
    values = {
        name: value if schema.by_name[name].static else np.where(has_row, value, np.nan)
        for name, value in cells.values.items()
    }
    return Cells(values, has_row)


def _difference(rule: Rule, before: Cells, after: Cells) -> RuleCount:
    """Return how many cells of the rule's columns and how many rows its application changed."""
    if isinstance(rule, EndsRule):
        return RuleCount(rows_dropped=int((before.has_row & ~after.has_row).sum()))
    pairs = [(before.values[name], after.values[name]) for name in rule.columns]
    return RuleCount(cells_changed=sum(int((~np.isnan(b) & (b != a)).sum()) for b, a in pairs))
