"""The programs of tests/csrc: how they are compiled, and what they write."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.csrc.compilers import COMPILER, ROOT, setup_py

STRICT = ["-std=c++20", "-Wall", "-Wextra", "-Werror"]
Compiled = Callable[..., Path]


def flags_of_the_extension() -> list[str]:
    """Return CXX_FLAGS of setup.py, but for the threads that no program here has."""
    return [flag for flag in setup_py()["CXX_FLAGS"] if flag != "-fopenmp"]


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
