"""How far a work is: from what it left on disk first, from the cluster second."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hg3.cluster import slurm
from hg3.cluster.kinds import KINDS
from hg3.cluster.records import read_record
from hg3.cluster.works import Array, Stage, Work, read_arrays, submissions
from hg3.release.share import parts_made

STATES = ("done", "running", "waiting", "lost", "failed")


@dataclass(frozen=True)
class Piece:
    """One piece of work.

    state : done; running or waiting, as the cluster says; failed, for the reason `why`; or lost: it was to be done,
        it is not, and nobody is at it.
    """

    stage: Stage
    index: int
    state: str
    job: str | None = None
    done: int | None = None
    total: int | None = None
    per_second: float | None = None
    why: str | None = None

    @property
    def name(self) -> str:
        return str(self.stage.calls[self.index].get("label", self.stage.name))

    @property
    def seconds_left(self) -> float | None:
        if self.state != "running" or not self.total or not self.per_second or self.done is None:
            return None
        return (self.total - self.done) / self.per_second


def pieces(work: Work) -> list[Piece]:
    """Return the state of every piece of a work, after one question to the cluster about all of them."""
    arrays = [(folder, array) for folder in submissions(work) for array in read_arrays(folder)]
    seen = _seen_by_cluster(work, arrays)
    done = {stage.name: KINDS[stage.kind].are_done(stage.calls) for stage in work.stages}
    return [
        _piece(work, stage, i, is_done, seen) for stage in work.stages for i, is_done in enumerate(done[stage.name])
    ]


def _piece(work: Work, stage: Stage, index: int, is_done: bool, seen: dict[tuple[str, int], "Sight"]) -> Piece:
    record = read_record(work.record(stage, index))
    sight = seen.get((stage.name, index))
    progress = {key: record.get(key) for key in ("done", "total", "per_second")}
    job = sight.job if sight else record.get("job")
    if is_done:
        return Piece(stage, index, "done", job, **progress)
    if sight and sight.state in ("running", "waiting"):
        # a job does its pieces one after the other
        state = sight.state if record.get("state") == "running" or sight.alone else "waiting"
        return Piece(stage, index, state, job, **progress)
    if record.get("state") == "failed":
        return Piece(stage, index, "failed", job, **progress, why=record.get("error"))
    return Piece(stage, index, "lost", job, **progress, why=sight.why() if sight else None)


@dataclass(frozen=True)
class Sight:
    """What the cluster says of the job that a piece of work was last given to; `log` is where its errors go.

    alone : whether the job does nothing else.
    """

    state: str
    job: str | None
    alone: bool
    log: Path | None

    def why(self) -> str | None:
        """Return how the job ended, and the last line of its log."""
        word = None if self.state in ("COMPLETED", "unknown") else self.state
        last = None
        if self.log is not None and self.log.is_file():
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            last = next((line.strip() for line in reversed(lines) if line.strip()), None)
        return ": ".join(text for text in (word, last) if text) or None


def _seen_by_cluster(work: Work, arrays: list[tuple[Path, Array]]) -> dict[tuple[str, int], Sight]:
    """Return what the cluster says of each piece; of several submissions the one that is active, or the last."""
    known = slurm.tasks([array.name for _, array in arrays]) if work.cluster == "slurm" else {}
    found: dict[tuple[str, int], Sight] = {}
    for folder, array in arrays:
        for place, steps in enumerate(array.jobs):
            if work.cluster == "slurm":
                seen = known.get((array.name, place))
                sight = _sight(folder, array, place, seen, len(steps) == 1)
            else:
                sight = _local_sight(folder, array, place, len(steps) == 1)
            for step in steps:
                if step not in found or found[step].state not in ("running", "waiting"):
                    found[step] = sight
    return found


def _sight(folder: Path, array: Array, place: int, seen: slurm.Seen | None, alone: bool) -> Sight:
    if seen is None:
        return Sight("unknown", None, alone, None)
    job = f"{seen.job}_{place}" if len(array.jobs) > 1 else seen.job
    return Sight(seen.state, job, alone, folder / array.name / f"{job}_0_log.err")


def _local_sight(folder: Path, array: Array, place: int, alone: bool) -> Sight:
    """Return what this machine says of a job that was started here: its id is that of its process."""
    if place >= len(array.ids):
        return Sight("unknown", None, alone, None)
    host, _, process = array.ids[place].rpartition(":")
    log = folder / array.name / f"{process}_0_log.err"
    alive = host == socket.gethostname() and _is_submitit(int(process))
    return Sight("running" if alive else "unknown", process, alone, log)


def _is_submitit(process: int) -> bool:
    """Whether a process is there and is a job's, for ids are used again."""
    try:
        os.kill(process, 0)
        return b"submitit" in Path(f"/proc/{process}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False


def local_processes(work: Work) -> list[int]:
    """Return the processes of local jobs that live."""
    sights = _seen_by_cluster(work, [(f, a) for f in submissions(work) for a in read_arrays(f)]).values()
    return sorted({int(sight.job) for sight in sights if sight.state == "running" and sight.job})


@dataclass(frozen=True)
class Making:
    """How far a release in the making is: parts and patients made and wanted, and the speed of all tasks together."""

    parts: int
    of_parts: int
    patients: int
    of_patients: int
    per_second: float

    @property
    def seconds_left(self) -> float | None:
        return (self.of_patients - self.patients) / self.per_second if self.per_second else None


def making(found: list[Piece]) -> Making | None:
    """Return how far the release of a work is, None if none is in the making."""
    tasks = [piece for piece in found if piece.stage.kind == "generate"]
    made = parts_made(Path(tasks[0].stage.calls[0]["out"])) if tasks else None
    if made is None:
        return None
    notes, parts = made
    speed = sum(piece.per_second or 0.0 for piece in tasks if piece.state == "running")
    patients = sum(note["patients"] for note in notes.values())
    return Making(len(notes), parts, patients, tasks[0].stage.calls[0]["patients"], speed)


def counts(found: list[Piece]) -> dict[str, int]:
    """Return how many pieces are in each state."""
    return {state: sum(piece.state == state for piece in found) for state in STATES}


def as_json(piece: Piece) -> dict[str, Any]:
    """Return a piece as plain data."""
    keys = ("state", "job", "done", "total", "per_second", "seconds_left", "why")
    return {"stage": piece.stage.name, "name": piece.name, **{key: getattr(piece, key) for key in keys}}
