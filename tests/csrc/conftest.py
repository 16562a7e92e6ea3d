"""Programs over the torch-free headers of csrc/, compiled with the flags of the extension."""

from pathlib import Path
from shutil import which

import pytest

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
