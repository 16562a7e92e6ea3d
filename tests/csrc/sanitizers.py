"""Sanitizers in a process of Python: what compiles with them, and what is loaded before everything else."""

import os
import subprocess

import pytest

from tests.csrc.compilers import COMPILER

FLAGS = "-g -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all -fno-omit-frame-pointer"
# the C++ library with them: they look for the function that throws when they start, and Python has none
LIBRARIES = ("libasan.so", "libubsan.so", "libstdc++.so")
MISTAKES = {  # of mistakes.cpp, and what is said of them
    "past_the_end": "AddressSanitizer: heap-buffer-overflow",
    "overflow": "signed integer overflow",
}


def environment() -> dict[str, str]:
    """Return the variables under which Python loads the sanitizers; skip where the compiler has none."""
    paths = [_library(name) for name in LIBRARIES]
    if not all(map(os.path.isabs, paths)):
        pytest.skip(f"{COMPILER[0]} has no AddressSanitizer and UndefinedBehaviorSanitizer")
    # torch and Python keep what they have to the end, which is no leak of hg3's
    return {"LD_PRELOAD": ":".join(paths), "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}


def _library(name: str) -> str:
    """Return the path of one of the compiler's own libraries, or its bare name where there is none."""
    return subprocess.check_output([*COMPILER, f"-print-file-name={name}"], text=True).strip()
