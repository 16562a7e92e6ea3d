"""A release by 1, 2, 4 tasks of a cluster: wall time, and what a task costs beside its patients.

Called by benchmarks.scale --cluster. The overhead of a task is what SLURM counts of it less what its parts took: start
of Python, imports, the checkpoint, and the end.
"""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hg3 import disk
from hg3.cluster import slurm
from hg3.cluster.profiles import Profile
from hg3.cluster.state import pieces
from hg3.cluster.submit import submit
from hg3.cluster.verbs import generation_stage
from hg3.cluster.works import Stage, Work, folder_of, read_arrays, submissions

POLL_SECONDS = 0.5
LOOKS_A_QUESTION = 20  # at the disk, for each at the cluster, whom questions keep from its work
BUSY = {"running", "waiting"}


def one_release(run: Path, release: Path, patients: int, steps: int, tasks: int, profile: Profile) -> dict[str, Any]:
    """Return how long `tasks` tasks take for a release, and what of it was not sampling.

    Raises
    ------
    SystemExit
        If the tasks end without a release.
    """
    for path in (release, folder_of(release)):
        shutil.rmtree(path, ignore_errors=True)
    stage = generation_stage(run, release, patients, tasks=tasks, steps=steps)
    started = time.perf_counter()
    work = submit(release, "slurm", (Stage(stage.name, stage.kind, stage.calls, profile),))
    wait(work, lambda: (release / "SHA256SUMS").is_file())
    wall = time.perf_counter() - started
    while BUSY & {piece.state for piece in pieces(work)} or len(elapsed := counted_by_slurm(work)) < len(stage.calls):
        time.sleep(POLL_SECONDS)
    sampling = disk.read_json(release / "provenance.json", "a release")["sampling_seconds"]
    return {
        "tasks": len(stage.calls),
        "patients": patients,
        "wall_s": round(wall, 1),
        "patients_per_s": round(patients / wall, 1),
        "task_s": sum(elapsed),
        "sampling_s": round(sampling, 1),
        "overhead_s_a_task": round((sum(elapsed) - sampling) / len(stage.calls), 1),
    }


def wait(work: Work, is_made: Callable[[], bool]) -> None:
    """Wait for what a work makes, as long as a task of it runs or waits."""
    looks = 0
    while not is_made():
        time.sleep(POLL_SECONDS)
        looks += 1
        if looks % LOOKS_A_QUESTION == 0:
            found = pieces(work)
            if not BUSY & {piece.state for piece in found} and not is_made():
                raise SystemExit(f"nothing was made: {'; '.join(f'{p.name} {p.state}, {p.why}' for p in found)}")


def counted_by_slurm(work: Work) -> list[int]:
    """Return the seconds of each task of a work that has ended, however it did."""
    names = ",".join(array.name for folder in submissions(work) for array in read_arrays(folder))
    command = ["sacct", "-X", "-n", "-P", f"--name={names}", "-o", "State,ElapsedRaw"]
    rows = (line.split("|") for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines())
    return [int(seconds) for state, seconds in rows if state not in slurm.RUNNING | slurm.WAITING]
