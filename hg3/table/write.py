"""Write a table: CSV (also gzipped) or Parquet, whole or absent."""

from pathlib import Path

import pandas as pd

from hg3 import disk
from hg3.errors import ConfigError


def write_table(frame: pd.DataFrame, out: str | Path) -> None:
    """Write `frame` to `out`, whose ending says how: .parquet, .csv or .csv.gz.

    Raises
    ------
    ConfigError
        If the ending is another one, the folder does not exist, or the file is there already.
    """
    out = Path(out)
    check_out(out)
    disk.remove_leftovers(out)
    with disk.atomic_path(out) as path:
        if out.suffix == ".parquet":
            frame.to_parquet(path, index=False)
        else:
            frame.to_csv(path, index=False, compression={"method": "gzip", "mtime": 0} if out.suffix == ".gz" else None)


def check_out(out: Path) -> None:
    """Refuse a path that `write_table` could not write to, before the work is done."""
    if not out.name.endswith((".parquet", ".csv", ".csv.gz")):
        raise ConfigError(f"{out} was given; a table is written as .parquet, .csv or .csv.gz")
    if not out.parent.is_dir():
        raise ConfigError(f"the folder {out.parent} does not exist; make it first")
    if out.exists():
        raise ConfigError(f"{out} is there already; remove it or choose another name")
