"""Whole steps in C++: the same bits however they are computed, and clean under the sanitizers."""

import os
import subprocess

import pytest

from tests.csrc.compilers import COMPILER
from tests.csrc.programs import Compiled, output_of

# -O1 keeps the vector code and lines that can be read; what is undefined stops the program
SANITIZED = ["-O1", "-g", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]


@pytest.fixture
def sanitized(compiled: Compiled) -> Compiled:
    """`compiled` with the sanitizers, where the compiler has them."""
    command = [*COMPILER, *SANITIZED, "-x", "c++", "-", "-o", os.devnull]
    if subprocess.run(command, input=b"int main() {}", capture_output=True, check=False).returncode != 0:
        pytest.skip(f"{COMPILER[0]} has no AddressSanitizer and UndefinedBehaviorSanitizer")
    return lambda name: compiled(name, *SANITIZED)


def agreed(written: bytes) -> int:
    count, *words = written.decode().split()
    assert words == ["steps", "agree"]
    return int(count)


def test_every_way_to_compute_a_step_gives_the_same_bits(compiled: Compiled) -> None:
    """Instruction sets, memory layouts, chunks of patients, in place, and the scalar tail as the vector body."""
    assert agreed(output_of(compiled("steps"))) > 10_000


def test_steps_are_clean_under_address_and_undefined_behaviour_sanitizers(sanitized: Compiled) -> None:
    assert agreed(output_of(sanitized("steps"))) > 10_000


def test_noise_is_clean_under_the_sanitizers(sanitized: Compiled) -> None:
    assert len(output_of(sanitized("noise"), "statistics", -1, 3, 128).split()) == 4 + 2**16


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [("past_the_end", "AddressSanitizer: heap-buffer-overflow"), ("overflow", "signed integer overflow")],
)
def test_the_sanitizers_see(sanitized: Compiled, mistake: str, sentence: str) -> None:
    done = subprocess.run([sanitized("mistakes"), mistake], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and sentence in done.stderr
