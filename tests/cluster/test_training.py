"""Trainings on a real SLURM: whatever happens to them, the weights are those of a training that nothing happened to."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hg3.cluster.merge import merge_runs
from hg3.cluster.places import sqlite_uri
from hg3.cluster.record import read_record as read_tracking
from hg3.cluster.records import read_record
from hg3.cluster.submit import cancel, resume, submit
from hg3.cluster.verbs import tracked_stages
from hg3.cluster.works import Work, read_arrays, submissions
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.write import write_table
from hg3.training.checkpoint import checkpoints
from tests.cluster.cases import (
    PATIENTS,
    accounted,
    all_done,
    ended,
    is_over,
    preempt,
    sbatch,
    settled,
    starts,
    starts_of_each,
    states,
    trainings,
    undisturbed,
    until,
    weights,
)
from tests.cluster.tracked import expected, found

pytestmark = pytest.mark.cluster
SECONDS_OF_TRAINING = 70  # of which the time limit leaves some 55, or less where Python is slow to start


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cohort") / "cohort.parquet"
    write_table(simulate(PATIENTS, seed=0), path)
    return path


@pytest.fixture(scope="module")
def limited(slurm: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Work, dict[str, str]]:
    """A training of more than its time limit, submitted before all others, and the weights it must end with."""
    folder = tmp_path_factory.mktemp("limited")
    undisturbed(table, folder / "measured", 9, 20)
    began = time.perf_counter()
    undisturbed(table, folder / "again", 9, 60)
    updates = max(60, int(60 / (time.perf_counter() - began) * SECONDS_OF_TRAINING))
    # the signal comes after two minutes, of which the first is slept, to spare a machine that other tests need
    limits = {"minutes": "3", "grace_seconds": "60", "setup": "export OMP_NUM_THREADS=1\nsleep 60"}
    stage = trainings(table, folder / "runs", [9], updates, **limits)
    return submit(folder / "runs", "slurm", (stage,)), undisturbed(table, folder / "whole", 9, updates)


def test_preempted_seeds_end_with_the_same_weights(slurm: Path, limited: object, table: Path, tmp_path: Path) -> None:
    work = submit(tmp_path / "runs", "slurm", (trainings(table, tmp_path / "runs", range(4), 80),))
    runs = [tmp_path / "runs" / f"seed-{seed}" for seed in range(4)]
    until("each seed has a checkpoint", lambda: all(checkpoints(run) for run in runs))
    preempt()
    all_done(work)
    assert min(starts_of_each(work)) >= 2 and len(starts_of_each(work)) == 4
    for seed, run in enumerate(runs):
        assert weights(run) == undisturbed(table, tmp_path / f"whole-{seed}", seed, 80), seed


def test_tracked_training_goes_on_in_its_mlflow_run(slurm: Path, table: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = sqlite_uri(tmp_path / "mlflow.db")
    stages = tracked_stages((trainings(table, tmp_path / "runs", [0], 200),), uri, "requeued")
    work = submit(tmp_path / "runs", "slurm", stages)
    run = tmp_path / "runs" / "seed-0"
    until("the store has a number", lambda: (run / "tracking.json").is_file() and uri in read_tracking(run)["runs"])
    mlflow_run = read_tracking(run)["runs"][uri]
    (array,) = read_arrays(submissions(work)[0])
    subprocess.run(["scancel", "--signal=USR2", f"--name={array.name}"], check=True)
    until("the job has ended for good", lambda: ended(work))
    assert starts(work) == 2
    client, noted = mlflow.MlflowClient(uri), read_tracking(run)
    assert noted["runs"] == {uri: mlflow_run} and noted["jobs"] == [array.ids[0]]
    told = client.search_runs([client.get_experiment_by_name("hg3").experiment_id])
    assert sorted((one.info.run_name, one.info.status) for one in told) == [
        ("requeued", "FINISHED"),
        ("seed 0", "FINISHED"),
    ]
    assert found(run, uri) == expected(run) and max(step for _, step, _ in expected(run)) == 200


STAND_IN = """#!/bin/bash
# Instead of a container's tool: runs the command here, with what --env says.
shift
while [ "${1#--}" != "$1" ]; do
  if [ "$1" = --env ]; then export "$2"; shift; fi
  shift
done
shift
exec "$@"
"""


def test_job_in_a_container_is_put_back_from_outside(
    slurm: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "apptainer"
    tool.parent.mkdir()
    tool.write_text(STAND_IN, encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    work = submit(tmp_path / "runs", "slurm", (trainings(table, tmp_path / "runs", [0], 60, container="no-image"),))
    run = tmp_path / "runs" / "seed-0"
    until("a checkpoint", lambda: checkpoints(run))
    (array,) = read_arrays(submissions(work)[0])
    subprocess.run(["scancel", "--signal=USR2", f"--name={array.name}"], check=True)
    all_done(work)
    assert starts(work) == 2
    assert weights(run) == undisturbed(table, tmp_path / "whole", 0, 60)


def test_cancelled_training_keeps_its_last_step_and_goes_on(slurm: Path, table: Path, tmp_path: Path) -> None:
    work = submit(tmp_path / "runs", "slurm", (trainings(table, tmp_path / "runs", [5], 60),))
    run = tmp_path / "runs" / "seed-5"
    until("a checkpoint", lambda: checkpoints(run))
    cancel(tmp_path / "runs")
    (piece,) = settled(work)
    assert piece.state == "lost" and "CANCELLED" in str(piece.why)
    reached = int(checkpoints(run)[-1].name.partition("-")[2])
    assert 10 <= reached < 60
    assert [piece.name for piece in resume(tmp_path / "runs")] == ["seed-5"]
    all_done(work)
    assert weights(run) == undisturbed(table, tmp_path / "whole", 5, 60)
    assert resume(tmp_path / "runs") == []


LIES = """#!/bin/sh
# Instead of SLURM's own: says that it has put the job back, and has not, as where the requeue's signal kills it.
echo "$@" >> "$(dirname "$0")/asked"
"""


def test_lost_requeue_is_seen_and_made_good(slurm: Path, table: Path, tmp_path: Path) -> None:
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(LIES, encoding="utf-8")
    scontrol.chmod(0o755)
    setup = f"export OMP_NUM_THREADS=1\nexport PATH={scontrol.parent}:$PATH"
    work = submit(tmp_path / "runs", "slurm", (trainings(table, tmp_path / "runs", [6], 60, setup=setup),))
    run = tmp_path / "runs" / "seed-6"
    until("a checkpoint", lambda: checkpoints(run))
    (array,) = read_arrays(submissions(work)[0])
    subprocess.run(["scancel", "--signal=USR2", f"--name={array.name}"], check=True)
    (piece,) = settled(work)
    assert piece.state == "lost" and (scontrol.parent / "asked").read_text() == f"requeue {array.ids[0]}\n"
    assert [piece.name for piece in resume(tmp_path / "runs")] == ["seed-6"]
    all_done(work)
    assert weights(run) == undisturbed(table, tmp_path / "whole", 6, 60)


def test_stage_waits_for_what_goes_back_into_the_queue_and_what_is_resumed(
    slurm: Path, table: Path, tmp_path: Path
) -> None:
    """Of the first stage one task is cancelled, and resumed; the other is put back. The second begins after both."""
    runs = tmp_path / "runs"
    stages = (trainings(table, runs, [0, 1], 80), replace(trainings(table, runs, [2], 20), name="second"))
    work = submit(runs, "slurm", stages)
    until("each seed has a checkpoint", lambda: all(checkpoints(runs / f"seed-{seed}") for seed in (0, 1)))
    ids = read_arrays(submissions(work)[0])[0].ids
    subprocess.run(["scancel", ids[0]], check=True)
    subprocess.run(["scancel", "--signal=USR2", ids[1]], check=True)
    until("the cancelled one has ended", lambda: states(work)[0] == "lost")
    assert states(work)[1:] in (["running", "waiting"], ["waiting", "waiting"])
    assert [piece.name for piece in resume(runs)] == ["seed-0", "seed-2"]
    all_done(work)
    first, second = ([read_record(work.record(s, i)) for i in range(len(s.calls))] for s in work.stages)
    assert max(record["at"] for record in first) <= second[0]["began"]
    assert sorted(starts_of_each(work)) == [1, 1, 1, 2]  # cancelled, resumed, the second stage, and put back
    for seed in (0, 1):
        assert weights(runs / f"seed-{seed}") == undisturbed(table, tmp_path / f"whole-{seed}", seed, 80)


def test_failure_for_good_is_told_with_its_reason(slurm: Path, table: Path, tmp_path: Path) -> None:
    lent = Path(shutil.copy(table, tmp_path / "lent.parquet"))
    work = submit(tmp_path / "runs", "slurm", (trainings(lent, tmp_path / "runs", [0], 20),))
    lent.unlink()
    (piece,) = settled(work)
    assert piece.state == "failed" and "lent.parquet" in str(piece.why)
    shutil.copy(table, lent)
    resume(tmp_path / "runs")
    all_done(work)


def test_full_disk(slurm: Path, table: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here, so that none can be full")
    try:
        work = submit(small / "runs", "slurm", (trainings(table, small / "runs", [3], 60),))
        (piece,) = settled(work)
        assert piece.state == "failed" and "No space left on device" in str(piece.why)
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        resume(small / "runs")
        all_done(work)
        assert weights(small / "runs" / "seed-3") == undisturbed(table, tmp_path / "whole", 3, 60)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_sbatch_alone_trains_the_same_through_a_requeue(slurm: Path, table: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "slurm" / "train.sbatch"
    options = ["--array=0", "--mem=1G", "--time=30", "-o", str(tmp_path / "log")]
    settings = [
        word
        for key, value in trainings(table, tmp_path, [0], 60).calls[0]["changes"].items()
        for word in ("--set", f"{key}={value}")
    ]
    job = sbatch(*options, script, table, tmp_path / "runs", 60, "--schema", "art-hiv-v2", *settings)
    run = tmp_path / "runs" / "seed-0"
    until("a checkpoint", lambda: checkpoints(run))
    subprocess.run(["scancel", "--signal=USR1", f"{job}_0"], check=True)
    until("the training ends", lambda: checkpoints(run)[-1].name == "step-000060")
    assert "stopped at a checkpoint" in (tmp_path / "log").read_text(encoding="utf-8")
    assert weights(run) == undisturbed(table, tmp_path / "whole", 0, 60)


def test_cancelled_sbatch_training_stays_cancelled(slurm: Path, table: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "slurm" / "train.sbatch"
    options = ["--array=0", "--mem=1G", "--time=30", "-o", str(tmp_path / "log")]
    changes = trainings(table, tmp_path, [0], 60).calls[0]["changes"]
    settings = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    job = sbatch(*options, script, table, tmp_path / "runs", 100_000, "--schema", "art-hiv-v2", *settings)
    until("a checkpoint", lambda: checkpoints(tmp_path / "runs" / "seed-0"))
    subprocess.run(["scancel", f"{job}_0"], check=True)
    until("it has ended", lambda: is_over(job))
    time.sleep(5)  # the shell of the job outlives the signal, and could still put it back
    assert is_over(job)
    assert "stopped at a checkpoint" in (tmp_path / "log").read_text(encoding="utf-8")


def test_signal_while_python_starts_is_not_lost(slurm: Path, table: Path, tmp_path: Path) -> None:
    work = submit(tmp_path / "runs", "slurm", (trainings(table, tmp_path / "runs", [0], 20),))
    until("Python has begun to start", lambda: starts(work) == 1, every=0.05)
    (array,) = read_arrays(submissions(work)[0])
    subprocess.run(["scancel", "--signal=USR2", f"--name={array.name}"], check=True)
    all_done(work)
    assert starts(work) == 2


def test_time_limit_is_survived(limited: tuple[Work, dict[str, str]]) -> None:
    work, wanted = limited
    all_done(work, 900)
    assert starts(work) > 1
    assert weights(Path(work.stages[0].calls[0]["out"])) == wanted


@pytest.mark.slow
def test_eight_jobs_track_at_once(slurm: Path, table: Path, tmp_path: Path) -> None:
    """To one sqlite store that the submitter has prepared; what a job had no time for, the merge brings."""
    mlflow = pytest.importorskip("mlflow")
    uri, runs = sqlite_uri(tmp_path / "mlflow.db"), tmp_path / "runs"
    work = submit(runs, "slurm", tracked_stages((trainings(table, runs, range(8), 60),), uri, "eight"))
    all_done(work, 900)
    until("all jobs have ended for good", lambda: ended(work))
    merge_runs([runs])
    assert {sent for _, sent in merge_runs([runs])} == {0}
    for seed in range(8):
        assert found(runs / f"seed-{seed}", uri) == expected(runs / f"seed-{seed}")
    client = mlflow.MlflowClient(uri)
    told = client.search_runs([client.get_experiment_by_name("hg3").experiment_id])
    wanted = sorted([("eight", "FINISHED"), *((f"seed {seed}", "FINISHED") for seed in range(8))])
    assert sorted((one.info.run_name, one.info.status) for one in told) == wanted


def test_lost_node(slurm: Path, table: Path, tmp_path: Path) -> None:
    """The last of all: what runs on the node goes with it."""
    work = submit(tmp_path / "runs", "slurm", (trainings(table, tmp_path / "runs", [7, 8], 80),))
    runs = [tmp_path / "runs" / f"seed-{seed}" for seed in (7, 8)]
    until("each seed has a checkpoint", lambda: all(checkpoints(run) for run in runs))
    lose_node(slurm, work)
    all_done(work)
    assert starts_of_each(work) == [2, 2]
    (array,) = read_arrays(submissions(work)[0])
    until("SLURM has seen the node fail", lambda: accounted(f"--name={array.name}").count("NODE_FAIL") == 2)
    for seed, run in zip((7, 8), runs, strict=True):
        assert weights(run) == undisturbed(table, tmp_path / f"whole-{seed}", seed, 80)


def lose_node(home: Path, work: Work) -> None:
    """Let the node's daemon and a work's processes die as in a power cut, and the node come back."""
    node = subprocess.run(["sinfo", "-h", "-o", "%n"], capture_output=True, text=True, check=True).stdout.strip()
    os.kill(int((home / "run" / "slurmd.pid").read_text()), signal.SIGKILL)
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=lost"], check=True)
    for path in (work.folder / "records").glob("*.json"):
        with suppress(ProcessLookupError):
            os.kill(read_record(path)["process"], signal.SIGKILL)
    daemon = shutil.which("slurmd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    subprocess.run([str(daemon), "-N", node], stdin=subprocess.DEVNULL, check=True)
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=True)
