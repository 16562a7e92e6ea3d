"""What was asked of the cluster, on disk beside its result: the work in stages, and every submission of it."""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hg3 import disk
from hg3.cluster.calls import Call
from hg3.cluster.profiles import Profile
from hg3.errors import ClusterError

FORMAT = 1
WORK = "work.json"
JOBS = ".jobs"  # behind the name of a result: the folder of what was submitted for it
CLUSTERS = ("slurm", "local", "debug")


@dataclass(frozen=True)
class Stage:
    """Pieces of work of one kind that need not wait for each other; the next stage waits for all of them."""

    name: str
    kind: str
    calls: tuple[Call, ...]
    profile: Profile = field(default_factory=Profile)


@dataclass(frozen=True)
class Work:
    """All that one command asked for; `folder` holds its record, its submissions and their logs."""

    folder: Path
    id: str
    cluster: str
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

    def record(self, stage: Stage, index: int) -> Path:
        """Return the file in which a piece of work notes how far it is."""
        return self.folder / "records" / f"{stage.name}-{index:04d}.json"


@dataclass(frozen=True)
class Array:
    """Jobs submitted at once: each does the pieces of work `jobs[i]`, as (stage, index), one after the other."""

    name: str
    jobs: tuple[tuple[tuple[str, int], ...], ...]
    after: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()


def folder_of(out: Path) -> Path:
    """Return where the jobs of a result are kept: beside it, for a release holds nothing else than itself."""
    out = out.absolute()
    return out.with_name(out.name + JOBS)


def begin_work(out: Path, cluster: str, stages: tuple[Stage, ...]) -> Work:
    """Note a work that nothing has been submitted of.

    Raises
    ------
    ClusterError
        If something was submitted to this place before.
    """
    check_free(out, cluster)
    work = Work(folder_of(out), os.urandom(4).hex(), cluster, stages)
    work.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (work.folder / "records").mkdir(exist_ok=True)
    if not disk.write_new_json(work.folder / WORK, _content(work)):  # another submission came since that look
        raise _occupied(out)
    return work


def check_free(out: Path, cluster: str) -> None:
    """Refuse a place that something was submitted to before, and a cluster that is none."""
    if cluster not in CLUSTERS:
        raise ClusterError(f"--cluster {cluster} was given; it is one of {', '.join(CLUSTERS)}")
    if (folder_of(out) / WORK).exists():
        raise _occupied(out)


def _occupied(out: Path) -> ClusterError:
    return ClusterError(
        f"{folder_of(out)} holds a submission already; look at it with hg3 jobs {out}, submit what is missing with "
        "--resume, or choose another --out"
    )


def write_work(work: Work) -> None:
    """Write what is asked for now into the work's folder."""
    disk.write_json(work.folder / WORK, _content(work))


def _content(work: Work) -> dict[str, Any]:
    told = [{**vars(stage), "profile": stage.profile.model_dump(mode="json")} for stage in work.stages]
    return {"format": FORMAT, "id": work.id, "cluster": work.cluster, "stages": told}


def read_work(out: Path) -> Work:
    """Return the work whose result is `out`.

    Raises
    ------
    ClusterError
        If nothing was submitted for it, or its note is of a newer hg3.
    """
    folder = folder_of(out)
    if not (folder / WORK).is_file():
        raise ClusterError(f"no job was submitted for {out}: there is no {folder}; begin with hg3 submit")
    content = disk.read_json(folder / WORK, "a submission of hg3")
    try:
        if content["format"] > FORMAT:
            raise ClusterError(f"{folder} has format {content['format']} and this hg3 reads {FORMAT}; update hg3")
        stages = (Stage(s["name"], s["kind"], tuple(s["calls"]), Profile(**s["profile"])) for s in content["stages"])
        return Work(folder, content["id"], content["cluster"], tuple(stages))
    except (KeyError, TypeError, ValueError):
        raise ClusterError(f"{folder / WORK} is altered: it is not as hg3 writes it; remove {folder}") from None


def submissions(work: Work) -> list[Path]:
    """Return the folders of all submissions, oldest first."""
    return sorted(work.folder.glob("submission-*"))


def new_submission(work: Work) -> Path:
    """Make the folder of a submission: fresh, for ids come again on a new cluster, and logs with them."""
    number = 1 + max((int(path.name.rpartition("-")[2]) for path in submissions(work)), default=0)
    folder = work.folder / f"submission-{number:04d}"
    folder.mkdir()
    return folder


def write_arrays(submission: Path, arrays: list[Array]) -> None:
    """Note what is submitted; before it is, for then it is found by its name if the submitter dies."""
    disk.write_json(submission / "submission.json", [asdict(array) for array in arrays])


def read_arrays(submission: Path) -> list[Array]:
    """Return what was submitted; nothing if the submitter died before it noted anything."""
    if not (submission / "submission.json").is_file():
        return []
    content: list[dict[str, Any]] = disk.read_json(submission / "submission.json", "a submission of hg3")
    return [
        Array(
            entry["name"],
            tuple(tuple((stage, index) for stage, index in job) for job in entry["jobs"]),
            tuple(entry["after"]),
            tuple(entry["ids"]),
        )
        for entry in content
    ]
