"""A cohort as tensors: x_static (N, S), x_dynamic (N, C, L), and which cells were observed."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hg3.errors import SchemaError, TableError
from hg3.layout import Block, Layout, chained
from hg3.table.codecs import FEWEST_CARRIERS, RealCodec, constant_of, fit_categories, fit_real, sampling_bounds
from hg3.table.cohort import Cohort, counting_cells, missing_cells, observed_cells, record_shape
from hg3.table.column import Code, Column
from hg3.table.schema import CONTINUES, OBSERVED_SUFFIX, PRESENT, TableSchema


@dataclass(frozen=True)
class FittedColumn:
    """What encoding knows of one column beyond its schema.

    `constant` is the one value of a column that has no other, which then needs no channel of its own;
    `flagged` columns have an observed-flag block; `occurring` are those of the categories that some training patient
    has, in their order.
    """

    column: Column
    codec: RealCodec | None
    categories: tuple[Code, ...]
    constant: float | Code | None
    flagged: bool
    occurring: tuple[Code, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        codec = self.codec.to_dict() if self.codec else None
        plain = {"constant": self.constant, "flagged": self.flagged, "categories": list(self.categories)}
        return {"name": self.column.name, "codec": codec, **plain, "occurring": list(self.occurring)}

    @classmethod
    def from_dict(cls, content: dict[str, Any], schema: TableSchema) -> "FittedColumn":
        codec = RealCodec.from_dict(content["codec"]) if content["codec"] else None
        column, categories, constant = schema.by_name[content["name"]], content["categories"], content["constant"]
        unnoted = [code for code in categories if constant in (None, code)]  # by an hg3 that did not note them
        occurring = tuple(content.get("occurring", unnoted))
        return cls(column, codec, tuple(categories), constant, content["flagged"], occurring)


@dataclass(frozen=True)
class Encoded:
    """N encoded patients. `observed_*` says per block (in the layout's order) where there is a value.

    Other cells hold what the patient's neighbouring values say, see `fill_between`; nothing where there are none.

    Parameters
    ----------
    x_static : float32, shape (N, S); x_dynamic : float32, shape (N, C, L).
    observed_static : bool, shape (N, static blocks); observed_dynamic : bool, shape (N, dynamic blocks, L).
    """

    x_static: np.ndarray
    x_dynamic: np.ndarray
    observed_static: np.ndarray
    observed_dynamic: np.ndarray


@dataclass(frozen=True)
class Encoder:
    """Everything needed to encode a cohort of `schema` and to decode samples; JSON there and back."""

    schema: TableSchema
    columns: tuple[FittedColumn, ...]
    layout: Layout

    def to_dict(self) -> dict[str, Any]:
        return {"columns": [c.to_dict() for c in self.columns], "layout": self.layout.to_dict()}

    @classmethod
    def from_dict(cls, content: dict[str, Any], schema: TableSchema) -> "Encoder":
        columns = tuple(FittedColumn.from_dict(c, schema) for c in content["columns"])
        return cls(schema, columns, Layout.from_dict(content["layout"]))

    def fitted(self, name: str) -> FittedColumn:
        """Return the fitted column of that name."""
        return next(f for f in self.columns if f.column.name == name)

    def released_schema(self) -> TableSchema:
        """Return the schema of a release: learned category tables and decimals filled in."""
        columns = []
        for fitted in self.columns:
            update: dict[str, Any] = {}
            if fitted.codec:
                asked, kind = fitted.column.transform, fitted.codec.transform.kind
                update = {"decimals": fitted.codec.decimals, "transform": asked if asked == "quantile" else kind}
            elif fitted.categories:
                update = {"categories": fitted.categories}
            columns.append(fitted.column.model_copy(update=update))
        return self.schema.model_copy(update={"columns": tuple(columns), "ignore": ()})


def fit_encoder(cohort: Cohort, train: np.ndarray, scaling: str = "standard") -> tuple[Encoder, list[str]]:
    """Return the encoder fitted on the patients where `train` (bool, shape (N,)) is true, and warnings.

    Parameters
    ----------
    scaling : of transformed reals, "standard" (mean 0, sd 1), "range" (the training range is [-1, 1]) or "normal"
        (their normal scores, at mean 0 and sd 1).

    Raises
    ------
    TableError, SchemaError
        If a column has no training value, or nothing varies over time.
    """
    schema, warnings = cohort.schema, []
    if train.sum() < FEWEST_CARRIERS:
        warnings.append(
            f"there are {int(train.sum())} training patients, too few to hide each other: any value may be repeated"
        )
    fitted: list[FittedColumn] = []
    blocks: dict[bool, list[Block]] = {True: [], False: []}
    for column in schema.columns:
        one, added, warning = _fit_column(cohort, column, train, scaling)
        fitted.append(one)
        blocks[column.static] += added
        warnings += [warning] if warning else []
    blocks[False] += _record_blocks(cohort)
    if not blocks[False]:
        raise SchemaError(f"schema {schema.name!r} has no column that varies over time; hg3 models records over time")
    layout = Layout(chained(blocks[True]), chained(blocks[False]), schema.length)
    return Encoder(schema, tuple(fitted), layout), warnings


def category_block(name: str, width: int) -> Block:
    """Return a category's block, not placed yet."""
    return Block(name, "category", 0, width)


def _fit_column(
    cohort: Cohort, column: Column, train: np.ndarray, scaling: str
) -> tuple[FittedColumn, list[Block], str | None]:
    """Return the fitted column, the blocks it needs, and a warning."""
    observed = observed_cells(cohort, column)
    rows = observed & train[cohort.patient_index]
    if not rows.any():
        raise TableError(f"column {column.name!r} has no value among the training patients; take it out of the schema")
    if column.is_real:
        _refuse_few_carriers(column, len(np.unique(cohort.patient_index[rows])), int(train.sum()))
    if column.is_real:
        fitted, blocks, warning = _fit_real_column(cohort, column, rows, scaling)
    else:
        fitted, blocks, warning = _fit_category_column(cohort, column, rows)
    if fitted.flagged:
        blocks.append(category_block(column.name + OBSERVED_SUFFIX, 2))
    if fitted.constant is not None and np.ptp(cohort.values[column.name][observed]):
        warning = warning or (
            f"column {column.name!r} has one value only among the training patients; it is kept as a constant"
        )
    return fitted, blocks, warning


def _refuse_few_carriers(column: Column, n_carriers: int, n_train: int) -> None:
    """Refuse a real column of so few patients that a release would repeat theirs: below 10, or half of under 20."""
    if n_train >= FEWEST_CARRIERS and n_carriers < min(FEWEST_CARRIERS, -(-n_train // 2)):
        raise TableError(
            f"column {column.name!r} has values for {n_carriers} of {n_train} training patients, fewer than the "
            f"{FEWEST_CARRIERS} that hide each other in a release; take it out of the schema"
        )


def _fit_real_column(
    cohort: Cohort, column: Column, rows: np.ndarray, scaling: str
) -> tuple[FittedColumn, list[Block], str | None]:
    values, flagged = cohort.values[column.name][rows], column.missing == "modelled"
    patient = cohort.patient_index[rows]
    codec, warning = fit_real(values, patient, column, scaling)
    if codec is None:
        constant = constant_of(float(values[0]), column)
        return FittedColumn(column, None, (), constant, flagged), [], warning
    low, high = sampling_bounds(codec, values, patient, scaling)
    return FittedColumn(column, codec, (), None, flagged), [Block(column.name, "real", 0, 1, low, high)], warning


def _fit_category_column(
    cohort: Cohort, column: Column, rows: np.ndarray
) -> tuple[FittedColumn, list[Block], str | None]:
    index, codes = cohort.values[column.name][rows], cohort.categories[column.name]
    flagged = column.missing == "modelled"
    categories = fit_categories(index, cohort.patient_index[rows], codes, column)
    occurring = tuple(codes[i] for i in np.unique(index) if codes[i] in categories)
    if len(occurring) == 1:
        return FittedColumn(column, None, categories, occurring[0], flagged, occurring), [], None
    blocks = [category_block(column.name, len(categories))]
    return FittedColumn(column, None, categories, None, flagged, occurring), blocks, None


def _record_blocks(cohort: Cohort) -> list[Block]:
    """Return the blocks that records of different lengths and gaps in time need, if any patient has such a record.

    That is a form of the table, not a value of a patient: a single record of the hold-out may bring it.
    """
    lengths, present = record_shape(cohort)
    inside = np.arange(cohort.schema.length) < lengths[:, None]
    blocks = []
    if (lengths != cohort.schema.length).any():
        blocks.append(category_block(CONTINUES, 2))
    if (inside & ~present).any():
        blocks.append(category_block(PRESENT, 2))
    return blocks


def encode(cohort: Cohort, encoder: Encoder) -> Encoded:
    """Return all patients of `cohort` encoded, in the order of `cohort.patients`."""
    n, layout = cohort.n_patients, encoder.layout
    x = {True: np.zeros((n, layout.n_static, 1), np.float32)}
    x[False] = np.zeros((n, layout.n_dynamic, layout.length), np.float32)
    observed = {True: np.ones((n, len(layout.static), 1), bool)}
    observed[False] = np.ones((n, len(layout.dynamic), layout.length), bool)
    blocks = {static: {b.name: (i, b) for i, b in enumerate(part)} for static, part in _parts(layout)}
    for fitted in encoder.columns:
        static, name = fitted.column.static, fitted.column.name
        value, seen = _on_grid(cohort, fitted)
        if name in blocks[static]:
            number, block = blocks[static][name]
            _write(x[static][:, block.channels], value, seen, block, fitted)
            observed[static][:, number] = seen
        if fitted.flagged:
            number, block = blocks[static][name + OBSERVED_SUFFIX]
            asked = _marked(cohort, fitted.column, counting_cells(name, cohort.values, cohort.schema))
            _write_category(x[static][:, block.channels], seen.astype(np.int64), asked, block)
            observed[static][:, number] = asked
    _encode_record(cohort, x[False], observed[False], blocks[False])
    for number, block in enumerate(layout.dynamic):
        fill_between(x[False][:, block.channels], observed[False][:, number])
    return Encoded(x[True][:, :, 0], x[False], observed[True][:, :, 0], observed[False])


def fill_between(x: np.ndarray, seen: np.ndarray) -> None:
    """Write into the cells without a value what the nearest one with a value holds, the earlier of two, in place.

    So a patient's own level is in every cell of a column that was measured twice, and around each measurement stands
    what was measured, so that a network that places it a cell too early or late still gets its value. A flag of its
    own says which cells were measured.

    Parameters
    ----------
    x : (N, width, L), written to; seen : bool (N, L). Who has no value keeps what is there.
    """
    n_times = seen.shape[1]
    time, far = np.arange(n_times), 2 * n_times
    before = np.maximum.accumulate(np.where(seen, time, -far), axis=1)
    after = np.minimum.accumulate(np.where(seen, time, far)[:, ::-1], axis=1)[:, ::-1]
    nearest = np.where(time - before <= after - time, before, after)
    patients = seen.any(axis=1)
    x[patients] = np.take_along_axis(x[patients], nearest[patients, None, :], axis=2)


def _parts(layout: Layout) -> tuple[tuple[bool, tuple[Block, ...]], ...]:
    return ((True, layout.static), (False, layout.dynamic))


def _on_grid(cohort: Cohort, fitted: FittedColumn) -> tuple[np.ndarray, np.ndarray]:
    """Return a column's values and where it has one, both (N, L), or (N, 1) for a static column."""
    column, values = fitted.column, cohort.values[fitted.column.name]
    if not column.is_real:
        values = _refer(values, cohort.categories[column.name], fitted.categories)
    seen = observed_cells(cohort, column) & ~missing_cells(values)
    there = _marked(cohort, column, seen)
    grid = np.zeros(there.shape, values.dtype)
    grid[cohort.patient_index[seen], 0 if column.static else cohort.time_index[seen]] = values[seen]
    return grid, there


def _marked(cohort: Cohort, column: Column, rows: np.ndarray) -> np.ndarray:
    """Return the places of a column's `rows`, bool (N, L), or (N, 1) for a static column."""
    grid = np.zeros((cohort.n_patients, 1 if column.static else cohort.schema.length), bool)
    grid[cohort.patient_index[rows], 0 if column.static else cohort.time_index[rows]] = True
    return grid


def _refer(index: np.ndarray, table_codes: tuple[Code, ...], codes: tuple[Code, ...]) -> np.ndarray:
    """Return positions in `codes` from those in `table_codes`; -1 stays, and is that of codes not listed."""
    position = {str(code): i for i, code in enumerate(codes)}
    lookup = np.array([*(position.get(str(code), -1) for code in table_codes), -1], dtype=np.int64)
    return lookup[index]


def _write(out: np.ndarray, value: np.ndarray, seen: np.ndarray, block: Block, fitted: FittedColumn) -> None:
    if fitted.codec is None:
        _write_category(out, value, seen, block)
    else:
        x = np.full(value.shape, block.fill, np.float32)
        x[seen] = fitted.codec.encode(value[seen])
        out[:, 0] = x


def _write_category(out: np.ndarray, index: np.ndarray, seen: np.ndarray, block: Block) -> None:
    """Write one-hot blocks in {-1, 1}, and the uniform distribution where there is no value."""
    for code in range(block.width):
        out[:, code] = np.where(seen, np.where(index == code, 1.0, -1.0), block.fill)


def _encode_record(cohort: Cohort, x: np.ndarray, observed: np.ndarray, blocks: dict[str, tuple[int, Block]]) -> None:
    """Write the blocks of the record's length and gaps, where the layout has them; past its end there are no gaps."""
    lengths, present = record_shape(cohort)
    inside = np.arange(cohort.schema.length) < lengths[:, None]
    for name, flag, asked in ((CONTINUES, inside, np.ones_like(inside)), (PRESENT, present, inside)):
        if name in blocks:
            number, block = blocks[name]
            _write_category(x[:, block.channels], flag.astype(np.int64), asked, block)
            observed[:, number] = asked
