"""Releases on a real SLURM: whatever happens to the tasks, every byte is that of a release that nothing happened to."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from hg3 import disk
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
    PATIENCE,
    PATIENTS,
    SCHEMA,
    accounted,
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
LONGEST_LIFE = 12  # of a task that is to be killed, in parts that a process makes alone; eight share two cores


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


class Killer:
    """Kills each task that it sees at work at a moment of its own, until there were enough.

    life : of a task that is to be killed, in seconds since it was first seen, is drawn from nothing to this.
    """

    def __init__(self, life: float) -> None:
        self.life, self.chance = life, random.Random(0)
        self.moments, self.dead = dict[int, float](), set[int]()

    def look(self, work: Work) -> None:
        for path in (work.folder / "records").glob("*.json"):
            record, now = read_record(path), time.monotonic()
            if record.get("state") != "running" or record["process"] in self.dead or len(self.dead) == KILLS:
                continue
            if now >= self.moments.setdefault(record["process"], now + self.chance.uniform(0.0, self.life)):
                with suppress(ProcessLookupError):  # it ended in the meantime
                    os.kill(record["process"], signal.SIGKILL)
                    self.dead.add(record["process"])


def harm(release: Path) -> bool:
    """Truncate one part that is made and delete another; return whether there were two."""
    made = parts_made(release)
    if made is None or len(made[0]) < 2:
        return False
    first, second = (release / note["file"] for note in list(made[0].values())[:2])
    first.write_bytes(first.read_bytes()[:-100])
    second.unlink()
    return True


def made(work: Work, out: Path, killer: Killer, harmed: bool) -> bool:
    """Wait until a release is made, while tasks are killed and parts are harmed; return whether any were."""
    end, asked = time.monotonic() + 2 * PATIENCE, 0.0
    while time.monotonic() < end:
        killer.look(work)
        harmed = harmed or (len(killer.dead) > KILLS // 2 and harm(out))
        if time.monotonic() > asked + 1:
            found, asked = {piece.state for piece in pieces(work)}, time.monotonic()
            if found == {"done"}:
                return harmed
            if not found & {"running", "waiting"}:
                resume(out)
        time.sleep(0.05)
    raise AssertionError(f"{out} was not made in {2 * PATIENCE:.0f} s")


def test_kills_and_damage_leave_no_trace(
    slurm: Path, run: Path, large: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many releases as it takes for 20 kills, at moments spread over several parts."""
    sampling = disk.read_json(run.parent / "large" / "provenance.json", "a release")["sampling_seconds"]
    killer, harmed = Killer(LONGEST_LIFE * sampling * SIZES["part_blocks"] * SIZES["block_patients"] / RELEASED), False
    for number in count():
        out = tmp_path / f"release-{number}"
        work = submit(out, "slurm", (stage_of(run, out, RELEASED, TASKS),))
        assert [len(array.jobs) for array in read_arrays(submissions(work)[0])] == [8, 4]  # MaxArraySize is 8
        harmed = made(work, out, killer, harmed)
        settled(work)
        assert file_bytes(out) == large
        verify_release(out)
        if len(killer.dead) == KILLS and harmed:
            break
    with monkeypatch.context() as patched:
        asked = commands_asked(patched)
        assert len(pieces(work)) == TASKS
    assert asked == ["squeue", "sacct"]  # of twelve tasks, in two arrays and whatever was submitted again


def commands_asked(patched: pytest.MonkeyPatch) -> list[str]:
    """Return a list that every command that is started from now on goes to."""
    asked: list[str] = []
    run = subprocess.run

    def noted(command: list[str], **given: Any) -> Any:
        asked.append(command[0])
        return run(command, **given)

    patched.setattr(subprocess, "run", noted)
    return asked


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
import os, signal, sys
from dataclasses import replace
from pathlib import Path
import submitit
from hg3.cluster import jobs
from hg3.cluster.submit import submit
from tests.cluster.test_generation import stage_of
run, out, moment = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
real, calls = jobs.start, []
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
def start(*given):
    calls.append(1)
    return die() if moment == "arrays" and len(calls) == 2 else real(*given)
jobs.start = start
if moment == "noted":  # what is to be submitted is, and nothing was
    jobs.start = die
if moment == "queued":  # SLURM has the jobs, and what they are to do has not its name yet
    submitit.core.utils.JobPaths.move_temporary_file = die
first = stage_of(run, out, 2048, 2)
submit(out, "slurm", (first, replace(first, name="second")))
"""


def test_submitter_is_killed(slurm: Path, run: Path, tmp_path: Path) -> None:
    """Between two arrays; before the first one is submitted; and before its jobs can find what they are to do."""
    outs = {moment: tmp_path / moment for moment in ("arrays", "noted", "queued")}
    died = [subprocess.Popen([sys.executable, "-c", SUBMIT, str(run), str(outs[m]), m]) for m in outs]
    assert [submitter.wait() for submitter in died] == [-signal.SIGKILL] * 3
    sent = [[bool(array.ids) for array in read_arrays(submissions(read_work(out))[0])] for out in outs.values()]
    assert sent == [[True, False], [False, False], [False, False]]
    wanted = whole(run, tmp_path / "whole", 2048)
    for out in outs.values():
        work = read_work(out)
        for _ in range(3):
            if all(piece.state == "done" for piece in settled(work)):
                break
            resume(out)
        assert counts(settled(work))["done"] == 4, out
        assert file_bytes(out) == wanted


def test_two_tasks_that_own_the_same_parts(slurm: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "release"
    stage = stage_of(run, out, 2048, 2)
    twice = Stage(stage.name, stage.kind, (stage.calls[0], stage.calls[0], *stage.calls), stage.profile)
    work = submit(out, "slurm", (twice,))
    all_done(work)
    assert file_bytes(out) == whole(run, tmp_path / "whole", 2048)


def test_sbatch_alone_makes_the_same_release_through_a_requeue(slurm: Path, run: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "slurm" / "generate.sbatch"
    options = ["--array=1-2", "--mem=1G", "-o", str(tmp_path / "log-%a")]
    release, patients = tmp_path / "release", 12_000
    job = sbatch(*options, script, run, release, patients, "--seed", 7, "--steps", 4)
    until("a part is made", lambda: (made := parts_made(release)) and made[0], every=0.1)
    subprocess.run(["scancel", "--signal=USR1", f"{job}_1"], check=True)
    until("the array ends", lambda: is_over(job))
    assert generate(run, tmp_path / "whole", patients, seed=7, steps=4)
    assert file_bytes(release) == file_bytes(tmp_path / "whole")
    until("it was put back once", lambda: sorted(accounted("-j", job)) == ["COMPLETED", "COMPLETED", "REQUEUED"])
