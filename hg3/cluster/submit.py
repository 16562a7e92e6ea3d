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
from hg3.cluster.arrays import Step, active_before, at_once, held_back, plan_arrays, stage_of
from hg3.cluster.kinds import is_whole
from hg3.cluster.profiles import change_profile
from hg3.cluster.sights import local_processes
from hg3.cluster.state import Piece, pieces
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
        mine = [array for array in arrays if stage_of(work, array) == stage]
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
    """Submit what is missing of a work, with `repair` what is damaged of a complete release too; return that.

    What waits for it in the queue is taken out and submitted again, to wait for the new jobs.
    """
    with disk.lock(work.folder / ".lock", "--out"):
        for stage in work.stages if repair else ():
            if stage.kind == "generate" and is_whole(stage.calls[0]):
                reopen_damaged(Path(stage.calls[0]["out"]))
        found = pieces(work)
        missing = [piece for piece in found if piece.state in ("lost", "failed")]
        if missing:
            again = _taken_out(work, found)
            missing += again
            folder = new_submission(work)
            arrays = list(plan_arrays(work, missing, folder.name))
            write_arrays(folder, arrays)
            taken = {id(piece) for piece in again}
            _start(work, folder, arrays, [piece for piece in found if id(piece) not in taken])
    return missing


def _taken_out(work: Work, found: Sequence[Piece]) -> list[Piece]:
    """Take out of the queue what would never start, or start too soon; return the latter, which was not missing."""
    again = held_back(work, found) if work.cluster == "slurm" else []
    held = [piece for piece in found if piece.held]
    slurm.cancel_tasks([piece.job for piece in (*held, *again) if piece.job])
    return again


def _start(work: Work, folder: Path, arrays: list[Array], found: Sequence[Piece]) -> None:
    """Start the arrays, and note the ids of each as soon as they are known."""
    if work.cluster == "debug":
        perform([_step(work, step) for job in arrays[0].jobs for step in job])
        return
    from hg3.cluster.jobs import start

    ids: dict[str, tuple[str, ...]] = {}
    for number, array in enumerate(arrays):
        jobs = [[_step(work, step) for step in job] for job in array.jobs]
        stage = stage_of(work, array)
        profile = stage.profile.model_copy(update={"parallel": at_once(work, arrays, array)})
        after = [*active_before(work, found, stage), *(ids[name][0].partition("_")[0] for name in array.after)]
        started = start(work.cluster, folder / array.name, array.name, jobs, profile, after)
        host = f"{socket.gethostname()}:" if work.cluster == "local" else ""
        ids[array.name] = tuple(f"{host}{job}" for job in started)
        arrays[number] = replace(array, ids=ids[array.name])
        write_arrays(folder, arrays)


def _step(work: Work, step: Step) -> dict[str, Any]:
    stage = work.stage(step[0])
    call = stage.calls[step[1]]
    return {"kind": stage.kind, "call": call, "record": str(work.record(stage, step[1]))}
