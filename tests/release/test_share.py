"""Shares of a release: each part once, whoever makes it, and the bytes of a release made by one."""

import errno
import fcntl
import multiprocessing
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hg3 import disk
from hg3.release import writer
from hg3.release.making import PLAN
from hg3.release.manifest import INCOMPLETE, SUMS
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


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)


def make_four_parts(run: Path, release: Path) -> None:
    """Begin a release, of which the last part is left to make then."""
    last = release / INCOMPLETE / "part-00003.json"
    assert not generate_share(run, release, PATIENTS, should_stop=last.exists, **SIZES)
    assert len(list(last.parent.glob("part-*.json"))) == 4


def at_the_last_part(release: Path, meet: Callable[[], object]) -> Callable[[dict[str, int]], None]:
    """Return a report that calls `meet` once, in the middle of the last part."""
    met = list[int]()

    def report(entry: dict[str, int]) -> None:
        made = len(list((release / INCOMPLETE).glob("part-*.json")))
        if made == 4 and entry["kept"] < entry["patients"] and not met:
            met.append(1)
            meet()

    return report


def test_without_locks_a_third_task_completes_what_two_are_making(
    no_locks: None, run: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    release, context = tmp_path / "r", multiprocessing.get_context("fork")
    make_four_parts(run, release)
    ready, completed = context.Barrier(3), context.Event()

    def meet() -> None:
        ready.wait(120)
        assert completed.wait(120)

    def make() -> None:
        assert generate_share(run, release, PATIENTS, report=at_the_last_part(release, meet), **SIZES)

    makers = [context.Process(target=make) for _ in range(2)]
    for maker in makers:
        maker.start()
    ready.wait(120)
    assert generate_share(run, release, PATIENTS, **SIZES)
    sums = (release / SUMS).stat().st_mtime_ns
    completed.set()
    for maker in makers:
        maker.join()
    assert [maker.exitcode for maker in makers] == [0, 0]
    assert file_bytes(release) == whole and (release / SUMS).stat().st_mtime_ns == sums
    assert not (release / INCOMPLETE).exists() and not list(release.rglob(f"{disk.TEMPORARY_PREFIX}*"))


@pytest.mark.parametrize("number", range(4))
def test_without_locks_tasks_that_complete_at_once_do_no_harm(
    no_locks: None, number: int, run: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """They are in the last part at the same time, and so find all parts made at about the same time."""
    release, context = tmp_path / "r", multiprocessing.get_context("fork")
    make_four_parts(run, release)
    ready = context.Barrier(3)

    def make() -> None:
        assert generate_share(run, release, PATIENTS, report=at_the_last_part(release, ready.wait), **SIZES)

    makers = [context.Process(target=make) for _ in range(3)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert [maker.exitcode for maker in makers] == [0, 0, 0]
    assert file_bytes(release) == whole
    assert not (release / INCOMPLETE).exists() and not list(release.rglob(f"{disk.TEMPORARY_PREFIX}*"))


@pytest.mark.parametrize("step", ["_is_as_noted", "_write_texts", "_write_provenance", "write_sums"])
def test_without_locks_a_release_is_completed_while_another_task_completes_it(
    no_locks: None, step: str, run: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, do = tmp_path / "r", getattr(writer, step)

    def late(*given: Any) -> Any:
        monkeypatch.setattr(writer, step, do)
        assert generate_share(run, release, PATIENTS, **SIZES)
        return do(*given)

    monkeypatch.setattr(writer, step, late)
    assert generate_share(run, release, PATIENTS, **SIZES)
    assert file_bytes(release) == whole
    assert not (release / INCOMPLETE).exists()


def test_a_file_of_another_node_that_is_stale_is_gone(
    run: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS says so of a file that is known here and was removed elsewhere."""
    release, read = tmp_path / "r", Path.read_text
    make_four_parts(run, release)

    def stale(path: Path, *given: Any, **options: Any) -> str:
        if path.name != PLAN:
            return read(path, *given, **options)
        monkeypatch.undo()
        assert generate(run, release, PATIENTS, **SIZES)
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    monkeypatch.setattr(Path, "read_text", stale)
    assert generate_share(run, release, PATIENTS, **SIZES)
    assert file_bytes(release) == whole


def test_parts_are_not_counted_where_the_notes_just_went(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(path: Path, *_: Any, **__: Any) -> str:
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    assert not generate(run, tmp_path / "r", PATIENTS, shard=(1, 2), **SIZES)
    assert parts_made(tmp_path / "r") is not None
    monkeypatch.setattr(Path, "read_text", stale)
    assert parts_made(tmp_path / "r") is None
