"""SIGKILL between two steps of making a release, each once: the next start ends with the same bytes."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hg3 import disk
from hg3.cluster.state import pieces
from hg3.cluster.submit import resume
from hg3.cluster.tasks import perform
from hg3.cluster.verbs import generation_stage
from hg3.cluster.works import Stage, Work, begin_work
from hg3.release.making import PLAN
from hg3.release.verify import verify_release
from tests import runs
from tests.runs import SIZES, file_bytes, make_release, make_run

one_thread = runs.one_thread
PATIENTS = 100
Prepare = Callable[[pytest.MonkeyPatch], None]


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_the_note_of_a_part(patch: pytest.MonkeyPatch) -> None:
    write = disk.write_json
    patch.setattr(disk, "write_json", lambda path, told: (die if path.name == "part-00001.json" else write)(path, told))


def between_the_sums_and_the_plan(patch: pytest.MonkeyPatch) -> None:
    unlink = Path.unlink
    patch.setattr(Path, "unlink", lambda path, **given: (die if path.name == PLAN else unlink)(path, **given))


def between_the_plan_and_the_notes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shutil, "rmtree", die)


def in_the_middle_of_the_notes(patch: pytest.MonkeyPatch) -> None:
    def some(path: Path, **_: Any) -> None:
        for note in sorted(path.iterdir())[::2]:
            note.unlink()
        die()

    patch.setattr(shutil, "rmtree", some)


def task(work: Work, prepare: Prepare) -> None:
    """Do the whole work in this process, which dies on the way."""
    torch.set_num_threads(1)
    prepare(pytest.MonkeyPatch())
    (stage,) = work.stages
    perform(
        [
            {"kind": stage.kind, "call": call, "record": str(work.record(stage, index))}
            for index, call in enumerate(stage.calls)
        ]
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def whole(run: Path) -> dict[str, bytes]:
    return file_bytes(make_release(run, run.parent / "whole", PATIENTS))


@pytest.mark.parametrize(
    "moment",
    [
        before_the_note_of_a_part,
        between_the_sums_and_the_plan,
        between_the_plan_and_the_notes,
        in_the_middle_of_the_notes,
    ],
    ids=lambda moment: moment.__name__,
)
def test_kill_leaves_no_trace(run: Path, whole: dict[str, bytes], tmp_path: Path, moment: Prepare) -> None:
    out = tmp_path / "release"
    stage = generation_stage(run, out, PATIENTS, tasks=2, **SIZES)
    work = begin_work(out, "debug", (Stage(stage.name, stage.kind, stage.calls),))
    process = multiprocessing.get_context("fork").Process(target=task, args=(work, moment))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert "lost" in {piece.state for piece in pieces(work)}
    resume(out)
    assert {piece.state for piece in pieces(work)} == {"done"}
    assert file_bytes(out) == whole
    verify_release(out)
