"""How far a work is: from what it left on disk first, from the cluster second."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hg3.cluster.kinds import KINDS
from hg3.cluster.records import IN_LOG, read_record
from hg3.cluster.sights import UNSEEN, Sight, elsewhere, seen_by_cluster
from hg3.cluster.works import Stage, Work
from hg3.release.share import parts_made

STATES = ("done", "running", "waiting", "lost", "failed")


@dataclass(frozen=True)
class Piece:
    """One piece of work.

    state : done; running or waiting, as the cluster says; failed; or lost: it was to be done, it is not, and nobody
        is at it.
    why : it failed or was lost; what it waits for.
    held : it is lost and in SLURM's queue still, which will not start it.
    """

    stage: Stage
    index: int
    state: str
    job: str | None = None
    done: int | None = None
    total: int | None = None
    per_second: float | None = None
    why: str | None = None
    held: bool = False

    @property
    def name(self) -> str:
        return str(self.stage.calls[self.index].get("label", self.stage.name))

    @property
    def seconds_left(self) -> float | None:
        if self.state != "running" or not self.total or not self.per_second or self.done is None:
            return None
        return (self.total - self.done) / self.per_second


def pieces(work: Work) -> list[Piece]:
    """Return the state of every piece of a work, after one question to the cluster about all of them.

    Raises
    ------
    ClusterError
        If the cluster does not answer, or what is not done was started on another machine than this.
    """
    seen = seen_by_cluster(work)
    done = {stage.name: KINDS[stage.kind].are_done(stage.calls) for stage in work.stages}
    return [
        _piece(work, stage, i, is_done, seen) for stage in work.stages for i, is_done in enumerate(done[stage.name])
    ]


def _piece(work: Work, stage: Stage, index: int, is_done: bool, seen: dict[tuple[str, int], Sight]) -> Piece:
    record, sight = read_record(work.record(stage, index)), seen.get((stage.name, index), UNSEEN)
    progress: dict[str, Any] = {key: record.get(key) for key in ("done", "total", "per_second")}
    job = sight.job or record.get("job")
    if is_done:
        return Piece(stage, index, "done", job, **progress)
    if sight.state == "elsewhere":
        raise elsewhere(work, str(sight.reason))
    if sight.state in ("running", "waiting"):
        # a job does its pieces one after the other
        state = sight.state if record.get("state") == "running" or sight.alone else "waiting"
        return Piece(stage, index, state, job, **progress, why=sight.reason)
    noted = record.get("state") if sight.job in (None, record.get("job")) else None  # of this job, or of one before
    if noted == "failed":
        return Piece(stage, index, "failed", job, **progress, why=_told(str(record.get("error")), sight.log))
    # who could not note that it failed, as on a full disk; who noted that it stopped was to be queued again
    failed = sight.state in ("FAILED", "OUT_OF_MEMORY") and noted != "stopped"
    held = sight.state == "held"
    return Piece(stage, index, "failed" if failed else "lost", job, **progress, why=sight.why(), held=held)


def _told(error: str, log: Path | None) -> str:
    """Return why a piece failed, with the path of the log if that alone says it."""
    return f"{error} ({log})" if log is not None and error.endswith(IN_LOG) else error


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
