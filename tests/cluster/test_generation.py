"""Releases on a real SLURM: whatever happens to the tasks, every byte is that of a release that nothing happened to."""

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hg3.cluster.records import read_record
from hg3.cluster.state import counts, pieces
from hg3.cluster.submit import resume, submit
from hg3.cluster.verbs import generation_stage
from hg3.cluster.works import Stage, Work, read_arrays, read_work, submissions
from hg3.release.share import parts_made
from hg3.release.verify import verify_release
from hg3.release.writer import generate
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.write import write_table
from hg3.training.run import train
from tests.cluster.cases import (
    CHANGES,
    PATIENTS,
    SCHEMA,
    all_done,
    is_over,
    preempt,
    profile,
    sbatch,
    settled,
    starts_of_each,
    until,
)
from tests.runs import file_bytes

pytestmark = pytest.mark.cluster
SIZES: dict[str, Any] = {"steps": 4, "block_patients": 128, "part_blocks": 4}
RELEASED, TASKS, KILLS = 20_000, 12, 20


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_table(simulate(PATIENTS, seed=0), folder / "cohort.parquet")
    assert train(folder / "cohort.parquet", folder / "run", SCHEMA, changes=CHANGES, updates=50)
    return folder / "run"


def stage_of(run: Path, out: Path, patients: int, tasks: int) -> Stage:
    stage = generation_stage(run, out, patients, seed=7, tasks=tasks, **SIZES)
    return Stage(stage.name, stage.kind, stage.calls, profile())


def whole(run: Path, out: Path, patients: int) -> dict[str, bytes]:
    assert generate(run, out, patients, seed=7, **SIZES)
    return file_bytes(out)


@pytest.fixture(scope="module")
def large(run: Path) -> dict[str, bytes]:
    """A release that nothing happened to."""
    return whole(run, run.parent / "large", RELEASED)


def killed(work: Work, dead: set[int], chance: random.Random) -> int:
    """Kill each task that is at work with a probability of one half; return how many that were."""
    before = len(dead)
    for path in (work.folder / "records").glob("*.json"):
        record = read_record(path)
        if record.get("state") == "running" and record["process"] not in dead and chance.random() < 0.5:
            with suppress(ProcessLookupError):  # it ended in the meantime
                os.kill(record["process"], signal.SIGKILL)
                dead.add(record["process"])
    return len(dead) - before


def harm(release: Path) -> bool:
    """Truncate one part that is made and delete another; return whether there were two."""
    made = parts_made(release)
    if made is None or len(made[0]) < 2:
        return False
    first, second = (release / note["file"] for note in list(made[0].values())[:2])
    first.write_bytes(first.read_bytes()[:-100])
    second.unlink()
    return True


def test_kills_and_damage_leave_no_trace(slurm: Path, run: Path, large: dict[str, bytes], tmp_path: Path) -> None:
    out, chance = tmp_path / "release", random.Random(0)
    work = submit(out, "slurm", (stage_of(run, out, RELEASED, TASKS),))
    assert [len(array.jobs) for array in read_arrays(submissions(work)[0])] == [8, 4]  # MaxArraySize is 8
    kills, harmed, dead = 0, False, set[int]()

    def kill_or_resume() -> bool:
        nonlocal kills, harmed
        kills += killed(work, dead, chance)
        harmed = harmed or (kills > KILLS // 2 and harm(out))
        if {piece.state for piece in pieces(work)} <= {"done", "lost", "failed"}:
            resume(out)
        return kills >= KILLS

    until(f"{KILLS} kills", kill_or_resume, every=0.1)
    until("two parts to harm", lambda: harmed or harm(out), every=0.1)
    while any(piece.state != "done" for piece in settled(work)):
        resume(out)
    assert file_bytes(out) == large
    verify_release(out)


def test_signals_and_preemption_leave_no_trace(slurm: Path, run: Path, large: dict[str, bytes], tmp_path: Path) -> None:
    """USR2 to one task, as before a time limit, and a job that needs the whole node, from the others too."""
    out = tmp_path / "release"
    work = submit(out, "slurm", (stage_of(run, out, RELEASED, 3),))
    (array,) = read_arrays(submissions(work)[0])
    until("parts are made", lambda: (made := parts_made(out)) and len(made[0]) > 2)
    subprocess.run(["scancel", "--signal=USR2", f"{array.ids[0]}"], check=True)
    preempt()
    all_done(work)
    assert starts_of_each(work) == [2, 2, 2] and len(submissions(work)) == 1
    assert file_bytes(out) == large
    verify_release(out)


SUBMIT = """
import sys
from pathlib import Path
from hg3.cluster.submit import submit
from tests.cluster.test_generation import stage_of
run, out = map(Path, sys.argv[1:])
from dataclasses import replace
first = stage_of(run, out, 2048, 2)
submit(out, "slurm", (first, replace(first, name="second")))
"""


def test_submitter_is_killed(slurm: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "release"
    submitter = subprocess.Popen([sys.executable, "-c", SUBMIT, str(run), str(out)])
    begun = tmp_path / "release.jobs" / "submission-0001"
    until("an array is submitted", lambda: (arrays := read_arrays(begun)) and arrays[0].ids, every=0.01)
    submitter.kill()
    submitter.wait()
    work = read_work(out)
    for _ in range(3):
        if all(piece.state == "done" for piece in settled(work)):
            break
        resume(out)
    assert counts(settled(work))["done"] == 4
    assert file_bytes(out) == whole(run, tmp_path / "whole", 2048)


def test_two_tasks_that_own_the_same_parts(slurm: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "release"
    stage = stage_of(run, out, 2048, 2)
    twice = Stage(stage.name, stage.kind, (stage.calls[0], stage.calls[0], *stage.calls), stage.profile)
    work = submit(out, "slurm", (twice,))
    all_done(work)
    assert file_bytes(out) == whole(run, tmp_path / "whole", 2048)


def test_sbatch_alone_makes_the_same_release(slurm: Path, run: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "slurm" / "generate.sbatch"
    options = ["--array=1-2", "--mem=1G", "-o", str(tmp_path / "log-%a")]
    job = sbatch(*options, script, run, tmp_path / "release", 3000, "--seed", 7, "--steps", 4)
    until("the array ends", lambda: is_over(job))
    assert generate(run, tmp_path / "whole", 3000, seed=7, steps=4)
    assert file_bytes(tmp_path / "release") == file_bytes(tmp_path / "whole")
