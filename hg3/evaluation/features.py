"""Patients as numbers, for learners and distances: what a record adds up to, and the record itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from warnings import catch_warnings, simplefilter

import numpy as np

from hg3.evaluation.draws import Parts
from hg3.evaluation.panel import Panel, of_patient, rows_first, scored
from hg3.evaluation.summaries import slopes
from hg3.table.column import Column
from hg3.table.schema import TableSchema


@dataclass(frozen=True)
class Features:
    """N patients as F numbers each: `values` float64, shape (N, F), NaN where unknown, in the order of `names`."""

    names: tuple[str, ...]
    values: np.ndarray


@dataclass(frozen=True)
class Encoded:
    """N patients as arrays of numbers between 0 and 1, float32, for networks and distances.

    A real is its rank score among real patients (0.5 where it has no value), a category one number a code (all 0
    where it has none); a column with cells that may lack a value is followed by whether it has one. The last of
    `moving` says whether the time has a row.

    Parameters
    ----------
    static : shape (N, S).
    moving : shape (N, L, D).
    """

    static: np.ndarray
    moving: np.ndarray


def summary(panel: Panel, times: int | None = None, hide: tuple[str, ...] = ()) -> Features:
    """Return what each patient's record adds up to, of its first `times` times alone if given.

    Of a real: mean, deviation, lowest, highest, first, last, slope, mean step, share of rows with a value. Of a
    category: the share of each code, first, last, changes a row, share of rows with a value. Of a static column its
    value. And the numbers of rows and of times.
    """
    panel = panel if times is None else _first_times(panel, times)
    rows = rows_first(panel)
    found: list[tuple[str, np.ndarray]] = [("rows", rows.has_row.sum(axis=1)), ("times", panel.lengths)]
    with catch_warnings():
        simplefilter("ignore", RuntimeWarning)  # a patient without a value has no mean: NaN is meant
        for column in (c for c in panel.schema.columns if c.name not in hide):
            if column.static:
                found.append((column.name, panel.values[column.name][:, 0]))
            else:
                found += ((f"{column.name}: {what}", value) for what, value in _of_column(panel, rows, column))
    return Features(tuple(name for name, _ in found), np.stack([value for _, value in found], axis=1).astype(float))


def _first_times(panel: Panel, times: int) -> Panel:
    values = {name: value if value.shape[1] == 1 else value[:, :times] for name, value in panel.values.items()}
    return Panel(panel.schema, values, panel.has_row[:, :times], panel.categories)


def _of_column(panel: Panel, rows: Panel, column: Column) -> Iterator[tuple[str, np.ndarray]]:
    values = rows.row_values(column)
    seen = ~np.isnan(values)
    last = np.take_along_axis(values, (seen.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1))[:, None], axis=1)[:, 0]
    step = np.diff(values, axis=1)
    yield "share with a value", seen.sum(axis=1) / np.maximum(rows.has_row.sum(axis=1), 1)
    yield "first", np.take_along_axis(values, np.argmax(seen, axis=1)[:, None], axis=1)[:, 0]
    yield "last", last
    yield "changes", np.where(~np.isnan(step), step != 0, 0).sum(axis=1) / np.maximum((~np.isnan(step)).sum(axis=1), 1)
    if not column.is_real:
        n = np.maximum(seen.sum(axis=1), 1)
        for k, code in enumerate(panel.categories[column.name]):
            yield f"share of {code}", (values == k).sum(axis=1) / n
        return
    yield "mean", np.nanmean(values, axis=1)
    yield "deviation", np.nanstd(values, axis=1)
    yield "lowest", np.nanmin(values, axis=1)
    yield "highest", np.nanmax(values, axis=1)
    yield "mean step", np.nanmean(np.abs(step), axis=1) if step.shape[1] else np.full(len(values), np.nan)
    # In the unit: in these patients' spread, the same record would have another slope among other patients.
    yield "slope", slopes(panel.row_values(column)) * np.nanstd(values)


def encode(panels: Parts[Panel]) -> Parts[Encoded]:
    """Return all parts on one scale, made from the real patients alone."""
    schema = panels.holdout.schema
    blocks = [_blocks(panels, column) for column in schema.columns]
    static = [block for column, block in zip(schema.columns, blocks, strict=True) if column.static]
    moving = [block for column, block in zip(schema.columns, blocks, strict=True) if not column.static]

    def joined(part: str) -> Encoded:
        panel: Panel = getattr(panels, part)
        of_patient = [getattr(block, part)[:, 0] for block in static]
        of_time = [*(getattr(block, part) for block in moving), panel.has_row[..., None].astype(np.float32)]
        none = np.zeros((panel.n_patients, 0), np.float32)  # a schema without static columns
        return Encoded(np.concatenate([none, *of_patient], axis=1), np.concatenate(of_time, axis=2))

    return Parts(joined("made"), joined("train"), joined("holdout"))


def places(panel: Panel) -> dict[str, slice]:
    """Return where the numbers of each column that is not static stand in the last dimension of `Encoded.moving`."""
    found, start = {}, 0
    for column in panel.dynamic():
        width = (1 if column.is_real else panel.n_codes(column)) + may_lack(panel.schema, column)
        found[column.name] = slice(start, start + width)
        start += width
    return found


def may_lack(schema: TableSchema, column: Column) -> bool:
    """Return whether a cell of a row can be without a value, so that `encode` says of each whether it has one."""
    return column.missing == "modelled" or schema.masked_by(column.name) is not None


def _blocks(panels: Parts[Panel], column: Column) -> Parts[np.ndarray]:
    """Return a column's numbers, (N, L, numbers), or (N, 1, numbers) if it is static."""
    lacks = may_lack(panels.holdout.schema, column)
    values = scored(panels, column) if column.is_real else panels.each(lambda panel: panel.row_values(column))
    if column.static:
        values = values.each(of_patient)

    def numbers(part: np.ndarray) -> np.ndarray:
        seen = ~np.isnan(part)
        if column.is_real:
            out = np.where(seen, part, 0.5)[..., None]
        else:
            out = part[..., None] == np.arange(panels.holdout.n_codes(column))
        return np.concatenate([out, seen[..., None]] if lacks else [out], axis=-1).astype(np.float32)

    return values.each(numbers)
