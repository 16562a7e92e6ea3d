"""The compilers of the extension, and what setup.py tells them."""

import os
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COMPILER = (os.environ.get("CXX") or "g++").split()


def setup_py() -> dict[str, Any]:
    """Return the names of setup.py, which builds nothing here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HG3_BUILD", "none")
        patched.setattr("setuptools.setup", lambda **_: None)
        return runpy.run_path(str(ROOT / "setup.py"))
