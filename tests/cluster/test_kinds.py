"""How jobs do their pieces of work, in this process: what is done, and what a signal leaves."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hg3 import disk
from hg3.cluster.kinds import KINDS
from hg3.cluster.record import change_record, read_record
from hg3.cluster.seeds import is_trained, train_seed
from hg3.errors import RunError
from tests import runs
from tests.runs import TINY, make_run
from tests.training.cases import make_private_inputs

one_thread = runs.one_thread
LATER = {"uri": "later", "experiment": "hg3"}


def silent(done: int, total: int | None, kept: int | None = None) -> None:
    pass


def call_of(run: Path, **more: Any) -> dict[str, Any]:
    table = str(run.parent / "table.parquet")
    return {"out": str(run), "table": table, "seed": 0, "updates": 3, "minutes": None, **more}


def test_training_is_done_when_its_curve_is_drawn(tmp_path: Path) -> None:
    """A kill between the last checkpoint and the curve leaves something to do, which the next start does."""
    run = make_run(tmp_path, updates=3)
    call = call_of(run)
    assert is_trained(call) and not is_trained({**call, "updates": 4})
    (run / "loss.png").unlink()
    assert not is_trained(call)
    assert train_seed(call, silent, lambda: False) and is_trained(call)
    os.utime(run / "loss.png", (1000, 1000))  # of an earlier start
    assert not is_trained(call)
    assert train_seed(call, silent, lambda: False) and is_trained(call)


def test_private_training_has_no_curve(tmp_path: Path) -> None:
    pytest.importorskip("opacus")
    inputs = make_private_inputs(tmp_path)
    changes = TINY | {"privacy.epsilon": "8", "encoding.scaling": "standard"}
    runs.train(inputs.table, tmp_path / "run", inputs.schema, changes=changes, updates=3)
    assert not (tmp_path / "run" / "loss.png").exists()
    assert is_trained(call_of(tmp_path / "run"))


@pytest.mark.parametrize("status", ["RUNNING", "SCHEDULED"])
def test_tracked_training_is_done_when_the_store_can_be_told(tmp_path: Path, status: str) -> None:
    """A kill after the last update leaves a run that seems to run; a start with no update to make ends it."""
    run = make_run(tmp_path, updates=3)
    call = call_of(run, tracking=LATER)
    assert not is_trained(call)  # nothing is noted yet
    assert train_seed(call, silent, lambda: False) and is_trained(call)
    change_record(run, status=status)
    assert not is_trained(call)
    assert train_seed(call, silent, lambda: False) and is_trained(call)
    assert read_record(run)["status"] == "FINISHED"
    (run / "tracking.json").write_text("[]")
    assert is_trained(call)  # no start would mend it


def test_training_waits_for_a_lock_that_outlives_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, looks = make_run(tmp_path, updates=3), Looks(monkeypatch)
    with looks.held(run):
        assert train_seed({**call_of(run), "updates": 6}, silent, lambda: False)
    assert looks.count == 3 and is_trained({**call_of(run), "updates": 6})


def test_waiting_for_a_lock_ends_with_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, looks = make_run(tmp_path, updates=3), Looks(monkeypatch)
    with looks.held(run):
        assert not train_seed({**call_of(run), "updates": 6}, silent, lambda: looks.count > 1)
    assert looks.count == 2


def test_lock_that_is_never_given_back_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, updates=3)
    monkeypatch.setattr(disk, "SLOWEST_S", 0.0)
    with disk.lock(run / ".lock", "run folder"), pytest.raises(RunError, match="is in use by another hg3 process"):
        train_seed({**call_of(run), "updates": 6}, silent, lambda: False)


class Looks:
    """Another process's lock on a run, which is gone after three looks at it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.lock = 0, ExitStack()
        monkeypatch.setattr("hg3.disk.time.sleep", self.sleep)

    def held(self, run: Path) -> ExitStack:
        self.lock.enter_context(disk.lock(run / ".lock", "run folder"))
        return self.lock

    def sleep(self, seconds: float) -> None:
        self.count += 1
        if self.count == 3:
            self.lock.close()


@pytest.fixture
def sections(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Stand in for an evaluation of three sections, and tell which of them were done."""
    done: list[int] = []

    def evaluate(*_: Any, report: Any, **__: Any) -> None:
        for number in range(3):
            report("evaluate", {"section": "", "done": number, "of": 3})
            done.append(number)
        report("evaluate", {"section": "", "done": 3, "of": 3})
        done.append(-1)

    monkeypatch.setattr("hg3.release.evaluate.evaluate_release", evaluate)
    yield done


def test_score_stops_between_two_parts_or_sections(
    tmp_path: Path, sections: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, told = make_run(tmp_path, updates=3), list[tuple[int, int | None, int | None]]()
    call = {**call_of(run), "run": str(run), "release": str(tmp_path / "s" / "release"), "patients": 300, "gates": None}
    call["out"] = str(tmp_path / "s" / "report")

    def tell(done: int, total: int | None, kept: int | None = None) -> None:
        told.append((done, total, kept))

    assert not KINDS["score"].perform(call, tell, lambda: len(told) > 1)  # in the middle of the only part
    assert not (tmp_path / "s" / "release" / "SHA256SUMS").exists() and sections == []
    assert {kept for *_, kept in told} == {0}  # nothing is kept
    assert not KINDS["score"].perform(call, tell, lambda: sections == [0])
    assert (tmp_path / "s" / "release" / "SHA256SUMS").exists() and told[-1] == (300, 300, None)
    assert KINDS["score"].perform(call, tell, lambda: sections[-1] == 2)  # when only the writing is left
    assert sections == [0, 0, 1, 2, -1]


def test_judge_stops_between_two_sections(tmp_path: Path, sections: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    certified: list[Any] = []
    monkeypatch.setattr("hg3.release.certify.certify_release", lambda *given, **_: certified.append(given))
    monkeypatch.setattr("hg3.cluster.kinds.is_released", lambda call: True)
    call = {"run": str(tmp_path), "release": str(tmp_path / "r"), "out": str(tmp_path / "o"), "utility": False}
    assert not KINDS["judge"].perform({**call, "gates": None}, silent, lambda: len(sections) == 2)
    assert (sections, certified) == ([0, 1], [])
    assert KINDS["judge"].perform({**call, "gates": None}, silent, lambda: False)
    assert len(certified) == 1
