"""The verb track merge: one process brings to a store what jobs left in their run folders."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hg3.cluster.places import LATER, STORE_FILE, checked_uri, sqlite_uri
from hg3.cluster.record import RECORD, RELEASE_FILES, REPORT_FILES, change_record, read_record
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
    from hg3.cluster.delivery import merge

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


def attach(run: str | Path, folders: Sequence[str | Path]) -> None:
    """Note in a tracked run the releases and reports that were made of it; the next delivery brings them to its store.

    Raises
    ------
    RunError
        If the run was not tracked, or a folder holds neither a manifest nor a report.
    """
    run, places = Path(run), [Path(folder).resolve() for folder in folders]
    for place in places:
        if not any((place / name).is_file() for name in (RELEASE_FILES[0], REPORT_FILES[0])):
            raise RunError(f"{place} is neither a release nor a report: it holds no manifest.json and no report.html")
    noted = read_record(run)["attached"]
    change_record(run, attached=[*noted, *(str(place) for place in places if str(place) not in noted)])


def store_file(place: Path) -> Path:
    """Return the file of a sqlite store, given itself or its folder."""
    path = place / STORE_FILE if place.is_dir() else place
    if not path.is_file():
        raise RunError(f"{path} is not there: no training was tracked beside it; give an mlflow.db or its folder")
    return path
