"""Programs over the torch-free headers of csrc/, compiled with the flags of the extension."""

import os
import subprocess
from pathlib import Path
from shutil import which

import pytest

from tests.csrc import sanitizers
from tests.csrc.compilers import COMPILER
from tests.csrc.programs import Compiled, compile_program


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """A function that returns the program of tests/csrc/NAME.cpp, compiled once a session for the same flags."""
    if which(COMPILER[0]) is None:
        pytest.skip(f"there is no C++ compiler {COMPILER[0]}")
    folder = tmp_path_factory.mktemp("csrc")
    made: dict[tuple[str, ...], Path] = {}

    def compile_once(name: str, *more: str) -> Path:
        if (name, *more) not in made:
            program = folder / f"{name}-{len(made)}"
            compile_program(name, program, *more)
            made[name, *more] = program
        return made[name, *more]

    return compile_once


@pytest.fixture
def sanitized(compiled: Compiled) -> Compiled:
    """`compiled` with the sanitizers, where the compiler has them; -O1 keeps vector code and lines that can be read."""
    flags = ["-O1", *sanitizers.FLAGS.split()]
    command = [*COMPILER, *flags, "-x", "c++", "-", "-o", os.devnull]
    if subprocess.run(command, input=b"int main() {}", capture_output=True, check=False).returncode != 0:
        pytest.skip(f"{COMPILER[0]} has no AddressSanitizer and UndefinedBehaviorSanitizer")
    return lambda name: compiled(name, *flags)
