"""The torch binding under AddressSanitizer: the extension built with it, and the tests of the step run on it."""

import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from tests.csrc.compilers import COMPILER, ROOT

pytestmark = pytest.mark.slow
SANITIZER = "-fsanitize=address -fno-omit-frame-pointer"
# torch and Python keep what they have to the end, which is no leak of hg3's
OPTIONS = "detect_leaks=0"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project whose hg3._C is built with AddressSanitizer."""
    folder = tmp_path_factory.mktemp("sanitized") / "hg3"
    not_source = ignore_patterns(".git", ".venv", "runs", "build", "*.so", "__pycache__", ".*_cache", ".hypothesis")
    copytree(ROOT, folder, ignore=not_source)
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where ninja is
    environment = {**os.environ, "CFLAGS": SANITIZER, "LDFLAGS": SANITIZER, "HG3_BUILD": "cpu", "PATH": search}
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (folder / "hg3").glob("_C.*.so")
    assert b"__asan_report_load" in built.read_bytes()
    return folder


def library(name: str) -> str:
    """Return the path of one of the compiler's own libraries."""
    found = subprocess.run([*COMPILER, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def sanitized(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in `tree` with the sanitizer before every other library."""
    environment = {
        **os.environ,
        # the C++ library with it: the sanitizer looks for the function that throws when it starts, and Python has none
        "LD_PRELOAD": f"{library('libasan.so')}:{library('libstdc++.so')}",
        "ASAN_OPTIONS": OPTIONS,
        "PYTHONPATH": str(tree),
        "OMP_NUM_THREADS": "2",
    }
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)


def test_the_binding_is_clean_under_address_sanitizer(tree: Path) -> None:
    chosen = "compiled and not opcheck and not eager"  # torch's own tracing is not what is asked about
    tests = [str(path.relative_to(tree)) for path in sorted((tree / "tests" / "sampling").glob("test_ops*.py"))]
    done = sanitized(tree, "-m", "pytest", "-q", "--capture=no", "-p", "no:cacheprovider", *tests, "-k", chosen)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "AddressSanitizer" not in done.stderr and " passed" in done.stdout
