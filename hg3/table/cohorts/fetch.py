"""Get the published ART-for-HIV file: downloaded or given, and held against what is known of it before it is kept."""

import hashlib
import http.client
import shutil
import tempfile
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd

from hg3.errors import TableError
from hg3.table.cells import as_numbers
from hg3.table.checks import check_table
from hg3.table.cohorts.art_hiv_truths import CODE_COLUMNS, COLUMNS, N_MONTHS
from hg3.table.read import read_table
from hg3.table.schema import TableSchema, load_schema
from hg3.table.write import check_out, write_table

URL = "https://ndownloader.figshare.com/files/40584980"  # Health Gym v2.0, CC BY 4.0
GIT_BLOB = "93ebe161c3a53c2f5f8ebc5a8b7f36ca2a3b81a9"  # as two public repositories list the file
N_PATIENTS = 8_916
TIMEOUT = 60.0  # seconds without an answer, not of the whole download

# Smallest and largest value as published, half a unit of the last printed digit wider.
RANGES = {"VL": (0.095, 97_566.415), "CD4": (7.955, 42_475.205), "Rel CD4": (1.8705, 586.6355)}


def fetch_art_hiv(out: str | Path, source: str | Path | None = None) -> list[str]:
    """Write the published cohort to `out` (.parquet, .csv, .csv.gz) if it is the published one; return warnings.

    Parameters
    ----------
    source : a copy of the file; where absent, it is downloaded from figshare.

    Returns
    -------
    list of str
        What differs from the published file without making it another cohort: other bytes, or a sex or ethnicity
        that changes within a patient, which the schema `art-hiv-v2` would refuse.

    Raises
    ------
    ConfigError
        If `out` cannot be written to.
    TableError
        If the file cannot be got or read, or its rows, patients, columns, codes or ranges are not as published.
    """
    check_out(Path(out))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(source) if source is not None else _download(URL, Path(folder) / "art-hiv.csv")
        schema = load_schema("art-hiv-v2")
        frame = read_table(path, schema)
        wrong = _findings(frame, schema)
        if wrong:
            raise TableError(
                f"{source or URL} is not the published ART-for-HIV file, so nothing was written: {' | '.join(wrong)}"
            )
        warnings = _differing_bytes(path) + _changing_statics(frame, schema)
    write_table(_typed(frame), out)
    return warnings


def _download(url: str, path: Path) -> Path:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
            expected = answer.headers.get("Content-Length")
    except (OSError, http.client.HTTPException) as error:
        raise _not_downloaded(url, f"{type(error).__name__}: {error}") from None
    if expected is not None and path.stat().st_size != int(expected):
        raise _not_downloaded(url, f"{path.stat().st_size:,} of {int(expected):,} bytes came")
    return path


def _not_downloaded(url: str, why: str) -> TableError:
    return TableError(f"{url} could not be downloaded ({why}); download it elsewhere and give it with --from FILE")


def _findings(frame: pd.DataFrame, schema: TableSchema) -> list[str]:
    """Return what is not as published: columns first, for without them nothing else can be told."""
    if list(frame.columns) != COLUMNS:
        return [f"it has {len(frame.columns)} columns and not, in this order, the {len(COLUMNS)} published ones"]
    wrong = []
    n_rows = N_PATIENTS * N_MONTHS
    if len(frame) != n_rows:
        wrong.append(f"it has {len(frame):,} rows instead of {n_rows:,}")
    wrong += check_table(frame, _monthly(schema))[1].errors
    patient = as_numbers(frame[schema.patient])
    if not np.array_equal(np.unique(patient), np.arange(N_PATIENTS)):
        wrong.append(f"its patients are not the numbers 0 to {N_PATIENTS - 1:,}")
    for name, (low, high) in RANGES.items():
        value = as_numbers(frame[name])
        beyond = int(((value < low) | (value > high)).sum())
        if beyond:
            wrong.append(f"column {name!r} has {beyond:,} cells outside its published range {low:g} to {high:,.10g}")
    return wrong


def _monthly(schema: TableSchema) -> TableSchema:
    """Return the schema without a promise that sex and ethnicity stay: nobody published that they do."""
    columns = tuple(column.model_copy(update={"static": False}) for column in schema.columns)
    return schema.model_copy(update={"columns": columns})


def _changing_statics(frame: pd.DataFrame, schema: TableSchema) -> list[str]:
    """Return what the shipped schema refuses in a table that is as published otherwise."""
    return [f"schema {schema.name} will refuse it: {sentence}" for sentence in check_table(frame, schema)[1].errors]


def _differing_bytes(path: Path) -> list[str]:
    found = git_blob_of(path)
    if found == GIT_BLOB:
        return []
    return [f"rows, codes and ranges are as published, but the bytes are not: git blob {found} instead of {GIT_BLOB}"]


def git_blob_of(path: Path) -> str:
    """Return the id that git gives to the file's bytes, in hexadecimal."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with numbers for what the file writes as texts: codes as 1.0, patients as 0."""
    whole = [*CODE_COLUMNS, *COLUMNS[-2:]]
    numbers = {name: as_numbers(frame[name]).astype(np.int64) for name in whole}
    return frame.assign(**numbers)
