"""Samples back to a table: clinical units, codes, missing cells, record lengths, rules."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from hg3.table.arrow import arrow_schema, code_type
from hg3.table.block_values import Draw, block_values
from hg3.table.encoding import Encoder, FittedColumn
from hg3.table.enforcement import Enforcer, RuleCount
from hg3.table.rules import ForbiddenRule
from hg3.table.schema import CONTINUES, OBSERVED_SUFFIX, PRESENT, TableSchema
from hg3.table.violations import Cells

SMALLEST_PROBABILITY = 1e-6  # a softmax may round to 0; its logarithm must stay finite


def decode(
    x_static: np.ndarray, x_dynamic: np.ndarray, patient: np.ndarray, encoder: Encoder, draw: Draw | None = None
) -> pa.Table:
    """Return patients in long format, sorted by patient and time.

    Parameters
    ----------
    x_static : float32, shape (N, S); x_dynamic : float32, shape (N, C, L), model space.
    patient : int64, shape (N,), the ids to write.
    draw : draws codes and missing cells from their probabilities, instead of taking what is most probable.
    """
    return decode_counted(x_static, x_dynamic, patient, encoder, draw)[0]


def decode_counted(
    x_static: np.ndarray, x_dynamic: np.ndarray, patient: np.ndarray, encoder: Encoder, draw: Draw | None = None
) -> tuple[pa.Table, list[RuleCount]]:
    """Return what `decode` does, and for each rule of the schema what keeping it took."""
    x = {True: x_static[:, :, None], False: x_dynamic}
    said = {static: block_values(part, encoder, static, patient, draw) for static, part in x.items()}
    kept = _rows(x_dynamic, said[False], encoder)
    missing = {f.column.name: _missing(said[f.column.static], f, encoder, kept.shape) for f in encoder.columns}
    values = {f.column.name: _values(said[f.column.static], f, kept.shape) for f in encoder.columns}
    released = encoder.released_schema()
    enforcer = Enforcer(encoder.schema, _decimals(released), _scores(x, encoder))
    kept, values, counts = _with_rules(kept, values, missing, enforcer)
    rows = _Rows.of(kept)
    schema = encoder.schema
    columns = {schema.patient: pa.array(patient[rows.number]), schema.time: _times(rows.time, schema)}
    for fitted in encoder.columns:
        name = fitted.column.name
        columns[name] = _column(rows.of_grid(values[name]), rows.of_grid(missing[name]), fitted)
    return pa.table(columns, schema=arrow_schema(released)), counts


class _Rows(NamedTuple):
    """The rows of a table: their places in a grid (N, L), and which patient and time that is; all (rows,)."""

    place: np.ndarray
    number: np.ndarray
    time: np.ndarray

    @classmethod
    def of(cls, kept: np.ndarray) -> "_Rows":
        place = np.flatnonzero(kept)
        return cls(place, *np.divmod(place, kept.shape[1]))

    def of_grid(self, grid: np.ndarray) -> np.ndarray:
        """Return the rows' cells of a grid, (N, L), or (N, 1) where a patient has one for all times."""
        return grid.ravel().take(self.number if grid.shape[1] == 1 else self.place)


def _with_rules(
    kept: np.ndarray, values: dict[str, np.ndarray], missing: dict[str, np.ndarray], enforcer: Enforcer
) -> tuple[np.ndarray, dict[str, np.ndarray], list[RuleCount]]:
    """Return rows and values as the rules of the schema want them, and the counts."""
    named = {name for rule in enforcer.schema.rules for name in rule.columns}
    ruled = {}
    for name in named:
        there = ~missing[name] if enforcer.schema.by_name[name].static else ~missing[name] & kept
        ruled[name] = np.where(there, values[name].astype(np.float64), np.nan)
    cells, counts = enforcer.enforce(Cells(ruled, kept))
    for name, cell in cells.values.items():
        there = ~np.isnan(cell)
        values[name] = np.where(there, cell, values[name]).astype(values[name].dtype)
    return cells.has_row, values, counts


def _decimals(schema: TableSchema) -> dict[str, int]:
    """Return the decimals of the real columns that have some; a constant may have none."""
    return {c.name: c.decimals for c in schema.columns if c.is_real and c.decimals is not None}


def _scores(x: dict[bool, np.ndarray], encoder: Encoder) -> dict[str, np.ndarray]:
    """Return how probable each code is, (N, codes, L or 1), by column that gives way under a rule.

    A constant column has no block; its codes are all alike.
    """
    scores = {}
    for name in {rule.columns[-1] for rule in encoder.schema.rules if isinstance(rule, ForbiddenRule)}:
        column = encoder.schema.by_name[name]
        block, of = encoder.layout.block(name, column.static), x[column.static]
        n, _, length = of.shape
        scores[name] = of[:, block.channels] if block else np.zeros((n, len(column.categories or ()), length))
    return scores


def _times(times: np.ndarray, schema: TableSchema) -> pa.Array:
    return pa.array((times + schema.first_time).astype(np.int32))


def _rows(x_dynamic: np.ndarray, said: dict[str, np.ndarray], encoder: Encoder) -> np.ndarray:
    """Return which times of each patient are rows, bool (N, L): inside the record, and not a gap."""
    n, _, length = x_dynamic.shape
    kept = np.ones((n, length), bool)
    continues = encoder.layout.block(CONTINUES, static=False)
    if continues is not None:
        kept &= np.arange(length) < record_length(x_dynamic[:, continues.channels])[:, None]
    if PRESENT in said:
        last = kept.sum(axis=1) - 1  # what is kept so far has no gap
        kept &= said[PRESENT] == 1
        kept[np.arange(n), last] = True  # a record ends with a row, by definition
    return kept


def record_length(block: np.ndarray) -> np.ndarray:
    """Return the lengths, at least 1, of highest joint probability, from a block (N, 2, L).

    The length k maximises sum_{l<k} log p_l + sum_{l>=k} log(1 - p_l), p_l the probability that the record
    goes on at time l.
    """
    p = np.clip((block[:, 1].astype(np.float64) + 1) / 2, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    gain = np.cumsum(np.log(p) - np.log1p(-p), axis=1)  # of length k = l + 1 over length 0
    return gain.argmax(axis=1) + 1


def _missing(said: dict[str, np.ndarray], fitted: FittedColumn, encoder: Encoder, shape: tuple[int, ...]) -> np.ndarray:
    """Return where the column has no value, bool (N, L) or (N, 1): its own flag, or its masking indicator."""
    static, name = fitted.column.static, fitted.column.name
    absent = np.zeros((shape[0], 1 if static else shape[1]), bool)
    if name + OBSERVED_SUFFIX in said:
        absent |= said[name + OBSERVED_SUFFIX] == 0
    indicator = encoder.schema.masked_by(name)
    if indicator is not None:
        masking = encoder.fitted(indicator)
        absent |= _values(said, masking, shape) != 1
        absent |= _missing(said, masking, encoder, shape)
    return absent


def _values(said: dict[str, np.ndarray], fitted: FittedColumn, shape: tuple[int, ...]) -> np.ndarray:
    """Return clinical values (real) or positions in the category table, (N, L) or (N, 1)."""
    column, constant = fitted.column, fitted.constant
    if column.name in said:
        return said[column.name]
    assert constant is not None
    alike = constant if column.is_real else fitted.categories.index(constant)
    return np.full((shape[0], 1 if column.static else shape[1]), alike)


def _column(values: np.ndarray, absent: np.ndarray, fitted: FittedColumn) -> pa.Array:
    mask = absent if absent.any() else None
    if fitted.column.is_real:
        return pa.array(values, pa.float64(), mask=mask)
    codes, kind = fitted.categories, code_type(fitted.categories)
    if pa.types.is_integer(kind):
        return pa.array(np.array(codes, kind.to_pandas_dtype()).take(values), kind, mask=mask)
    index = pa.array(values.astype(np.int32), mask=mask)
    return pa.DictionaryArray.from_arrays(index, pa.array([str(code) for code in codes]))
