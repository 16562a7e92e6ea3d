"""A release in the making: who may begin it, who goes on with it, and when it is complete, beside other tasks."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hg3 import disk
from hg3.errors import ReleaseError, RunError
from hg3.release.manifest import INCOMPLETE, SUMS
from hg3.release.plan import ENVIRONMENT, Request, Source, environment_differences, make_plan, open_source
from hg3.sampling.generate import Sampler
from hg3.training.device import default_device

Report = Callable[[dict[str, Any]], None]
PLAN = "plan.json"  # in it: the first file to come and the first to go


@dataclass(frozen=True)
class Making:
    """One process at work on a release."""

    source: Source
    plan: dict[str, Any]
    sampler: Sampler
    release: Path
    report: Report

    @property
    def notes(self) -> Path:
        return self.release / INCOMPLETE

    def note(self, part: int) -> Path:
        """Return the file that says of a part that it is made, and with what sum."""
        return self.notes / f"part-{part:05d}.json"


def beside_others(making: Making, work: Callable[[], bool], should_stop: Callable[[], bool] = lambda: False) -> bool:
    """Return what `work` returns, or True if its files went because another task completed the release and cleaned up.

    should_stop : asked while that is waited for, and False is returned then.
    """
    try:
        return work()
    except OSError as error:
        if not disk.is_gone(error):
            raise
        if disk.appears(lambda: is_complete(making.release, making.plan), should_stop):
            return True
        if not should_stop():
            raise
        return False


def open_making(run: str | Path, out: str | Path, asked: Request, compile: str, report: Report) -> Making:
    """Return this process's part in making the release that is asked for; nothing is written yet."""
    source = open_source(Path(run), default_device(), compile)
    plan = make_plan(source, asked)
    making = Making(source, plan, source.sampler(plan), Path(out), report)
    _refuse_inside_run(making.release)
    return making


def _refuse_inside_run(release: Path) -> None:
    for folder in (release.resolve(), *release.resolve().parents):
        if (folder / "split.json").is_file():
            raise ReleaseError(f"{release} lies inside the run {folder}, which is private; choose a folder outside it")


def is_complete(release: Path, plan: dict[str, Any]) -> bool:
    """Whether `release` is this plan's finished release.

    Raises
    ------
    ReleaseError
        If it is a finished release of another plan.
    """
    if not (release / SUMS).is_file() or (release / INCOMPLETE / PLAN).exists():
        return False
    if not (release / "manifest.json").is_file() or not (release / "data").is_dir():
        return False  # somebody else's folder, which has sums too
    manifest = disk.read_json(release / "manifest.json", "a release of hg3")
    if not isinstance(manifest, dict):
        raise ReleaseError(f"{release / 'manifest.json'} is altered: it is not a manifest of hg3; get the release anew")
    _same_plan({key: manifest.get(key) for key in plan}, plan, release, mix=True)
    shutil.rmtree(release / INCOMPLETE, ignore_errors=True)  # of a call that was killed while removing it
    return True


def begin(making: Making, mix: bool) -> bool:
    """Make the folder and note the plan, or find the same plan noted; return whether the release is complete by now.

    Another task may be any number of steps further between two looks, so each is at what comes before the next. It
    writes SHA256SUMS before the plan goes.
    """
    notes, release = making.notes, making.release
    occupied = release.exists() and (not release.is_dir() or any(release.iterdir()))
    if occupied and not (_is_being_begun(notes) or (notes / PLAN).is_file()):
        return _is_completed_meanwhile(making)
    if not (notes / PLAN).exists():
        notes.mkdir(parents=True, exist_ok=True)  # which has NFS look anew at what else is in `release`
        if is_complete(release, making.plan):
            return True
        if disk.write_new_json(notes / PLAN, making.plan) and (release / SUMS).exists():
            (notes / PLAN).unlink(missing_ok=True)
            return _is_completed_meanwhile(making)
    (release / "data").mkdir(exist_ok=True)
    noted = read_note(notes / PLAN)
    if not isinstance(noted, dict) or not making.plan.keys() <= noted.keys():
        raise ReleaseError(f"{notes / PLAN} is altered: it is not a plan of hg3; remove {release} and begin anew")
    if _same_plan(noted, making.plan, release, mix):
        other = {key: making.plan[key] for key in ENVIRONMENT}
        name = hashlib.sha256(json.dumps(other, sort_keys=True).encode()).hexdigest()[:12]
        disk.write_json(notes / f"mixed-{name}.json", other)
    return False


def _is_completed_meanwhile(making: Making) -> bool:
    """Return True of a folder that holds the release, complete; refuse it if it holds anything else."""
    if is_complete(making.release, making.plan):
        return True
    raise ReleaseError(f"{making.release} is there already and holds something else; choose another folder")


def read_note(path: Path) -> Any:
    """Return a file of the notes; raise FileNotFoundError of one that is gone."""
    try:
        return disk.read_json(path, "a release in the making")
    except RunError:
        path.open("rb").close()  # says so of one that is gone; to exists(), NFS may tell what it remembers
        raise


def _is_being_begun(notes: Path) -> bool:
    """Whether `notes` is a folder that another shard, or one that was killed, has made and not yet put a plan into."""
    return notes.is_dir() and all(path.name.startswith(disk.TEMPORARY_PREFIX) for path in notes.iterdir())


def _same_plan(noted: dict[str, Any], plan: dict[str, Any], release: Path, mix: bool) -> bool:
    """Return whether the environment of `noted` differs, which only `mix` allows; any other difference is refused."""
    differences = environment_differences(noted, plan)
    rest = {key for key in plan if noted.get(key) != plan[key]} - set(ENVIRONMENT)
    if rest:
        raise ReleaseError(
            f"{release} holds another release: {', '.join(sorted(rest))} differ from what is asked now; "
            "choose another folder"
        )
    if differences and not mix:
        raise ReleaseError(
            f"{release} was begun elsewhere: {'; '.join(differences)}; the bytes would differ: go on there, begin anew "
            "in another folder, or accept it with --mix"
        )
    return bool(differences)
