"""Samples back to a table: clinical units, codes, missing cells, record lengths, rules."""

import numpy as np
import pyarrow as pa

from hg3.layout import Block
from hg3.table.column import Code
from hg3.table.encoding import Encoder, FittedColumn
from hg3.table.enforcement import Enforcer, RuleCount
from hg3.table.rules import ForbiddenRule
from hg3.table.schema import CONTINUES, OBSERVED_SUFFIX, PRESENT, TableSchema
from hg3.table.violations import Cells

SMALLEST_PROBABILITY = 1e-6  # a softmax may round to 0; its logarithm must stay finite


def decode(x_static: np.ndarray, x_dynamic: np.ndarray, patient: np.ndarray, encoder: Encoder) -> pa.Table:
    """Return patients in long format, sorted by patient and time.

    Parameters
    ----------
    x_static : float32, shape (N, S); x_dynamic : float32, shape (N, C, L), model space.
    patient : int64, shape (N,), the ids to write.
    """
    return decode_counted(x_static, x_dynamic, patient, encoder)[0]


def decode_counted(
    x_static: np.ndarray, x_dynamic: np.ndarray, patient: np.ndarray, encoder: Encoder
) -> tuple[pa.Table, list[RuleCount]]:
    """Return what `decode` does, and for each rule of the schema what keeping it took."""
    x = {True: x_static[:, :, None], False: x_dynamic}
    blocks = {
        static: {b.name: b for b in part}
        for static, part in ((True, encoder.layout.static), (False, encoder.layout.dynamic))
    }
    kept = _rows(x_dynamic, blocks[False])
    missing = {f.column.name: _missing(x, blocks, f, encoder) for f in encoder.columns}
    values = {
        f.column.name: _values(x[f.column.static], blocks[f.column.static].get(f.column.name), f)
        for f in encoder.columns
    }
    released = encoder.released_schema()
    enforcer = Enforcer(encoder.schema, _decimals(released), _scores(x, blocks, encoder))
    kept, values, counts = _with_rules(kept, values, missing, enforcer)
    numbers, times = np.nonzero(kept)
    schema = encoder.schema
    columns = {schema.patient: pa.array(patient[numbers]), schema.time: _times(times, schema)}
    for fitted in encoder.columns:
        name = fitted.column.name
        absent, cells = (np.broadcast_to(a[name], kept.shape)[numbers, times] for a in (missing, values))
        columns[name] = _column(cells, absent, fitted)
    return pa.table(columns, schema=arrow_schema(released)), counts


def _with_rules(
    kept: np.ndarray, values: dict[str, np.ndarray], missing: dict[str, np.ndarray], enforcer: Enforcer
) -> tuple[np.ndarray, dict[str, np.ndarray], list[RuleCount]]:
    """Return rows and values as the rules of the schema want them, and the counts."""
    named = {name for rule in enforcer.schema.rules for name in rule.columns}
    ruled = {}
    for name in named:
        there = ~missing[name] if enforcer.schema.by_name[name].static else ~missing[name] & kept
        ruled[name] = np.where(there, values[name], np.nan)
    cells, counts = enforcer.enforce(Cells(ruled, kept))
    for name, cell in cells.values.items():
        there = ~np.isnan(cell)
        values[name] = np.where(there, cell, values[name]).astype(values[name].dtype)
    return cells.has_row, values, counts


def _decimals(schema: TableSchema) -> dict[str, int]:
    """Return the decimals of the real columns that have some; a constant may have none."""
    return {c.name: c.decimals for c in schema.columns if c.is_real and c.decimals is not None}


def _scores(x: dict[bool, np.ndarray], blocks: dict[bool, dict[str, Block]], encoder: Encoder) -> dict[str, np.ndarray]:
    """Return how probable each code is, (N, codes, L or 1), by column that gives way under a rule.

    A constant column has no block; its codes are all alike.
    """
    scores = {}
    for name in {rule.columns[-1] for rule in encoder.schema.rules if isinstance(rule, ForbiddenRule)}:
        column = encoder.schema.by_name[name]
        block, of = blocks[column.static].get(name), x[column.static]
        n, _, length = of.shape
        scores[name] = of[:, block.channels] if block else np.zeros((n, len(column.categories or ()), length))
    return scores


def arrow_schema(schema: TableSchema) -> pa.Schema:
    """Return the types of a release's columns: float64 for reals, integers or dictionary text for codes."""
    fields = [pa.field(schema.patient, pa.int64()), pa.field(schema.time, pa.int32())]
    for column in schema.columns:
        kind = pa.float64() if column.is_real else _code_type(column.categories)
        fields.append(pa.field(column.name, kind))
    return pa.schema(fields)


def _code_type(codes: tuple[Code, ...] | None) -> pa.DataType:
    """Return the type of a column of codes: text where one of them is, else integers wide enough."""
    whole = [code for code in codes or () if isinstance(code, int)]
    if len(whole) < len(codes or ()):
        return pa.dictionary(pa.int32(), pa.string())
    return pa.int32() if all(abs(code) < 2**31 for code in whole) else pa.int64()


def _times(times: np.ndarray, schema: TableSchema) -> pa.Array:
    return pa.array((times + schema.first_time).astype(np.int32))


def _rows(x_dynamic: np.ndarray, blocks: dict[str, Block]) -> np.ndarray:
    """Return which times of each patient are rows, bool (N, L): inside the record, and not a gap."""
    n, _, length = x_dynamic.shape
    kept = np.ones((n, length), bool)
    if CONTINUES in blocks:
        kept &= np.arange(length) < record_length(x_dynamic[:, blocks[CONTINUES].channels])[:, None]
    if PRESENT in blocks:
        last = kept.sum(axis=1) - 1  # what is kept so far has no gap
        kept &= _index(x_dynamic[:, blocks[PRESENT].channels]) == 1
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


def _index(block: np.ndarray) -> np.ndarray:
    """Return the most probable code, (N, L), of a category block (N, K, L)."""
    return block.argmax(axis=1)


def _missing(
    x: dict[bool, np.ndarray], blocks: dict[bool, dict[str, Block]], fitted: FittedColumn, encoder: Encoder
) -> np.ndarray:
    """Return where the column has no value, bool (N, L) or (N, 1): its own flag, or its masking indicator."""
    static, name = fitted.column.static, fitted.column.name
    absent = np.zeros((len(x[static]), x[static].shape[2]), bool)
    flag = blocks[static].get(name + OBSERVED_SUFFIX)
    if flag is not None:
        absent |= _index(x[static][:, flag.channels]) == 0
    indicator = encoder.schema.masked_by(name)
    if indicator is not None:
        masking = encoder.fitted(indicator)
        absent |= _values(x[static], blocks[static].get(indicator), masking) != 1
        absent |= _missing(x, blocks, masking, encoder)
    return absent


def _values(x: np.ndarray, block: Block | None, fitted: FittedColumn) -> np.ndarray:
    """Return clinical values (real) or positions in the category table, (N, L) or (N, 1)."""
    if block is None:
        assert fitted.constant is not None
        constant = fitted.constant if fitted.column.is_real else fitted.categories.index(fitted.constant)
        return np.full((len(x), x.shape[2]), constant)
    if fitted.codec is not None:
        return fitted.codec.decode(x[:, block.start])
    return _index(x[:, block.channels])


def _column(values: np.ndarray, absent: np.ndarray, fitted: FittedColumn) -> pa.Array:
    mask = absent if absent.any() else None
    if fitted.column.is_real:
        return pa.array(values, pa.float64(), mask=mask)
    codes, kind = fitted.categories, _code_type(fitted.categories)
    if pa.types.is_integer(kind):
        return pa.array(np.array(codes, np.int64)[values], kind, mask=mask)
    index = pa.array(values.astype(np.int32), mask=mask)
    return pa.DictionaryArray.from_arrays(index, pa.array([str(code) for code in codes]))
