"""Fetching the published cohort: all of it is as published, or nothing is written."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hg3.errors import ConfigError, TableError
from hg3.table.checks import check_table
from hg3.table.cohorts import fetch
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.cohorts.art_hiv_truths import CODE_COLUMNS, COLUMNS
from hg3.table.cohorts.fetch import fetch_art_hiv, git_blob_of
from hg3.table.schema import load_schema
from tests.table.cases import real_table

FLOAT32 = 2.0**-22  # relative: a number as the published file writes it, float32 in its fewest digits
FEW = 30  # patients of a file in the published format that is made small
OTHER_BYTES = "rows, codes and ranges are as published, but the bytes are not: git blob"


def published_form(n_patients: int) -> pd.DataFrame:
    """Return simulated patients as the published file writes them: float32, codes as 1.0, ids and times as 0."""
    table = simulate(n_patients, seed=0)
    return table.astype(dict.fromkeys(COLUMNS[:-2], np.float32))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Patients of a published file of FEW patients."""
    monkeypatch.setattr(fetch, "N_PATIENTS", FEW)
    return published_form(FEW)


def write(table: pd.DataFrame, folder: Path) -> Path:
    """Write a file as the published one is written, whose last line has no end."""
    folder.mkdir(exist_ok=True)
    (folder / "file.csv").write_text(table.to_csv(index=False).rstrip("\n"))
    return folder / "file.csv"


def test_a_file_of_full_size(tmp_path: Path) -> None:
    path = write(published_form(8_916), tmp_path / "from")
    with path.open() as file:
        lines = [next(file).rstrip("\n").split(",") for _ in range(2)]
    header = "VL,CD4,Rel CD4,Gender,Ethnic,Base Drug Combo,Comp. INI,Comp. NNRTI,Extra PI,Extra pk-En"
    assert ",".join(lines[0]) == header + ",VL (M),CD4 (M),Drug (M),PatientID,Timestep"
    assert all(cell in {f"{code}.0" for code in range(6)} for cell in lines[1][3:13]) and lines[1][13:] == ["0", "0"]
    (warning,) = fetch_art_hiv(tmp_path / "out.parquet", path)
    assert warning.startswith(OTHER_BYTES)
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == 534_960


@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz"])
def test_what_is_written_is_the_table_with_whole_codes(few: pd.DataFrame, ending: str, tmp_path: Path) -> None:
    fetch_art_hiv(tmp_path / f"out.{ending}", write(few, tmp_path / "from"))
    made = (pd.read_parquet if ending == "parquet" else pd.read_csv)(tmp_path / f"out.{ending}")
    pd.testing.assert_frame_equal(made, simulate(FEW, seed=0), rtol=FLOAT32)
    assert (made.dtypes[CODE_COLUMNS] == "int64").all()
    assert check_table(made, load_schema("art-hiv-v2"))[1].errors == []


def test_the_very_file_gives_no_warning(few: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(few, tmp_path / "from")
    monkeypatch.setattr(fetch, "GIT_BLOB", git_blob_of(path))
    assert fetch_art_hiv(tmp_path / "out.csv", path) == []


def test_rows_of_the_published_file_come_through_to_the_last_digit(few: pd.DataFrame, tmp_path: Path) -> None:
    """The first ten rows of the published file, and simulated ones for the rest of it."""
    published = real_table("art_hiv_v2_first10rows.csv").read_text().split("\n")
    path = write(few, tmp_path / "from")
    simulated = path.read_text().split("\n")
    assert len(published) == 11 and published[0] == simulated[0]
    path.write_text("\n".join(published + simulated[11:]))
    fetch_art_hiv(tmp_path / "out.csv", path)
    made = pd.read_csv(tmp_path / "out.csv", nrows=10).to_numpy()
    assert made.tolist() == [[float(cell) for cell in line.split(",")] for line in published[1:]]


def test_git_blob(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello\n")
    assert git_blob_of(tmp_path / "file") == "ce013625030ba8dba906f756967f9e9ca394464a"  # as git hash-object says
    content = bytes(3 << 20)
    (tmp_path / "file").write_bytes(content)
    assert git_blob_of(tmp_path / "file") == hashlib.sha1(b"blob 3145728\0" + content).hexdigest()


def with_cells(column: str, value: float, rows: slice = slice(7, 8)) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.assign(**{column: table[column].where(~table.index.isin(table.index[rows]), value)})


FAULTS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "a column less": (lambda t: t.drop(columns="Rel CD4"), "it has 14 columns and not, in this order, the 15 publish"),
    "another order": (lambda t: t[COLUMNS[::-1]], "it has 15 columns and not, in this order, the 15 published ones"),
    "a row less": (lambda t: t[:-1], "it has 1,799 rows instead of 1,800"),
    "a patient less": (lambda t: t[: -2 * 60], r"its patients are not the numbers 0 to 29"),
    "other patients": (lambda t: t.assign(PatientID=t["PatientID"] + 1), "its patients are not the numbers 0 to 29"),
    "a month twice": (with_cells("Timestep", 3), r"1 rows repeat a pair \(PatientID, Timestep\)"),
    "a month beyond": (with_cells("Timestep", 60), "'Timestep' has 1 times outside the grid 0 to 59"),
    "a code": (with_cells("Ethnic", 5.0, slice(0, 60)), "'Ethnic' has 60 cells with codes that are not in the schema"),
    "an empty cell": (with_cells("CD4", np.nan), "'CD4' has 1 missing cells"),
    "VL too high": (with_cells("VL", 97_566.42), r"'VL' has 1 cells outside its published range 0.095 to 97,566.415"),
    "VL too low": (with_cells("VL", 0.0949), "'VL' has 1 cells outside its published range"),
    "CD4 too high": (with_cells("CD4", 42_475.21), "'CD4' has 1 cells outside its published range 7.955 to 42,475.205"),
    "Rel CD4 too low": (with_cells("Rel CD4", 1.87), "'Rel CD4' has 1 cells outside its published range 1.8705 to 586"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_another_file_is_refused(few: pd.DataFrame, name: str, tmp_path: Path) -> None:
    change, sentence = FAULTS[name]
    path = write(change(few), tmp_path / "from")
    with pytest.raises(TableError, match=sentence) as caught:
        fetch_art_hiv(tmp_path / "out.parquet", path)
    assert f"{path} is not the published ART-for-HIV file, so nothing was written" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["from"]


@pytest.mark.parametrize(("column", "value"), [("VL", 97_566.41), ("VL", 0.1), ("CD4", 7.96), ("Rel CD4", 586.635)])
def test_the_published_ends_themselves_pass(few: pd.DataFrame, column: str, value: float, tmp_path: Path) -> None:
    fetch_art_hiv(tmp_path / "out.csv", write(with_cells(column, value)(few), tmp_path / "from"))


def test_a_sex_that_changes_is_told_and_kept(few: pd.DataFrame, tmp_path: Path) -> None:
    changed = few.assign(Gender=few["Gender"].where(few.index != 7, 3 - few["Gender"]))
    bytes_differ, static = fetch_art_hiv(tmp_path / "out.csv", write(changed, tmp_path / "from"))
    assert bytes_differ.startswith(OTHER_BYTES)
    assert "schema art-hiv-v2 will refuse it: column 'Gender' is static and changes within 1 patients" in static
    assert pd.read_csv(tmp_path / "out.csv")["Gender"].equals(changed["Gender"].astype(int))


@pytest.mark.parametrize("out", ["out.txt", "nowhere/out.csv"])
def test_an_out_that_cannot_be_written_is_refused_before_anything(out: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a table is written as|does not exist"):
        fetch_art_hiv(tmp_path / out, tmp_path / "no-such-file.csv")


def test_a_copy_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there is no table at"):
        fetch_art_hiv(tmp_path / "out.csv", tmp_path / "no-such-file.csv")


# Downloads, from a server on this machine.


@contextmanager
def served(content: bytes, status: int = 200, length: int | None = None, stall: bool = False) -> Iterator[str]:
    """Serve `content` under every path, after a redirect as figshare does it; yield the address."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/files/40584980":
                self.send_response(302)
                self.send_header("Location", "/file.csv")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if stall:
                ended.wait()
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(content) if length is None else length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/files/40584980"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_download(few: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = few.to_csv(index=False).encode()
    monkeypatch.setattr(fetch, "GIT_BLOB", hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest())
    with served(content) as address:
        monkeypatch.setattr(fetch, "URL", address)
        assert fetch_art_hiv(tmp_path / "out.parquet") == []
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), simulate(FEW, seed=0), rtol=FLOAT32)


@pytest.mark.parametrize(
    ("server", "why"),
    [
        ({"content": b"gone", "status": 404}, "HTTPError: HTTP Error 404"),
        ({"content": b"VL,CD4\n", "length": 5000}, "7 of 5,000 bytes came|IncompleteRead"),
        ({"content": b"", "stall": True}, "timed out"),
    ],
)
def test_a_download_that_fails(
    server: dict[str, object], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT", 0.5)
    with served(**server) as address:  # type: ignore[arg-type]
        monkeypatch.setattr(fetch, "URL", address)
        with pytest.raises(TableError, match=why) as caught:
            fetch_art_hiv(tmp_path / "out.csv")
    assert str(caught.value).startswith(f"{address} could not be downloaded (")
    assert str(caught.value).endswith("); download it elsewhere and give it with --from FILE")
    assert not any(tmp_path.iterdir())


def test_no_server_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(b"") as address:
        monkeypatch.setattr(fetch, "URL", address)
    with pytest.raises(TableError, match=r"URLError.* give it with --from FILE"):
        fetch_art_hiv(tmp_path / "out.csv")


def test_the_address_is_figshares_file() -> None:
    assert fetch.URL == "https://ndownloader.figshare.com/files/40584980"
    assert (fetch.N_PATIENTS, fetch.GIT_BLOB) == (8_916, "93ebe161c3a53c2f5f8ebc5a8b7f36ca2a3b81a9")
