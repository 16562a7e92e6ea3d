"""Where a tracking store is: a server that answers, else sqlite beside the runs, else nowhere before a merge."""

import fcntl
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from hg3.errors import ConfigError

LATER = "later"  # the run folders keep what is to be tracked, until `hg3 track merge`
STORE_FILE = "mlflow.db"
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
ANSWER_S = 5.0
MOUNTS = Path("/proc/self/mountinfo")
# Locks that other nodes do not see: of Lustre, of NFS, and of file systems that have no others, or only if set up so.
OWN_LOCKS = {"localflock", "nolock", "local_lock=all", "local_lock=flock", "local_lock=posix"}
KINDS_WITH_OWN_LOCKS = {"beegfs", "fuse.sshfs"}
TAKE_LOCK = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"


def choose_store(wanted: str, folder: Path) -> str:
    """Return the URI of the store to use, or "later".

    Parameters
    ----------
    wanted : a URI; "later"; or "auto": what MLFLOW_TRACKING_URI names, where it answers, else `mlflow.db` in `folder`,
        else, on a file system without locks, "later".

    Raises
    ------
    ConfigError
        If it is nothing of these.
    """
    if wanted == LATER:
        return LATER
    if wanted != "auto":
        return checked_uri(wanted)
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if named and answers(checked_uri(named)):
        return named
    folder.mkdir(parents=True, exist_ok=True)
    return sqlite_uri(folder / STORE_FILE) if has_locks(folder) else LATER


def checked_uri(uri: str) -> str:
    """Return `uri` if a store can be there, and it holds no password: run folders and logs repeat it."""
    if _has_password(uri):
        raise ConfigError(
            "a tracking URI with a password in it was given, which run folders and logs would repeat; leave it out and "
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for a server, or write a .pgpass file for "
            "PostgreSQL"
        )
    scheme, separator, _ = uri.partition("://")
    if separator and scheme.partition("+")[0] in SCHEMES:
        return uri
    raise ConfigError(
        f"{uri!r} is no place for tracking; give auto, later, the address of an MLflow server (http://HOST:PORT) or a "
        "database (sqlite:////ABSOLUTE/PATH/mlflow.db)"
    )


def _has_password(uri: str) -> bool:
    """Whether `uri` has USER:PASSWORD@, for a server anything before an @, or password=; of a path no part is one."""
    rest = uri.partition("://")[2] or uri
    secret = r"^[^/?#]*@" if uri.startswith(("http://", "https://")) else r":[^@]+@"
    return not uri.startswith("sqlite:") and re.search(rf"{secret}|passw(or)?d=", rest, re.IGNORECASE) is not None


def sqlite_uri(path: Path) -> str:
    return f"sqlite:///{path.resolve()}"


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a sqlite store, None for any other."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def answers(uri: str) -> bool:
    """Whether a server says that it is well, in at most five seconds; a database is taken at its word."""
    if not uri.startswith(("http://", "https://")):
        return True
    try:
        with urlopen(uri.rstrip("/") + "/health", timeout=ANSWER_S):
            return True
    except HTTPError as error:
        return error.code in (401, 403)  # it lives and asks who calls, which MLflow's client can tell it
    except OSError:
        return False


def mount_of(folder: Path, table: Path = MOUNTS) -> tuple[str, set[str]]:
    """Return kind and options of the mount that `folder` is on; nothing where the system does not tell."""
    try:
        lines = [line.split() for line in table.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return "", set()  # no Linux
    place, found = folder.resolve(), ("", set[str]())
    deepest = -1
    for words in lines:
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), words[4]))
        if place.is_relative_to(point) and len(point.parts) >= deepest:  # of two on one point the later one is seen
            after, deepest = words.index("-"), len(point.parts)
            found = words[after + 1], {*words[5].split(","), *words[after + 3].split(",")}
    return found


def has_locks(folder: Path) -> bool:
    """Whether a lock in `folder` keeps another process out, without which sqlite loses what two write at once.

    What another node's process meets cannot be tried here; the mount says whether locks are this node's own.
    """
    kind, options = mount_of(folder)
    if kind in KINDS_WITH_OWN_LOCKS or options & OWN_LOCKS:
        return False
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".hg3-tmp-lock-") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        taken = subprocess.run([sys.executable, "-c", TAKE_LOCK, file.name], capture_output=True, check=False)
        return taken.returncode != 0
