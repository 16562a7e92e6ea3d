"""Shares of a release: each part once, whoever makes it, and the bytes of a release made by one."""

import multiprocessing
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from hg3 import disk
from hg3.release.share import generate_share, order, parts_made, shares_made
from hg3.release.writer import generate
from tests import runs
from tests.runs import SIZES, file_bytes

one_thread = runs.one_thread
PATIENTS = 150  # 5 parts of 32


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def whole(run: Path) -> dict[str, bytes]:
    assert generate(run, run.parent / "whole", PATIENTS, **SIZES)
    return file_bytes(run.parent / "whole")


@pytest.mark.parametrize(("parts", "tasks"), [(5, 1), (5, 2), (5, 5), (3, 7), (40, 12)])
def test_order_has_every_part_once_and_own_ones_first(parts: int, tasks: int) -> None:
    for task in range(tasks):
        found = list(order(parts, task, tasks))
        assert sorted(found) == list(range(parts))
        own = list(range(task, parts, tasks))
        assert found[: len(own)] == own


def test_one_task_makes_everything_if_nobody_else_does(run: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    assert generate_share(run, tmp_path / "r", PATIENTS, task=(1, 3), **SIZES)
    assert file_bytes(tmp_path / "r") == whole


def test_part_under_another_lock_is_left_to_it(run: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    made = iter(range(2))  # it stops in its second part

    def stop() -> bool:
        return (tmp_path / "r" / "incomplete" / "part-00000.json").exists() and next(made, None) is None

    assert not generate_share(run, tmp_path / "r", PATIENTS, task=(0, 1), should_stop=stop, **SIZES)
    with disk.lock(tmp_path / "r" / "incomplete" / "part-00003.lock", "release folder"):
        assert not generate_share(run, tmp_path / "r", PATIENTS, task=(0, 1), **SIZES)
    made_parts, parts = parts_made(tmp_path / "r") or ({}, 0)
    assert (sorted(made_parts), parts) == ([0, 1, 2, 4], 5)
    assert shares_made(tmp_path / "r", 5) == [True, True, True, False, True]
    assert generate_share(run, tmp_path / "r", PATIENTS, task=(0, 1), **SIZES)
    assert file_bytes(tmp_path / "r") == whole


@pytest.mark.parametrize("shown", [True, False])
def test_part_of_another_node_is_waited_for(
    run: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: bool
) -> None:
    """Its owner ends while we make the last part; its note is shown late, or never, as of a killed one."""
    monkeypatch.setattr(disk, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(disk, "SLOWEST_S", 60.0 if shown else 0.2)
    notes, part, held = tmp_path / "r" / "incomplete", tmp_path / "r" / "data" / "part-00003.parquet", ExitStack()
    made = threading.Event()

    def stop() -> bool:
        return (notes / "part-00003.json").exists()

    assert not generate_share(run, tmp_path / "r", PATIENTS, should_stop=stop, **SIZES)
    (notes / "part-00003.json").rename(tmp_path / "note")
    before = part.stat().st_mtime_ns

    def report(entry: dict[str, int]) -> None:
        if (notes / "part-00004.json").exists() and not made.is_set():
            made.set()
            held.close()
            if shown:
                threading.Timer(0.5, (tmp_path / "note").rename, [notes / "part-00003.json"]).start()

    held.enter_context(disk.lock(notes / "part-00003.lock", "release folder"))
    assert generate_share(run, tmp_path / "r", PATIENTS, report=report, **SIZES)
    assert file_bytes(tmp_path / "r") == whole
    assert (part.stat().st_mtime_ns == before) == shown


def test_signal_in_a_part_leaves_nothing_half(run: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    asked = iter([False, False, True])
    told: list[dict[str, int]] = []
    assert not generate_share(
        run, tmp_path / "r", PATIENTS, should_stop=lambda: next(asked, True), report=told.append, **SIZES
    )
    assert told and all(entry["kept"] <= entry["patients"] <= PATIENTS for entry in told)
    notes, _ = parts_made(tmp_path / "r") or ({}, 0)
    assert told[-1]["kept"] == sum(note["patients"] for note in notes.values())
    assert not list((tmp_path / "r").rglob(f"{disk.TEMPORARY_PREFIX}*"))
    assert generate_share(run, tmp_path / "r", PATIENTS, **SIZES)
    assert file_bytes(tmp_path / "r") == whole


def test_first_share_is_not_made_before_the_release_is(run: Path, tmp_path: Path) -> None:
    assert generate(run, tmp_path / "r", PATIENTS, **SIZES)
    assert shares_made(tmp_path / "r", 2) == [True, True]
    assert parts_made(tmp_path / "r") is None
    (tmp_path / "r" / "incomplete").mkdir()  # of a kill while the notes were removed
    assert shares_made(tmp_path / "r", 2) == [False, True]


def work(run: Path, out: Path, task: int) -> None:
    generate_share(run, out, PATIENTS, task=(task, 2), **SIZES)


def test_owners_of_the_same_parts_at_once(run: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    processes = [
        multiprocessing.get_context("fork").Process(target=work, args=(run, tmp_path / "r", task)) for task in (0, 0, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert generate(run, tmp_path / "r", PATIENTS, **SIZES)
    assert file_bytes(tmp_path / "r") == whole
