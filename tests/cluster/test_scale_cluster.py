"""benchmarks.scale --cluster: what it counts, and that it ends where nothing comes of the tasks."""

import subprocess
from pathlib import Path

import pytest

from benchmarks import scale_cluster
from hg3.cluster import slurm
from hg3.cluster.slurm import Seen
from tests.cluster.test_state import submitted


def test_every_task_that_ended_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = submitted(tmp_path, "slurm")
    rows = "COMPLETED|10\nFAILED|4\nCANCELLED by 0|3\nRUNNING|99\nPENDING|0\n"
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, rows, ""))
    assert scale_cluster.counted_by_slurm(work) == [10, 4, 3]


def test_tasks_that_fail_end_the_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = submitted(tmp_path, "slurm")
    said = iter([Seen("running", "7"), Seen("FAILED", "7")])
    monkeypatch.setattr(slurm, "tasks", lambda names: {("first", 0): next(said)})
    monkeypatch.setattr(scale_cluster, "POLL_SECONDS", 0.0)
    with pytest.raises(SystemExit, match="nothing was made: seed-0 failed, FAILED"):
        scale_cluster.wait(work, lambda: False)
