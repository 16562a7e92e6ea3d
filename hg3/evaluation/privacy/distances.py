"""How far patients' whole records lie apart, in blocks: no matrix of all patients against all is ever kept.

Each column weighs the same. At a time, a category counts 1 if the codes differ; a real counts twice the squared
difference of its rank scores, so that two patients at random lie 1/3 apart, as by the absolute difference. What only
one of two records has, a value or a row, counts 1 of a category and 1/2 to 1 of a real. A moving column is averaged
over the times of the longer record, a static one counts as much as a moving one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hg3.evaluation.draws import Parts
from hg3.evaluation.features import encode, may_lack
from hg3.evaluation.panel import Panel
from hg3.table.column import Column
from hg3.table.schema import TableSchema

BLOCK = 2**21  # distances at a time: 8 MB
HALF = np.sqrt(0.5)  # two codes differ in two numbers
GRAIN = 2.0**-18  # of the largest square: below it, float32 sums of one thing in two orders differ


@dataclass(frozen=True)
class Points:
    """N patients as points whose squared distances are those of their records.

    Parameters
    ----------
    static : float32, shape (N, S); moving : float32, shape (N, L * D).
    lengths : float32, shape (N,): times of each record, at least 1.
    n_columns : how many columns a distance is the mean over.
    """

    static: np.ndarray
    moving: np.ndarray
    lengths: np.ndarray
    n_columns: int

    def __len__(self) -> int:
        return len(self.lengths)

    def of(self, patients: np.ndarray) -> "Points":
        """Return some of the patients, by position or mask."""
        return Points(self.static[patients], self.moving[patients], self.lengths[patients], self.n_columns)


def points(panels: Parts[Panel]) -> Parts[Points]:
    """Return all patients as points of one space, whose scale is made from the real ones."""
    encoded, schema = encode(panels), panels.holdout.schema
    static, moving = _weights(schema, panels.holdout, static=True), _weights(schema, panels.holdout, static=False)

    def of_part(part: str) -> Points:
        numbers, panel = getattr(encoded, part), getattr(panels, part)
        scaled = (numbers.moving * moving).reshape(panel.n_patients, -1)
        lengths = np.maximum(panel.lengths, 1).astype(np.float32)
        return Points(numbers.static * static, scaled, lengths, len(schema.columns))

    return Parts(of_part("made"), of_part("train"), of_part("holdout"))


def _weights(schema: TableSchema, panel: Panel, static: bool) -> np.ndarray:
    """Return what each number of `encode` is multiplied by, float32: of the static ones, or of those at a time."""
    chosen = [column for column in schema.columns if column.static == static]
    weights = [weight for column in chosen for weight in _column_weights(schema, panel, column)]
    if not static:  # a row that only one record has, for the columns that do not say so themselves
        weights.append(np.sqrt(0.5 * sum(not may_lack(schema, column) for column in chosen)))
    return np.array(weights, np.float32)


def _column_weights(schema: TableSchema, panel: Panel, column: Column) -> list[float]:
    numbers = [np.sqrt(2.0)] if column.is_real else [HALF] * panel.n_codes(column)
    return numbers + [HALF] * may_lack(schema, column)


def blocks(one: Points, other: Points) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield some patients of `one` and their distances to all of `other`, float32, shape (some, M)."""
    grain = _grain(one, other)
    rows = max(1, BLOCK // max(len(other), 1))
    for start in range(0, len(one), rows):
        some = slice(start, start + rows)
        apart = _squared(one.moving[some], other.moving, grain)
        apart /= np.maximum(one.lengths[some, None], other.lengths)
        apart += _squared(one.static[some], other.static, grain)
        apart /= one.n_columns
        yield some, apart


def _grain(one: Points, other: Points) -> np.float32:
    """Return a power of 2 to round squares to, so that a copy lies at 0 and as many codes that differ are a tie."""
    sides = (one.static, one.moving, other.static, other.moving)
    largest = max(float(_squares(side).max(initial=1.0)) for side in sides)
    return np.float32(2.0 ** np.ceil(np.log2(largest * GRAIN)))


def _squares(numbers: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", numbers, numbers)


def _squared(one: np.ndarray, other: np.ndarray, grain: np.float32) -> np.ndarray:
    """Return squared distances by one product of matrices, rounded to `grain`, (N, M)."""
    apart = one @ other.T
    apart *= -2.0
    apart += _squares(one)[:, None]
    apart += _squares(other)
    apart /= grain
    np.rint(apart, out=apart)
    apart *= grain
    return apart


def distances(one: Points, other: Points) -> np.ndarray:
    """Return all distances between few patients, float32, shape (N, M)."""
    return np.concatenate([apart for _, apart in blocks(one, other)] or [np.zeros((0, len(other)), np.float32)])


def nearest(one: Points, other: Points, k: int = 1) -> np.ndarray:
    """Return each patient's distances to the k nearest of `other`, float32, (N, k), or (N, M) if there are fewer."""
    k = min(k, len(other))
    found = np.empty((len(one), k), np.float32)
    for some, apart in blocks(one, other):
        found[some] = apart.min(axis=1, keepdims=True) if k == 1 else np.partition(apart, k - 1, axis=1)[:, :k]
    return found
