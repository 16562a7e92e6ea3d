"""The verbs: submit a work, submit what of it is missing, cancel it."""

import os
import signal
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hg3 import disk
from hg3.cluster import slurm
from hg3.cluster.kinds import is_whole
from hg3.cluster.profiles import change_profile
from hg3.cluster.state import Piece, local_processes, pieces
from hg3.cluster.tasks import perform
from hg3.cluster.works import (
    Array,
    Stage,
    Work,
    begin_work,
    check_free,
    folder_of,
    new_submission,
    read_arrays,
    read_work,
    submissions,
    write_arrays,
    write_work,
)
from hg3.errors import ConfigError
from hg3.release.repair import reopen_damaged

Step = tuple[str, int]


def submit(out: str | Path, cluster: str, stages: tuple[Stage, ...]) -> Work:
    """Note a work and submit all of it."""
    check_accepted(out, cluster)
    check_profiles(stages)
    work = begin_work(Path(out), cluster, stages)
    submit_missing(work)
    return work


def check_accepted(out: str | Path, cluster: str) -> None:
    """Refuse what `submit` would refuse, before anything is made for it.

    Raises
    ------
    ClusterError
        If something was submitted to this place before, or there is no such cluster.
    """
    check_free(Path(out), cluster)
    if cluster == "slurm":
        slurm.largest_array()  # refuses where there is no SLURM


def check_profiles(stages: tuple[Stage, ...]) -> None:
    """Refuse a profile of which a stage would leave most idle.

    Raises
    ------
    ConfigError
        If a training, which is one process, asks for several GPUs.
    """
    for stage in stages:
        if stage.kind == "train" and stage.profile.gpus > 1:
            raise ConfigError(
                f"the profile of {stage.name} asks for {stage.profile.gpus} GPUs and a training that is submitted uses "
                "one: give --slurm gpus=1, or start one seed on several with torchrun"
            )


def would_submit(out: str | Path, cluster: str, stages: tuple[Stage, ...]) -> Iterator[tuple[Stage, list[str]]]:
    """Yield each stage with lines on the arrays that `submit` would start for it; nothing is written."""
    from hg3.cluster.jobs import parameters

    check_profiles(stages)
    work = Work(folder_of(Path(out)), "DRY", cluster, stages)
    lost = [Piece(stage, index, "lost") for stage in stages for index in range(len(stage.calls))]
    arrays = list(plan_arrays(work, lost, "submission-0001"))
    for stage in stages:
        mine = [array for array in arrays if array.jobs[0][0][0] == stage.name]
        sizes = " + ".join(str(len(array.jobs)) for array in mine) or "0"
        arrays_said = f", in arrays of {sizes}" if cluster == "slurm" else ""
        asked = parameters(cluster, "hg3", stage.profile) if cluster != "debug" else {}
        said = (f"{key.removeprefix('slurm_')}={value}" for key, value in asked.items() if key != "name")
        yield stage, [f"{stage.name}: {len(stage.calls)} tasks on {cluster}{arrays_said}", "  " + " ".join(said)]


def resume(out: str | Path, changes: dict[str, str] | None = None) -> list[Piece]:
    """Submit exactly what is neither done nor being done of the work whose result is `out`; return that.

    `changes` are keys of the profile, {"minutes": "240"}, for this submission and later ones.

    A part of a complete release that does not match its checksum counts as missing.
    """
    work = read_work(Path(out))
    if changes:
        stages = tuple(replace(stage, profile=change_profile(stage.profile, changes)) for stage in work.stages)
        check_profiles(stages)
        work = replace(work, stages=stages)
        write_work(work)
    return submit_missing(work, repair=True)


def cancel(out: str | Path) -> None:
    """Cancel all jobs of the work whose result is `out`; what they made stays."""
    work = read_work(Path(out))
    if work.cluster == "slurm":
        slurm.cancel([array.name for folder in submissions(work) for array in read_arrays(folder)])
    for process in local_processes(work) if work.cluster == "local" else ():
        os.kill(process, signal.SIGTERM)  # submitit hands it on


def submit_missing(work: Work, repair: bool = False) -> list[Piece]:
    """Submit what is missing of a work, with `repair` what is damaged of a complete release too; return that."""
    with disk.lock(work.folder / ".lock", "--out"):
        for stage in work.stages if repair else ():
            if stage.kind == "generate" and is_whole(stage.calls[0]):
                reopen_damaged(Path(stage.calls[0]["out"]))
        found = pieces(work)
        missing = [piece for piece in found if piece.state in ("lost", "failed")]
        if missing:
            folder = new_submission(work)
            arrays = list(plan_arrays(work, missing, folder.name))
            write_arrays(folder, arrays)
            _start(work, folder, arrays, _active(found))
    return missing


def _active(found: Sequence[Piece]) -> list[str]:
    """Return the ids of the arrays that wait or run."""
    jobs = {piece.job for piece in found if piece.state in ("running", "waiting")}
    return sorted({job.partition("_")[0] for job in jobs if job})


def plan_arrays(work: Work, missing: Sequence[Piece], submission: str) -> Iterator[Array]:
    """Yield the arrays that do what is missing; on SLURM no longer than it allows, elsewhere a single one."""
    prefix, number = f"hg3-{work.id}-{int(submission.rpartition('-')[2])}", 0
    if work.cluster != "slurm":
        yield Array(f"{prefix}-1", tuple(_in_turn(work, missing)))
        return
    largest = slurm.largest_array()
    before: list[str] = []
    for stage in work.stages:
        steps = [(piece.stage.name, piece.index) for piece in missing if piece.stage.name == stage.name]
        names = []
        for first in range(0, len(steps), largest):
            number += 1
            names.append(f"{prefix}-{number}")
            jobs = tuple((step,) for step in steps[first : first + largest])
            yield Array(names[-1], jobs, tuple(before))
        before = names or before


def _in_turn(work: Work, missing: Sequence[Piece]) -> list[tuple[Step, ...]]:
    """Return the pieces shared among as many processes as may run at once; those of several stages all in one."""
    steps = [(piece.stage.name, piece.index) for piece in missing]
    several = len(work.stages) > 1 or work.cluster == "debug"
    jobs = 1 if several else min(work.stages[0].profile.parallel, len(steps))
    return [tuple(steps[first::jobs]) for first in range(jobs)]


def _start(work: Work, folder: Path, arrays: list[Array], active: Sequence[str]) -> None:
    """Start the arrays, and note the ids of each as soon as they are known."""
    if work.cluster == "debug":
        perform([_step(work, step) for job in arrays[0].jobs for step in job])
        return
    from hg3.cluster.jobs import start

    ids: dict[str, tuple[str, ...]] = {}
    for number, array in enumerate(arrays):
        jobs = [[_step(work, step) for step in job] for job in array.jobs]
        after = [*active, *(ids[name][0].partition("_")[0] for name in array.after)]
        stage = work.stage(array.jobs[0][0][0])
        waits = after if stage != work.stages[0] else ()
        started = start(work.cluster, folder / array.name, array.name, jobs, stage.profile, waits)
        host = f"{socket.gethostname()}:" if work.cluster == "local" else ""
        ids[array.name] = tuple(f"{host}{job}" for job in started)
        arrays[number] = replace(array, ids=ids[array.name])
        write_arrays(folder, arrays)


def _step(work: Work, step: Step) -> dict[str, Any]:
    stage = work.stage(step[0])
    call = stage.calls[step[1]]
    return {"kind": stage.kind, "call": call, "record": str(work.record(stage, step[1]))}
