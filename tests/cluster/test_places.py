"""Where a tracking store is."""

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hg3.cluster import places
from hg3.cluster.places import answers, checked_uri, choose_store, has_locks, mount_of, sqlite_path, sqlite_uri
from hg3.errors import ConfigError
from tests.cluster.tracked import free_port


@contextmanager
def responder(status: int) -> Iterator[str]:
    """Answer every request on loopback with `status`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()


@pytest.mark.parametrize(("status", "expected"), [(200, True), (401, True), (403, True), (500, False), (404, False)])
def test_server_answers_for_itself(status: int, expected: bool) -> None:
    with responder(status) as uri:
        assert answers(uri) == answers(uri + "/") == expected


def test_nobody_there_is_known_at_once() -> None:
    began = time.monotonic()
    assert not answers(f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - began < places.ANSWER_S


def test_environment_is_followed_where_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with responder(200) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert choose_store("auto", tmp_path) == uri
    assert choose_store("auto", tmp_path / "runs") == sqlite_uri(tmp_path / "runs" / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert choose_store("auto", tmp_path) == sqlite_uri(tmp_path / "mlflow.db")


def test_without_locks_it_waits_for_a_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_locks(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(places, "TAKE_LOCK", "pass")  # another process gets what is taken, as on a broken file system
    assert not has_locks(tmp_path)
    assert choose_store("auto", tmp_path) == "later"


MOUNTS = r"""
22 1 0:21 / / rw,relatime - ext4 /dev/vda rw
23 22 0:31 / /home rw,relatime shared:4 - nfs4 server:/home rw,vers=4.2,local_lock=none
24 22 0:32 / /scratch rw,noatime - lustre mds@tcp:/one rw,flock
25 22 0:33 / /fast\040disk rw - lustre mds@tcp:/two rw,localflock
26 22 0:34 / /old rw - nfs server:/old rw,vers=3,local_lock=all
27 22 0:35 / /old/new rw - nfs server:/new rw,vers=3,local_lock=none
28 22 0:36 / /bee rw - beegfs beegfs_nodev rw
29 22 0:37 / /home rw master:1 - nfs4 server:/other rw,nolock
"""


@pytest.mark.parametrize(
    ("folder", "kind", "locks"),
    [
        ("/tmp", "ext4", True),
        ("/scratch/me", "lustre", True),
        ("/scratched", "ext4", True),
        ("/fast disk/me", "lustre", False),
        ("/old/runs", "nfs", False),
        ("/old/new/runs", "nfs", True),
        ("/bee", "beegfs", False),
        ("/home/me", "nfs4", False),  # the later one of two on one point
    ],
)
def test_mount_says_whose_locks_they_are(
    folder: str, kind: str, locks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS.lstrip())
    found = mount_of(Path(folder), table)
    assert found[0] == kind
    monkeypatch.setattr(places, "mount_of", lambda _: found)
    assert has_locks(tmp_path) == locks
    assert mount_of(Path(folder), tmp_path / "none") == ("", set())


def test_what_was_asked_for_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    for wanted in (
        "later",
        "http://here:5000",
        "sqlite:////there/mlflow.db",
        "postgresql+psycopg2://user@host/db",
        "sqlite:////a:b@c",
    ):
        assert choose_store(wanted, tmp_path) == wanted


@pytest.mark.parametrize("wanted", ["runs/mlflow.db", "file:///runs", "./mlruns", "", "s3://bucket"])
def test_no_place_is_refused(wanted: str) -> None:
    with pytest.raises(ConfigError, match="is no place for tracking; give auto, later, the address"):
        checked_uri(wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        "http://me:s3cret@host:5000",
        "https://s3cret-token@host",
        "postgresql://me:s3/cr@et@host/db",
        "postgres://me:s3cret@host",
        "me:s3cret@host",
    ],
)
def test_password_is_refused_and_not_repeated(wanted: str) -> None:
    with pytest.raises(ConfigError, match=r"set MLFLOW_TRACKING_USERNAME and .*\.pgpass") as raised:
        checked_uri(wanted)
    assert "s3" not in str(raised.value)


def test_sqlite_uri_is_that_of_its_file(tmp_path: Path) -> None:
    assert sqlite_path(sqlite_uri(tmp_path / "a b.db")) == tmp_path / "a b.db"
    assert sqlite_path("http://here") is None
