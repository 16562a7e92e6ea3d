"""A release folder opened: what every form of loading and the export share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hg3 import disk
from hg3.errors import ReleaseError, SchemaError
from hg3.release.manifest import read_manifest
from hg3.table.column import Column
from hg3.table.schema import TableSchema, load_schema


@dataclass(frozen=True)
class Release:
    """A complete release folder: its schema, its manifest and the paths of its parts in order."""

    folder: Path
    schema: TableSchema
    manifest: dict[str, Any]
    parts: tuple[Path, ...]


def open_release(release: str | Path) -> Release:
    """Return what `release` holds, without reading the data.

    Raises
    ------
    ReleaseError
        If the folder is not a complete release of a format that this hg3 reads.
    """
    folder = Path(release)
    if not folder.is_dir():
        raise ReleaseError(f"{folder} is not a folder; give the folder that holds a release's manifest.json")
    manifest = read_manifest(folder)
    try:
        schema = load_schema(folder / "schema.toml")
    except SchemaError:
        raise altered(folder, "its schema is not as hg3 writes it") from None
    parts = tuple(folder / part["file"] for part in manifest["parts"])
    absent = [path.name for path in parts if not path.is_file()]
    if absent:
        raise altered(folder, f"it lacks {len(absent)} of {len(parts)} parts, the first {absent[0]}")
    return Release(folder, schema, manifest, parts)


def altered(folder: Path, what: str) -> ReleaseError:
    return ReleaseError(f"{folder} is altered or damaged: {what}; run `hg3 release verify` and fetch it anew")


def check_sums(release: Release) -> None:
    """Refuse parts that are not the files whose SHA-256 the manifest names: an altered bit may still be Parquet."""
    for path, entry in zip(release.parts, release.manifest["parts"], strict=True):
        if disk.sha256_of(path) != entry["sha256"]:
            raise altered(release.folder, f"{path.name} is not the file whose SHA-256 the manifest names")


def read_rows(release: Release) -> pa.Table:
    """Return all parts as one table, checked for columns and number of rows."""
    names = [release.schema.patient, release.schema.time, *(c.name for c in release.schema.columns)]
    tables = []
    for path in release.parts:
        try:
            tables.append(pq.read_table(path, partitioning=None))
        except (OSError, pa.ArrowException):
            raise altered(release.folder, f"{path.name} is not readable Parquet") from None
        if tables[-1].column_names != names:
            raise altered(release.folder, f"{path.name} has other columns than the schema")
    if sum(len(table) for table in tables) != release.manifest["rows"]:
        raise altered(release.folder, "its parts do not hold as many rows as the manifest says")
    check_sums(release)
    return pa.concat_tables(tables)


def codes_of(values: pa.ChunkedArray, column: Column) -> pa.Array:
    """Return the column's codes in the schema's order, of the type of `values`."""
    kind = pa.string() if pa.types.is_dictionary(values.type) else values.type
    codes = column.categories or ()
    return pa.array([str(code) for code in codes] if kind == pa.string() else codes, kind)


def values_of(table: pa.Table, column: Column, folder: Path) -> np.ndarray:
    """Return a column as float64, shape (rows,): reals, or positions in the categories; NaN where missing."""
    values = table[column.name]
    if column.is_real:
        return values.to_numpy().astype(np.float64, copy=False)
    codes = codes_of(values, column)
    position = pc.index_in(values.cast(codes.type), value_set=codes)
    if position.null_count != values.null_count:
        unknown = position.null_count - values.null_count
        raise altered(folder, f"column {column.name!r} has {unknown} codes that the schema does not list")
    return position.to_numpy().astype(np.float64)


@dataclass(frozen=True)
class Rows:
    """Where each row belongs: its patient's number, its position in time, and each patient's first row."""

    patient: np.ndarray
    number: np.ndarray
    position: np.ndarray
    first: np.ndarray


def rows_of(table: pa.Table, release: Release) -> Rows:
    schema = release.schema
    patient = table[schema.patient].to_numpy()
    position = table[schema.time].to_numpy().astype(np.int64) - schema.first_time
    starts = np.ones(len(patient), bool)
    starts[1:] = patient[1:] != patient[:-1]
    sorted_ = (patient[1:] > patient[:-1]) | (~starts[1:] & (position[1:] > position[:-1]))
    if not (sorted_.all() and (position >= 0).all() and (position < schema.length).all()):
        raise altered(release.folder, "its rows are unsorted or lie off the schema's grid")
    return Rows(patient, np.cumsum(starts) - 1, position, np.flatnonzero(starts))


def side_by_side(columns: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Return the given rows of the columns as one matrix, also where there are none."""
    matrix = np.empty((len(rows), len(columns)))
    for i, column in enumerate(columns):
        matrix[:, i] = column[rows]
    return matrix
