"""A damaged part of a complete release is made anew, and nothing else is."""

import shutil
from pathlib import Path

import pytest

from hg3 import disk
from hg3.errors import ReleaseError
from hg3.release.making import PLAN
from hg3.release.manifest import INCOMPLETE
from hg3.release.repair import reopen_damaged
from hg3.release.verify import verify_release
from hg3.release.writer import generate
from tests import runs
from tests.runs import SIZES, file_bytes

one_thread = runs.one_thread


def test_repair(tmp_path: Path) -> None:
    run = runs.make_run(tmp_path)
    release = runs.make_release(run, tmp_path / "r", 150)
    whole = file_bytes(release)
    assert reopen_damaged(release) == []
    first, second, third = (release / "data" / f"part-0000{number}.parquet" for number in range(3))
    first.write_bytes(first.read_bytes()[:-1])
    third.unlink()
    before = second.stat().st_mtime_ns
    assert reopen_damaged(release) == ["data/part-00000.parquet", "data/part-00002.parquet"]
    with pytest.raises(ReleaseError, match="is not complete; call hg3 generate again"):
        verify_release(release)
    assert generate(run, release, 150, **SIZES)
    assert file_bytes(release) == whole and second.stat().st_mtime_ns == before
    verify_release(release)


def test_time_of_the_whole_is_kept(tmp_path: Path) -> None:
    release = runs.make_release(runs.make_run(tmp_path), tmp_path / "r", 150)
    disk.write_json(release / "provenance.json", {"sampling_seconds": 1500.0})
    next((release / "data").glob("*00.parquet")).unlink()
    reopen_damaged(release)
    notes = [disk.read_json(path, "a part") for path in sorted((release / INCOMPLETE).glob("part-*.json"))]
    assert [(note["patients"], note["seconds"]) for note in notes] == [(32, 320.0)] * 3 + [(22, 220.0)]


def test_kill_while_it_is_opened_is_made_up_for_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = runs.make_release(runs.make_run(tmp_path), tmp_path / "r", 150)
    (release / "data" / "part-00000.parquet").unlink()
    write = disk.write_json

    def killed(path: Path, content: object) -> None:
        if path.name == PLAN:
            raise KeyboardInterrupt
        write(path, content)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(disk, "write_json", killed)
        reopen_damaged(release)
    assert (release / INCOMPLETE).is_dir()
    assert reopen_damaged(release) == ["data/part-00000.parquet"]
    assert (release / INCOMPLETE / PLAN).is_file()
    with pytest.raises(ReleaseError, match="is not complete"):  # in the making, which is left as it is
        reopen_damaged(release)
    assert (release / INCOMPLETE / PLAN).is_file()


def test_kill_before_it_is_open_leaves_the_release(tmp_path: Path) -> None:
    run = runs.make_run(tmp_path)
    release = runs.make_release(run, tmp_path / "r", 40)
    whole = file_bytes(release)
    shutil.copytree(release / "data", release / "incomplete")  # notes without a plan
    assert generate(run, release, 40, **SIZES)
    assert file_bytes(release) == whole
