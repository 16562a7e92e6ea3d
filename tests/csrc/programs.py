"""The programs of tests/csrc: how they are compiled, and what they write."""

import os
import runpy
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILER = (os.environ.get("CXX") or "g++").split()
STRICT = ["-std=c++20", "-Wall", "-Wextra", "-Werror"]
Compiled = Callable[..., Path]


def flags_of_the_extension() -> list[str]:
    """Return CXX_FLAGS of setup.py, but for the threads that no program here has."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HG3_BUILD", "none")
        patched.setattr("setuptools.setup", lambda **_: None)
        flags = runpy.run_path(str(ROOT / "setup.py"))["CXX_FLAGS"]
    return [flag for flag in flags if flag != "-fopenmp"]


def compile_program(name: str, program: Path, *more: str) -> None:
    """Compile tests/csrc/NAME.cpp as the extension is compiled, with every warning an error."""
    source = str(Path(__file__).parent / f"{name}.cpp")
    flags = [*flags_of_the_extension(), *STRICT, f"-I{ROOT / 'csrc'}", *more]
    done = subprocess.run([*COMPILER, *flags, source, "-o", str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def output_of(program: Path, *words: object) -> bytes:
    """Return what a program writes; fail with its words where it ends badly."""
    done = subprocess.run([str(program), *map(str, words)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout
