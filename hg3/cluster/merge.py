"""The verb track merge: one process brings to a store what jobs left in their run folders."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hg3.cluster.places import LATER, STORE_FILE, checked_uri, sqlite_uri
from hg3.cluster.record import RECORD, read_record
from hg3.errors import RunError


def merge_runs(
    folders: Sequence[str | Path], into: str | None = None, warn: Callable[[str], None] = lambda sentence: None
) -> Iterator[tuple[Path, int]]:
    """Yield each tracked run in `folders` with how many numbers its store lacked and has got now.

    Parameters
    ----------
    folders : runs, or folders that hold runs.
    into : a store's URI; if absent, where each run was tracked, or `mlflow.db` beside a run that was to wait.

    Raises
    ------
    Hg3Error
        If there is no tracked run, or MLflow is not installed.
    """
    from hg3.cluster.tracking import merge

    for run in [run for folder in folders for run in tracked_runs(Path(folder))]:
        own = read_record(run)["uri"]
        uri = checked_uri(into) if into else (sqlite_uri(run.parent / STORE_FILE) if own == LATER else own)
        yield run, merge(run, uri)


def tracked_runs(folder: Path) -> list[Path]:
    """Return `folder` if it is a tracked run, else those directly in it."""
    if (folder / RECORD).is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"*/{RECORD}"))
    if not found:
        raise RunError(f"{folder} holds no run that was tracked; train with --track, or give another folder")
    return found
