"""What a work's state is made of: its disk, its records, and what the cluster says, each with its own word."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from hg3 import disk
from hg3.cluster import slurm
from hg3.cluster.kinds import KINDS
from hg3.cluster.records import IN_LOG
from hg3.cluster.slurm import Seen
from hg3.cluster.state import Piece, pieces
from hg3.cluster.submit import cancel
from hg3.cluster.works import Array, Stage, Work, begin_work, new_submission, write_arrays
from hg3.errors import ClusterError


def submitted(folder: Path, cluster: str, ids: tuple[str, ...] = ()) -> Work:
    """Return a work of one training that was submitted as one array, and not begun."""
    call = {"out": str(folder / "runs" / "seed-0"), "updates": 3, "label": "seed-0"}
    work = begin_work(folder / "runs", cluster, (Stage("train", "train", (call,)),))
    write_arrays(new_submission(work), [Array("first", ((("train", 0),),), ids=ids)])
    return work


def log_of(work: Work, job: str, text: str) -> Path:
    log = work.folder / "submission-0001" / "first" / f"{job}_0_log.err"
    log.parent.mkdir()
    log.write_text(text, encoding="utf-8")
    return log


def seen(monkeypatch: pytest.MonkeyPatch, work: Work, said: Seen) -> Piece:
    monkeypatch.setattr(slurm, "tasks", lambda names: {("first", 0): said})
    (piece,) = pieces(work)
    return piece


RUNNING, FAILED = {"job": "7", "state": "running"}, {"job": "7", "state": "failed", "error": "no table"}


@pytest.mark.parametrize(
    ("record", "said", "state", "why"),
    [
        (RUNNING, Seen("running", "7"), "running", None),
        ({}, Seen("waiting", "7", "Resources"), "waiting", "Resources"),
        (FAILED, Seen("FAILED", "7"), "failed", "no table"),
        (RUNNING, Seen("FAILED", "7"), "failed", "FAILED: its last line"),
        (RUNNING, Seen("OUT_OF_MEMORY", "7"), "failed", "OUT_OF_MEMORY: its last line"),
        ({**RUNNING, "state": "stopped"}, Seen("FAILED", "7"), "lost", "FAILED: its last line"),
        (RUNNING, Seen("TIMEOUT", "7"), "lost", "TIMEOUT: its last line"),
        (RUNNING, Seen("NODE_FAIL", "7"), "lost", "NODE_FAIL: its last line"),
        (RUNNING, Seen("CANCELLED", "7"), "lost", "CANCELLED: its last line"),
        # what an earlier submission noted says nothing of this one, which died before it could note anything
        ({**FAILED, "job": "5"}, Seen("FAILED", "7"), "failed", "FAILED: its last line"),
        ({**FAILED, "job": "5"}, Seen("NODE_FAIL", "7"), "lost", "NODE_FAIL: its last line"),
    ],
)
def test_state_and_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Any, said: Seen, state: str, why: str | None
) -> None:
    work = submitted(tmp_path, "slurm")
    disk.write_json(work.record(work.stages[0], 0), record)
    log_of(work, "7", "its first line\nits last line\n\n")
    piece = seen(monkeypatch, work, said)
    assert (piece.state, piece.why, piece.job, piece.held) == (state, why, "7", False)


def test_held_job_is_lost_and_can_be_submitted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = submitted(tmp_path, "slurm")
    piece = seen(monkeypatch, work, Seen("held", "7", "launch failed requeued held"))
    assert (piece.state, piece.held) == ("lost", True)
    assert piece.why == "launch failed requeued held: --resume submits it again, scontrol release 7 lets it go on"


def test_error_that_is_not_repeated_comes_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = submitted(tmp_path, "slurm")
    disk.write_json(work.record(work.stages[0], 0), {**FAILED, "error": f"ValueError{IN_LOG}"})
    log = log_of(work, "7", "a patient's value\n")
    assert seen(monkeypatch, work, Seen("FAILED", "7")).why == f"ValueError{IN_LOG} ({log})"


QUEUE = """\
a|12|0|RUNNING|None|
a|12|1|PENDING|Resources|
a|12|2|PENDING|JobHeldUser|
a|12|3|PENDING|launch_failed_requeued_held|
a|12|4|REQUEUE_HOLD|job requeued in held state|
a|12|5|SPECIAL_EXIT|None|
a|12|6|COMPLETING|None|
b|13|N/A|PENDING|Dependency|
"""
ENDED = """\
a|12_0|RUNNING
a|12_7|CANCELLED by 1000
a|12_8|NODE_FAIL
a|12_[1-5]|PENDING
"""


def test_queue_and_accounting_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(command: list[str], **_: Any) -> Any:
        asked.append(command[0])
        text = QUEUE if command[0] == "squeue" else ENDED
        return subprocess.CompletedProcess(command, 0, text, "")

    monkeypatch.setattr(subprocess, "run", run)
    assert slurm.tasks(["a", "b"]) == {
        ("a", 0): Seen("running", "12"),
        ("a", 1): Seen("waiting", "12", "Resources"),
        ("a", 2): Seen("held", "12", "JobHeldUser"),
        ("a", 3): Seen("held", "12", "launch failed requeued held"),
        ("a", 4): Seen("held", "12", "job requeued in held state"),
        ("a", 5): Seen("held", "12"),
        ("a", 6): Seen("running", "12"),
        ("a", 7): Seen("CANCELLED", "12"),
        ("a", 8): Seen("NODE_FAIL", "12"),
        ("b", 0): Seen("waiting", "13", "Dependency"),
    }
    assert asked == ["squeue", "sacct"]


def test_jobs_of_another_machine_are_asked_for_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here nobody sees whether they run, and what runs must not be started twice."""
    work = submitted(tmp_path, "local", ("login-2:4711",))
    monkeypatch.setattr("hg3.cluster.sights.socket.gethostname", lambda: "login-1")
    for ask in (pieces, lambda work: cancel(tmp_path / "runs")):
        with pytest.raises(ClusterError, match=r"were started on login-2 and this is login-1, .*: ask on login-2;"):
            ask(work)
    monkeypatch.setitem(KINDS, "train", KINDS["train"]._replace(are_done=lambda calls: [True]))
    assert [piece.state for piece in pieces(work)] == ["done"]
