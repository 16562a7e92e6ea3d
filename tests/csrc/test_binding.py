"""The torch binding under the sanitizers of addresses and undefined behaviour: the operators' tests on it."""

import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from tests.csrc import sanitizers
from tests.csrc.compilers import COMPILER, ROOT

pytestmark = pytest.mark.slow
# What of the tests is of the extension alone: neither the other implementations nor torch's own tracing is asked about.
OPERATORS = {
    "reverse_step": ("sampling/test_ops*.py", "compiled and not opcheck and not eager"),
    "decode": ("table/test_ops.py", "not numpy and not opcheck and not eager"),
}
CALL_MAIN = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).main(2, (ctypes.c_char_p * 2)(b'', sys.argv[2].encode()))"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project whose hg3._C is built with the sanitizers."""
    sanitizers.environment()  # or there is nothing to build with
    folder = tmp_path_factory.mktemp("sanitized") / "hg3"
    not_source = ignore_patterns(".git", ".venv", "runs", "build", "*.so", "__pycache__", ".*_cache", ".hypothesis")
    copytree(ROOT, folder, ignore=not_source)
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where ninja is
    flags = {"CFLAGS": sanitizers.FLAGS, "LDFLAGS": sanitizers.FLAGS}
    environment = {**os.environ, **flags, "HG3_BUILD": "cpu", "PATH": search}
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (folder / "hg3").glob("_C.*.so")
    assert all(name in built.read_bytes() for name in (b"__asan_report_load", b"__ubsan_handle"))
    return folder


def sanitized(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder` with the sanitizers before every other library."""
    environment = {**os.environ, **sanitizers.environment(), "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_binding_is_clean_under_the_sanitizers(tree: Path, operator: str) -> None:
    files, chosen = OPERATORS[operator]
    tests = sorted((tree / "tests").glob(files))
    done = sanitized(tree, "-m", "pytest", "-q", "--capture=no", "-p", "no:cacheprovider", *tests, "-k", chosen)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Sanitizer" not in done.stderr and " passed" in done.stdout


@pytest.mark.parametrize("mistake", sanitizers.MISTAKES)
def test_the_sanitizers_see_in_python_too(tmp_path: Path, mistake: str) -> None:
    library, source = tmp_path / "mistakes.so", Path(__file__).parent / "mistakes.cpp"
    flags = ["-O1", "-std=c++20", "-fPIC", "-shared", *sanitizers.FLAGS.split()]
    subprocess.run([*COMPILER, *flags, str(source), "-o", str(library)], check=True)
    done = sanitized(tmp_path, "-c", CALL_MAIN, library, mistake)
    assert done.returncode != 0 and sanitizers.MISTAKES[mistake] in done.stderr
