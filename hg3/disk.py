"""Files that are whole or absent: atomic writes, hashes, folder locks.

Everything is written under a temporary name in the same folder, flushed to the disk, and renamed, so that a
kill or a full disk leaves either the old file or the new one. The temporary name says whose it is to become, and
its writer holds a lock on it while it lives, so that the next writer knows what a killed one left.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hg3.errors import RunError

TEMPORARY_PREFIX = ".hg3-tmp-"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)  # what a file system without hard links says
SLOWEST_S = 90.0  # that a shared file system takes to show what another node wrote; NFS remembers for up to 60
LOOK_EVERY_S = 1.0


@contextmanager
def atomic_path(path: Path, put: Callable[[Path, Path], None] | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, else remove it.

    put : gives the temporary file its name, where that is not os.replace.
    """
    handle, name = tempfile.mkstemp(prefix=_prefix(path), suffix=path.suffix, dir=path.parent)
    temporary = Path(name)
    try:
        with _held(handle):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            (put or os.replace)(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, mode 0700; rename it to `path` if the block succeeds, else remove it."""
    temporary = Path(tempfile.mkdtemp(prefix=_prefix(path), dir=path.parent))
    try:
        with _held(os.open(temporary, os.O_RDONLY)):
            yield temporary
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(path.parent)


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of `path` left beside it; what a living one has under its lock stays."""
    for left in path.parent.glob(f"{_prefix(path)}*"):
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(left)
            finally:
                os.close(handle)


def _prefix(path: Path) -> str:
    """Return what the temporary names of `path` begin with: a hash, as its own name may have no room for more."""
    return f"{TEMPORARY_PREFIX}{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]}-"


@contextmanager
def _held(handle: int) -> Iterator[None]:
    """Hold a lock on an open file or folder, where the file system has locks, and close it in the end."""
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def replace_folder(new: Path, path: Path) -> None:
    """Rename the folder `new` to `path`; one that is already there steps aside, so that no kill leaves half of it."""
    aside = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
    if path.is_dir():
        os.replace(path, aside)
    os.replace(new, path)
    _sync_folder(path.parent)
    shutil.rmtree(aside)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Flush the folder's entry list, without which a rename may be lost in a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_gone(error: OSError) -> bool:
    """Whether a file or a folder was removed, as far as an error says, be it by another node."""
    return isinstance(error, FileNotFoundError) or error.errno == errno.ESTALE


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` atomically as JSON with sorted keys: equal content gives equal bytes."""
    write_text(path, json_text(content))


def write_new_json(path: Path, content: Any) -> bool:
    """Write `content` as `write_json` does, unless `path` is there already; return whether it was written.

    Of several processes, on whatever nodes, one writes and the others find its file, whole. Only where a file system
    has no hard links may two that come within one moment both write.
    """
    try:
        with atomic_path(path, put=_name_if_free) as temporary:
            temporary.write_text(json_text(content), encoding="utf-8")
    except FileExistsError:
        return False
    return True


def _name_if_free(temporary: Path, path: Path) -> None:
    """Rename `temporary` to `path`; raise FileExistsError where that is there."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno in NO_LINKS:
            _rename_if_free(temporary, path)
        elif temporary.stat().st_nlink == 1:  # else it was linked: NFS asks again when an answer is lost
            raise
    temporary.unlink(missing_ok=True)


def _rename_if_free(temporary: Path, path: Path) -> None:
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    os.replace(temporary, path)


def json_text(content: Any) -> str:
    """Return the text that `write_json` writes."""
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path, what: str) -> Any:
    """Return the JSON content of `path`; `what` names it in the error.

    Raises
    ------
    RunError
        If the file is absent, is not JSON, or holds text that is not Unicode (half of a surrogate pair) or NaN, which
        `write_json` never leaves.
    """
    try:
        return _parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        if not is_gone(error):
            raise
        raise RunError(f"{path.parent} holds no {path.name}, so it is not {what}") from None
    except UnicodeEncodeError:
        raise RunError(
            f"{path} is altered: it holds text that is not Unicode; restore it or make {what} anew"
        ) from None
    except (ValueError, RecursionError):  # no JSON, no UTF-8, a number of thousands of digits, thousands of brackets
        raise RunError(f"{path} is truncated or altered: it is not JSON; restore it or make {what} anew") from None


def _parsed(text: str) -> Any:
    """Return the content of JSON text that can be written again; raise ValueError or RecursionError for any other."""
    content = json.loads(text, parse_constant=_refuse_constant)
    json.dumps(content, ensure_ascii=False).encode()  # "\ud800" is read without complaint and can never be written
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write `content` with its seal, for files that nothing else holds the hash of."""
    write_json(path, {**content, "seal": seal_of(content)})


def read_sealed(path: Path, what: str) -> dict[str, Any]:
    """Return what `write_sealed` wrote; `what` names it in the error.

    Raises
    ------
    RunError
        As of `read_json`, or if the content is not what was sealed.
    """
    content = read_json(path, what)
    if not is_sealed(content):
        raise RunError(f"{path} is altered: its seal is not that of its content; restore it or make {what} anew")
    return content


def is_sealed(content: Any) -> bool:
    """Return whether JSON content is what was sealed."""
    return isinstance(content, dict) and content.get("seal") == seal_of(content)


def seal_of(content: dict[str, Any]) -> str:
    """Return the SHA-256 of JSON content without its key "seal"."""
    unsealed = {key: value for key, value in content.items() if key != "seal"}
    return hashlib.sha256(json.dumps(unsealed, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of the file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def appears(is_there: Callable[[], bool], should_stop: Callable[[], bool] = lambda: False) -> bool:
    """Whether what another node wrote is there, or is within 90 s: a shared file system may show it that late.

    Parameters
    ----------
    should_stop : asked between two looks, of which the last one counts then.
    """
    end = time.monotonic() + SLOWEST_S
    while not (found := is_there()) and time.monotonic() < end and not should_stop():
        time.sleep(LOOK_EVERY_S)
    return found


def remove_temporaries(folder: Path) -> None:
    """Remove files and folders that a killed writer left behind; only the holder of the folder's lock may call it."""
    for path in list(folder.rglob(f"{TEMPORARY_PREFIX}*")):
        with suppress(FileNotFoundError):  # where nobody can hold a lock, its writer may live
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock on the file `path` (made if absent); the system drops it with the process.

    A file system may have no locks, as a Lustre mounted without them: there nobody is kept out.

    Raises
    ------
    RunError
        If another process holds it.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{path.parent} is in use by another hg3 process; wait for it or choose another {what}"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield


def is_free(path: Path) -> bool:
    """Whether no process holds the lock on the file `path`, which need not be there."""
    try:
        with lock(path, "folder"):
            return True
    except FileNotFoundError:
        return True
    except RunError:
        return False
