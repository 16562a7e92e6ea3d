"""The verb track merge: one process brings to a store what jobs left in their run folders."""

from collections.abc import Callable, Sequence
from pathlib import Path

from hg3.cluster.places import LATER, STORE_FILE, checked_uri, sqlite_uri
from hg3.cluster.record import RECORD, RELEASE_FILES, REPORT_FILES, change_record, read_record
from hg3.errors import Hg3Error, MissingLibraryError, RunError


def merge_runs(
    folders: Sequence[str | Path],
    into: str | None = None,
    warn: Callable[[str], None] = lambda sentence: None,
    report: Callable[[Path, int], None] = lambda run, sent: None,
) -> list[tuple[Path, int]]:
    """Return each tracked run in `folders` with how many numbers its store lacked and has got now.

    A run that cannot be merged, as one that a job is at, keeps no other from it.

    Parameters
    ----------
    folders : runs, or folders that hold runs.
    into : a store's URI; if absent, where each run was tracked, or `mlflow.db` beside a run that was to wait.
    warn : called with why a run was not merged. report : called with each run that was, and its numbers.

    Raises
    ------
    Hg3Error
        If there is no tracked run, or MLflow is not installed; in the end, if a run was not merged.
    """
    from hg3.cluster.delivery import merge

    wanted, done, failed = checked_uri(into) if into else None, [], []
    runs = [run for folder in folders for run in tracked_runs(Path(folder))]
    for run in runs:
        try:
            done.append((run, merge(run, wanted or _own_store(run))))
            report(*done[-1])
        except MissingLibraryError:
            raise
        except Hg3Error as error:
            failed.append(f"{run}: {error}")
            warn(failed[-1])
    if failed:
        raise RunError(f"{len(failed)} of {len(runs)} runs were not merged, the first of them {failed[0]}")
    return done


def _own_store(run: Path) -> str:
    own: str = read_record(run)["uri"]
    return sqlite_uri(run.parent / STORE_FILE) if own == LATER else checked_uri(own)


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
