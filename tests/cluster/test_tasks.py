"""What runs in a job, in this process: who is put back into the queue, what is counted, and what is noted."""

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from hg3 import disk
from hg3.cluster import slurm
from hg3.cluster.kinds import KINDS
from hg3.cluster.records import Record, read_record
from hg3.cluster.tasks import SIGNAL_AT, perform
from hg3.errors import ClusterError


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SUBMITIT_"))]:
        monkeypatch.delenv(name)
    return [{"kind": "train", "call": {}, "record": str(tmp_path / "record.json")}]


def work(monkeypatch: pytest.MonkeyPatch, *signals: int) -> None:
    """Let the kind of work be one that gets `signals` and stops."""

    def signalled(call: Any, tell: Any, stop: Any) -> bool:
        for number in signals:
            os.kill(os.getpid(), number)
        return not stop()

    monkeypatch.setitem(KINDS, "train", KINDS["train"]._replace(perform=signalled))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR2, 144), (signal.SIGINT, 130), (signal.SIGTERM, 130)])
@pytest.mark.parametrize("executor", ["local", None])
def test_allocation_of_the_user_is_not_put_back(
    steps: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, number: int, code: int, executor: str | None
) -> None:
    """Below salloc, --cluster local and debug end at once, with the status that submitit's controller looks at."""
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    if executor:
        monkeypatch.setenv("SUBMITIT_EXECUTOR", executor)
    monkeypatch.setattr(slurm, "requeue", lambda *_: pytest.fail("asked SLURM"))
    work(monkeypatch, number)
    with pytest.raises(SystemExit) as ended:
        perform(steps)
    assert ended.value.code == code


def test_task_of_slurm_is_put_back(steps: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    job = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SUBMITIT_EXECUTOR": "slurm"}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    asked = []
    monkeypatch.setattr(slurm, "requeue", lambda job, seconds: asked.append(job))
    work(monkeypatch, signal.SIGTERM, signal.SIGUSR2)
    with pytest.raises(SystemExit):
        perform(steps)
    assert asked == ["7_3"] and read_record(Path(steps[0]["record"]))["job"] == "7_3"


def test_job_started_here_is_known_by_its_process(steps: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_JOB_ID": "9", "SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "4711"}.items():
        monkeypatch.setenv(name, value)
    work(monkeypatch)
    perform(steps)
    assert read_record(Path(steps[0]["record"]))["job"] == "4711"


def starts(steps: list[dict[str, Any]], number: int) -> None:
    for _ in range(number):
        with pytest.raises(SystemExit):
            perform(steps)


def test_starts_that_reach_the_limit_idle_end_one_day(
    steps: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that a job of more weight has ended are not among them, however many."""
    work(monkeypatch, signal.SIGUSR2)
    monkeypatch.setenv(SIGNAL_AT, "99999999999")
    starts(steps, 7)
    monkeypatch.setenv(SIGNAL_AT, "1000")
    starts(steps, 4)
    with pytest.raises(ClusterError, match="5 starts in a row reached the time limit before anything was done; give"):
        perform(steps)
    assert read_record(Path(steps[0]["record"]))["state"] == "failed"


def test_last_word_fits_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    record = Record(path, "7")
    record.begin()
    before = path.stat()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "write_text", full)
    record.end("failed", "the system refused: No space left on device" + 9999 * " ä")
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_blocks) == (before.st_ino, before.st_size, before.st_blocks)
    assert read_record(path)["state"] == "failed" and "No space left" in read_record(path)["error"]
