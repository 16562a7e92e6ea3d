"""Files are whole or absent, as readable as the umask says, and folders have one writer."""

import errno
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hg3 import disk
from hg3.errors import RunError


def test_a_block_that_ends_well_leaves_the_file_alone(tmp_path: Path) -> None:
    with disk.atomic_path(tmp_path / "a.json") as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".json"
        assert temporary.name.startswith(disk.TEMPORARY_PREFIX)
        temporary.write_text("new")
        assert not (tmp_path / "a.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("before", [None, "old"])
def test_an_exception_leaves_what_was_there(before: str | None, error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if before is not None:
        path.write_text(before)
    with pytest.raises(error), disk.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert [p.read_text() for p in tmp_path.iterdir()] == ([] if before is None else [before])


def test_a_rename_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        disk.write_text(tmp_path / "a", "new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_what_is_renamed_was_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    replace = os.replace

    def rename(*paths: Path) -> None:
        events.append("rename")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", lambda handle: events.append("fsync"))
    monkeypatch.setattr(os, "replace", rename)
    disk.write_text(tmp_path / "a", "new")
    assert events == ["fsync", "rename", "fsync"]  # the file, then its folder's list


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077], indirect=True, ids=oct)
def test_modes_follow_the_umask(umask: int, tmp_path: Path) -> None:
    disk.write_text(tmp_path / "a", "x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask
    assert os.umask(umask) == umask  # as it was


def test_text_is_utf8_and_json_has_one_form(tmp_path: Path) -> None:
    disk.write_json(tmp_path / "one", {"b": 1.5, "ä": [None, True]})
    disk.write_json(tmp_path / "other", {"ä": [None, True], "b": 1.5})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert "ä".encode() in (tmp_path / "one").read_bytes()
    assert disk.read_json(tmp_path / "one", "a test") == {"b": 1.5, "ä": [None, True]}


def write_new_by(name: str, path: Path, ready: Any, wrote: Any) -> None:
    ready.wait()
    if disk.write_new_json(path, {"by": name, "more": list(range(2000))}):
        wrote.put(name)


def test_of_many_writers_of_a_new_file_one_writes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for number in range(5):
        path, ready, wrote = tmp_path / f"{number}.json", context.Barrier(6), context.Queue()
        writers = [context.Process(target=write_new_by, args=(str(n), path, ready, wrote)) for n in range(6)]
        for writer in writers:
            writer.start()
        first = wrote.get(timeout=60)
        for writer in writers:
            writer.join()
        assert wrote.empty()  # nobody else thinks that it wrote
        assert disk.read_json(path, "a test") == {"by": first, "more": list(range(2000))}
    assert {p.name for p in tmp_path.iterdir()} == {f"{number}.json" for number in range(5)}


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_new_file_needs_no_hard_links(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, "no links")

    monkeypatch.setattr(os, "link", refuse)
    assert [disk.write_new_json(tmp_path / "a.json", n) for n in (1, 2)] == [True, False]
    assert [path.read_text() for path in tmp_path.iterdir()] == ["1\n"]


def test_a_link_that_was_made_counts_whatever_is_said_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def asked_twice(*paths: Path) -> None:
        link(*paths)
        link(*paths)  # is there already

    monkeypatch.setattr(os, "link", asked_twice)
    assert [disk.write_new_json(tmp_path / "a.json", n) for n in (1, 2)] == [True, False]
    assert [path.read_text() for path in tmp_path.iterdir()] == ["1\n"]


def test_a_new_file_that_can_not_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ValueError, match="not JSON compliant"):
        disk.write_new_json(tmp_path / "a.json", float("nan"))
    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space"):
        disk.write_new_json(tmp_path / "a.json", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_json_has_no_nan(number: float, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        disk.write_json(tmp_path / "a.json", {"deep": [number]})
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_what_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(RunError, match=r"holds no a\.json, so it is not a run"):
        disk.read_json(path, "a run")
    nested, digits = b"[" * 200_000, b"9" * 5_000
    for content in (b"", b'{"half": ', b"\xff", b"NaN", b'{"a": [-Infinity]}', nested, digits):
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"a\.json is truncated or altered: it is not JSON; .* make a run anew"):
            disk.read_json(path, "a run")


@pytest.mark.parametrize("content", [r'"\ud800"', r'{"a": [{"b": "x\udfff"}]}', r'{"\uDBFF": 1}'])
def test_text_that_can_not_be_written_again_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(RunError, match=r"a\.json is altered: it holds text that is not Unicode; .* make a run anew"):
        disk.read_json(path, "a run")


def test_a_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(r'"\ud83d\ude00"')
    assert disk.read_json(tmp_path / "a.json", "a run") == "\N{GRINNING FACE}"


def test_sha256_is_that_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert disk.sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_seal_is_of_everything_but_itself() -> None:
    content = {"b": [1, 2.5, None], "a": "x"}
    seal = disk.seal_of(content)
    assert seal == disk.seal_of({"seal": seal, "a": "x", "b": [1, 2.5, None]})
    assert len({seal, disk.seal_of({**content, "a": "y"}), disk.seal_of({"a": "x"}), disk.seal_of({})}) == 4


def make_folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


def test_a_folder_is_replaced_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder"
    disk.replace_folder(make_folder(tmp_path / "new", "one"), path)
    assert (path / "file").read_text() == "one"
    disk.replace_folder(make_folder(tmp_path / "new", "two"), path)
    assert (path / "file").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]

    def killed(*_: object) -> None:
        assert (path / "file").read_text() == "three"  # nothing is removed before the new one is there
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        disk.replace_folder(make_folder(tmp_path / "new", "three"), path)


def test_temporaries_are_removed_wherever_they_are(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / f"{disk.TEMPORARY_PREFIX}folder", "x")
    make_folder(folder / f"{disk.TEMPORARY_PREFIX}inner", "x")
    kept = make_folder(tmp_path / "kept", "x")
    (kept / f"{disk.TEMPORARY_PREFIX}file.png").touch()
    disk.remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "kept"]


def killed_while(work: Callable[[], None]) -> None:
    """Call `work` in a process of its own, which it must kill."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("write", [disk.atomic_path, disk.atomic_folder])
def test_the_next_writer_removes_what_a_killed_one_left_and_nothing_else(write: Any, tmp_path: Path) -> None:
    def half(path: Path) -> None:
        with write(path):
            os.kill(os.getpid(), signal.SIGKILL)

    for name in ("a.gz", "b.gz"):
        killed_while(lambda name=name: half(tmp_path / name))  # type: ignore[misc]
    assert len(list(tmp_path.iterdir())) == 2
    with write(tmp_path / "a.gz") as living:
        disk.remove_leftovers(tmp_path / "a.gz")
        assert living.exists() and len(list(tmp_path.iterdir())) == 2
    assert len(list(tmp_path.iterdir())) == 2  # a.gz, and what is left of b.gz
    disk.remove_leftovers(tmp_path / "b.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.gz"]


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    disk.write_text(tmp_path / ("x" * 250 + ".txt"), "whole")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]


TRY_TO_LOCK = """
import sys
from pathlib import Path
from hg3 import disk
from hg3.errors import RunError
try:
    with disk.lock(Path(sys.argv[1]), "run folder"):
        print("free")
except RunError as error:
    print(error)
"""


def lock_elsewhere(path: Path) -> str:
    """Return what another process says that tries to lock `path`."""
    program = [sys.executable, "-c", TRY_TO_LOCK, str(path)]
    return subprocess.run(program, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_keeps_nobody_out(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr("hg3.disk.fcntl.flock", refuse)
    with disk.lock(tmp_path / ".lock", "run folder"), disk.lock(tmp_path / ".lock", "run folder"):
        disk.write_json(tmp_path / "a.json", 1)
    assert disk.read_json(tmp_path / "a.json", "a number") == 1


def test_a_lock_that_fails_otherwise_is_not_taken_for_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr("hg3.disk.fcntl.flock", refuse)
    with pytest.raises(OSError, match="broken"), disk.lock(tmp_path / ".lock", "run folder"):
        pytest.fail("held")


def test_a_lock_keeps_other_processes_out(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    sentence = f"{tmp_path} is in use by another hg3 process; wait for it or choose another run folder"
    with disk.lock(path, "run folder"):
        assert lock_elsewhere(path) == sentence
        with pytest.raises(RunError, match="in use by another hg3 process"), disk.lock(path, "run folder"):
            pass
        assert lock_elsewhere(path) == sentence  # the one that was refused has not taken it away
    with suppress(KeyError), disk.lock(path, "run folder"):
        raise KeyError
    assert lock_elsewhere(path) == "free"


def test_whether_a_lock_is_free_is_told_without_taking_it(tmp_path: Path) -> None:
    path = tmp_path / "run" / ".lock"
    assert disk.is_free(path) and not path.parent.exists()
    path.parent.mkdir()
    assert disk.is_free(path)
    with disk.lock(path, "run folder"):
        assert not disk.is_free(path)
        assert "in use" in lock_elsewhere(path)
    assert disk.is_free(path) and lock_elsewhere(path) == "free"


def test_a_file_that_another_node_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> Callable[..., str]:
        def read_text(path: Path, **_: Any) -> str:
            raise OSError(number, os.strerror(number), str(path))

        return read_text

    disk.write_json(tmp_path / "a.json", 1)
    monkeypatch.setattr(Path, "read_text", fail(errno.ESTALE))
    with pytest.raises(RunError, match=r"holds no a\.json, so it is not a run"):
        disk.read_json(tmp_path / "a.json", "a run")
    monkeypatch.setattr(Path, "read_text", fail(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        disk.read_json(tmp_path / "a.json", "a run")


def test_what_another_node_wrote_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(disk, "SLOWEST_S", 60.0)
    looks = iter([False, False, True])
    assert disk.appears(lambda: next(looks))
    assert not disk.appears(lambda: False, lambda: True)  # a signal ends it
    monkeypatch.setattr(disk, "SLOWEST_S", 0.05)
    assert not disk.appears(lambda: False)
