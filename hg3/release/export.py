"""A release as one CSV file, for readers that do not read Parquet."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from hg3 import disk
from hg3.errors import ReleaseError
from hg3.release.reading import Release, check_sums, open_release
from hg3.table.arrow import arrow_schema

ROWS_AT_ONCE = 65_536


def export_csv(release: str | Path, out: str | Path, force: bool = False) -> Path:
    """Write a release as one CSV file, gzipped if its name ends in .gz, and return its path.

    Numbers have the fewest digits that read back to the same value, codes are as in the Parquet files, a
    missing cell is empty. Memory does not grow with the release, and equal releases give equal bytes.

    Parameters
    ----------
    force : replace `out` if it exists.

    Raises
    ------
    ReleaseError
        If the folder is no complete release, or `out` has no folder, lies inside the release, or exists, with
        `force` as no file.
    """
    opened, target = open_release(release), Path(out)
    _check_target(target, opened, force)
    disk.remove_leftovers(target)
    with disk.atomic_path(target) as temporary, _opened(temporary, target.suffix == ".gz") as file:
        for number, batch in enumerate(_batches(opened)):
            options = pyarrow.csv.WriteOptions(include_header=number == 0)
            pyarrow.csv.write_csv(_without_minus_zero(batch), file, options)
        check_sums(opened)
    return target


def _check_target(target: Path, release: Release, force: bool) -> None:
    if target.is_dir() or not target.parent.is_dir():
        raise ReleaseError(f"{target} cannot be a file: it is a folder or has none; name a CSV file")
    if release.folder.resolve() in target.resolve().parents:
        raise ReleaseError(f"{target} lies inside the release, whose files are sealed; write it elsewhere")
    if target.exists() and not target.is_file():
        raise ReleaseError(f"{target} is a device, a pipe or a socket, which a file would replace; name a CSV file")
    if target.exists() and not force:
        raise ReleaseError(f"{target} exists; choose another name, or replace it with force")


@contextmanager
def _opened(path: Path, zipped: bool) -> Iterator[IO[bytes]]:
    with path.open("wb") as file:
        if not zipped:
            yield file
            return
        # no name and no time in the header: equal tables, equal bytes
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as stream:
            yield stream  # type: ignore[misc]


def _batches(release: Release) -> Iterator[pa.Table]:
    """Yield the rows in order, a bounded number at once; a release without rows yields its header."""
    yield arrow_schema(release.schema).empty_table()
    for path in release.parts:
        try:
            with pq.ParquetFile(path) as part:
                yield from (pa.Table.from_batches([b]) for b in part.iter_batches(ROWS_AT_ONCE))
        except (OSError, pa.ArrowException):
            raise ReleaseError(f"{path} is not readable Parquet; run `hg3 release verify`") from None


def _without_minus_zero(table: pa.Table) -> pa.Table:
    """Return the table with -0.0, which rounding makes of -0.004, as 0."""
    for i, field in enumerate(table.schema):
        if field.type == pa.float64():
            table = table.set_column(i, field, pc.add(table[i], 0.0))
    return table
