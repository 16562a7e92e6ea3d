"""Read a table: CSV (also compressed) or Parquet."""

import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path

import pandas as pd
import pyarrow as pa

from hg3.errors import TableError
from hg3.table.schema import TableSchema

MISSING_MARKS = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None")
UNREADABLE = (OSError, ValueError, EOFError, ImportError, pa.ArrowException, zlib.error, lzma.LZMAError)


def read_table(path: str | Path, schema: TableSchema | None) -> pd.DataFrame:
    """Return the table in `path`, columns as they are; a missing mark that is a category's code stays a code.

    Without a schema every cell of a CSV is the text that it is, for nobody knows yet whether 01 is a number.

    Raises
    ------
    TableError
        If the file is absent, empty, or neither CSV nor Parquet.
    """
    path = Path(path)
    if path.is_dir():
        raise TableError(f"{path} is a folder; give one .csv, .csv.gz or .parquet file in long format")
    try:
        frame = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path, schema)
    except FileNotFoundError:
        raise TableError(f"there is no table at {path}; give the path of a CSV or Parquet file") from None
    except pd.errors.EmptyDataError:
        frame = pd.DataFrame()
    except (*UNREADABLE, tarfile.TarError, zipfile.BadZipFile) as error:
        # The reader's own message may quote a line of the file, which is a patient's: only its type is told.
        raise TableError(
            f"{path} cannot be read as {'Parquet' if path.suffix == '.parquet' else 'CSV'} "
            f"({type(error).__name__}); give a .csv, .csv.gz or .parquet file in long format"
        ) from None
    if frame.empty:
        raise TableError(f"{path} holds no rows; a table needs at least one row a patient")
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the cells left over for row names
        raise TableError(f"{path} has rows of more cells than its header has names; name every column")
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    """Return the file's columns, those that pandas made an index of among them."""
    frame = pd.read_parquet(path)
    named = [name for name in frame.index.names if name is not None]
    return frame.reset_index(level=named).reset_index(drop=True) if named else frame.reset_index(drop=True)


def _read_csv(path: Path, schema: TableSchema | None) -> pd.DataFrame:
    """Return the columns of a CSV: ids and codes as the text they are, the rest as pandas reads it."""
    header = [str(name) for name in pd.read_csv(path, nrows=0).columns]
    marks = {name: list(MISSING_MARKS) for name in header}
    texts = {schema.patient: str} if schema else dict.fromkeys(header, str)
    for column in schema.columns if schema else ():
        if column.name in marks and not column.is_real:
            texts[column.name] = str
            codes = {str(code) for code in column.categories or ()}
            marks[column.name] = [mark for mark in MISSING_MARKS if mark not in codes]
    frame = pd.read_csv(path, keep_default_na=False, na_values=marks, low_memory=False, dtype=texts)
    frame.columns = pd.Index(_names_as_written(path, header))
    return frame


def _names_as_written(path: Path, header: list[str]) -> list[str]:
    """Return the header without the numbers that pandas gives to a name that is there twice."""
    written = pd.read_csv(path, nrows=1, header=None, dtype=str, keep_default_na=False).iloc[0].tolist()
    if len(written) != len(header):
        return header
    return [name or unnamed for name, unnamed in zip(written, header, strict=True)]
