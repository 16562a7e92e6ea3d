import gzip
import multiprocessing
import os
import signal
from pathlib import Path

import pandas as pd
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from hg3.errors import ReleaseError
from hg3.release import export
from hg3.release.export import export_csv
from hg3.table.read import read_table
from tests.release.test_load import ROWS, SCHEMA, make_release, table_of

CSV = """\
"id","month","VL","Sex","Drug","Dose"
7,1,100,,"a",5
7,2,0,,"b",10
7,4,50,,,5
7,5,,,"c",5
9,1,8.5,1,"c",10
9,2,4,1,,5
9,3,2,1,"a",5
12,1,1,2,"b",10
"""


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return make_release(tmp_path / "release", [table_of(ROWS[:7], SCHEMA), table_of(ROWS[7:], SCHEMA)], SCHEMA)


def test_csv_is_exactly_this(release: Path, tmp_path: Path) -> None:
    out = export_csv(release, tmp_path / "out.csv")
    assert out == tmp_path / "out.csv"
    assert out.read_text() == CSV


def test_gzip_holds_the_same_and_no_time(release: Path, tmp_path: Path) -> None:
    one, other = (export_csv(release, tmp_path / name) for name in ("one.csv.gz", "other.csv.gz"))
    assert gzip.decompress(one.read_bytes()).decode() == CSV
    assert one.read_bytes() == other.read_bytes()
    assert one.read_bytes()[4:8] == bytes(4)


def test_batches_leave_no_seam(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "ROWS_AT_ONCE", 2)
    assert export_csv(release, tmp_path / "out.csv").read_text() == CSV


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1 + 0.2 - 0.2, "0.1"), (168.296991, "168.296991"), (-0.0, "0"), (9999999.9, "9999999.9"), (1200.0, "1200")],
)
def test_numbers_have_no_noise(tmp_path: Path, value: float, text: str) -> None:
    rows = [(1, 1, round(value, 6), 1, "a", 5)]
    out = export_csv(make_release(tmp_path / "r", [table_of(rows, SCHEMA)], SCHEMA), tmp_path / "out.csv")
    assert out.read_text().splitlines()[1].split(",")[2] == text


def test_csv_reads_back_as_a_cohort_table(release: Path, tmp_path: Path) -> None:
    table = read_table(export_csv(release, tmp_path / "out.csv.gz"), SCHEMA)
    parts = pd.concat([pq.read_table(path).to_pandas() for path in sorted((release / "data").iterdir())])
    assert table["VL"].astype(float).tolist()[:3] == parts["VL"].tolist()[:3]
    assert table["Drug"].isna().tolist() == parts["Drug"].isna().tolist()
    assert len(table) == len(ROWS)


def test_existing_file_stays(release: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("mine")
    with pytest.raises(ReleaseError, match="exists; choose another name, or replace it with force"):
        export_csv(release, out)
    assert out.read_text() == "mine"
    assert export_csv(release, out, force=True).read_text() == CSV


@pytest.mark.parametrize("force", [False, True])
def test_a_pipe_is_not_replaced(release: Path, tmp_path: Path, force: bool) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to("pipe.csv")
    for name in ("pipe.csv", "link.csv"):
        with pytest.raises(ReleaseError, match=rf"{name} is a device, a pipe or a socket.* name a CSV file"):
            export_csv(release, tmp_path / name, force=force)
    assert (tmp_path / "pipe.csv").is_fifo() and (tmp_path / "link.csv").is_symlink()


def test_the_next_export_removes_what_a_killed_one_left(release: Path, tmp_path: Path) -> None:
    def killed() -> None:
        pyarrow.csv.write_csv = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        export_csv(release, tmp_path / "out.csv.gz")

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [path.suffix for path in tmp_path.iterdir() if path != release] == [".gz"]
    out = export_csv(release, tmp_path / "out.csv.gz")
    assert sorted(tmp_path.iterdir()) == [out, release]


def test_failure_leaves_nothing(release: Path, tmp_path: Path) -> None:
    part = release / "data/part-00001.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(ReleaseError, match=r"part-00001\.parquet is not readable Parquet"):
        export_csv(release, tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


@pytest.mark.parametrize("place", ["data/out.csv", "manifest.json", "out.csv"])
def test_release_stays_as_it_is(release: Path, place: str) -> None:
    before = sorted(path.name for path in release.rglob("*"))
    with pytest.raises(ReleaseError, match="lies inside the release"):
        export_csv(release, release / place, force=True)
    assert sorted(path.name for path in release.rglob("*")) == before


@pytest.mark.parametrize("place", ["", "nowhere/out.csv"])
def test_place_that_is_no_file(release: Path, tmp_path: Path, place: str) -> None:
    with pytest.raises(ReleaseError, match="cannot be a file"):
        export_csv(release, tmp_path / place)


def test_folder_that_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"holds no manifest\.json"):
        export_csv(tmp_path, tmp_path / "out.csv")
