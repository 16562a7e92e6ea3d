"""Whole steps in C++: the same bits however they are computed, and clean under the sanitizers."""

import subprocess

import pytest

from tests.csrc.programs import Compiled, output_of
from tests.csrc.sanitizers import MISTAKES


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


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_sanitizers_see(sanitized: Compiled, mistake: str) -> None:
    done = subprocess.run([sanitized("mistakes"), mistake], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and MISTAKES[mistake] in done.stderr
