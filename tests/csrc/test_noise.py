"""Noise in C++, of every instruction set: the published integers, torch's integers, and normals that are normal."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from hg3 import philox
from hg3.philox import Stream, stream_word
from tests.csrc.programs import Compiled, output_of

SETS = ("portable", "avx2")
KNOWN_ANSWERS = [  # Random123 (Salmon et al. 2011), kat_vectors, philox4x32 10: counter and key, words
    ("00000000 00000000 00000000 00000000 00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
SIZE = 1408  # elements of a patient: 22 channels, 64 months


@pytest.fixture(scope="module", params=SETS)
def instructions(request: pytest.FixtureRequest, compiled: Compiled) -> str:
    if request.param not in output_of(compiled("noise"), "sets").decode().split():
        pytest.skip(f"this CPU has no {request.param}")
    return request.param


def integers(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("start", "answer"), KNOWN_ANSWERS, ids=["zeros", "ones", "pi"])
def test_the_published_answers(compiled: Compiled, instructions: str, start: str, answer: str) -> None:
    words = np.frombuffer(output_of(compiled("noise"), "words", instructions, *integers(start), 1), np.uint32)
    assert words[:4].tolist() == integers(answer)


DRAWS = [  # seed, patient, stream, retry, step
    (0, 0, Stream.INITIAL_STATIC, 0, 0),
    (-1, 2**32 - 1, Stream.STEP_DYNAMIC, 255, 2**20 - 1),
    (2**63 - 1, 2**32, Stream.DECODE, 7, 499),
    (-(2**63), 2**40 + 17, Stream.STEP_STATIC, 1, 1),
    (0x0123456789ABCDEF, 4711, Stream.INITIAL_DYNAMIC, 0, 19),
]


@pytest.mark.parametrize(("seed", "patient", "stream", "retry", "step"), DRAWS)
def test_words_and_normals_are_those_of_torch(
    compiled: Compiled, instructions: str, seed: int, patient: int, stream: Stream, retry: int, step: int
) -> None:
    program, word = compiled("noise"), stream_word(stream, retry)
    start = (0, word | step, patient % 2**32, patient >> 32, seed % 2**32, (seed >> 32) % 2**32)
    words = np.frombuffer(output_of(program, "words", instructions, *start, SIZE // 64), np.uint32)
    drawn = (torch.tensor(seed), torch.tensor([patient]), torch.tensor([word]), torch.tensor(step), 22, 64)
    assert words.tolist() == philox.words(*drawn).flatten().tolist()
    z = np.frombuffer(output_of(program, "normals", instructions, seed, word, step, patient, 1, SIZE), np.float32)
    # half of 1.4 ulp for the root of a log, 1.7 for sine or cosine, and three roundings
    np.testing.assert_allclose(z, philox.normal(*drawn).flatten().numpy(), rtol=4 * 2**-23, atol=1e-15)


def test_instruction_sets_draw_the_same_bits(compiled: Compiled) -> None:
    sets = output_of(compiled("noise"), "sets").decode().split()
    drawn = {output_of(compiled("noise"), "normals", name, 3, 5 << 20, 17, 2**33 - 50, 100, SIZE) for name in sets}
    assert len(drawn) == 1


@pytest.fixture(scope="module")
def statistics(compiled: Compiled) -> tuple[int, np.ndarray, np.ndarray]:
    """How many normals, the means of z to z^4, and how many lie in each of 2^16 cells from -8 to 8."""
    n_patients = -(-(10**8) // SIZE)
    numbers = np.array(output_of(compiled("noise"), "statistics", 2026, n_patients, SIZE).split(), dtype=float)
    return n_patients * SIZE, numbers[:4] / (n_patients * SIZE), numbers[4:]


Statistics = tuple[int, np.ndarray, np.ndarray]


def test_moments_of_a_hundred_million_draws(statistics: Statistics) -> None:
    n, means, _ = statistics
    assert n >= 10**8
    # five standard errors: the variances of z to z^4 of a standard normal
    for mean, expected, variance in zip(means, (0, 1, 0, 3), (1, 2, 15, 96), strict=True):
        assert abs(mean - expected) < 5 * math.sqrt(variance / n)


def test_distribution_of_a_hundred_million_draws(statistics: Statistics) -> None:
    n, _, cells = statistics
    assert cells.sum() == n
    share = np.cumsum(cells) / n
    distance = np.abs(share - stats.norm.cdf(np.arange(1, len(cells) + 1) / 2**12 - 8)).max()
    # Kolmogorov-Smirnov at the cells' edges: a true normal exceeds this with a probability below 1e-6
    assert distance < math.sqrt(math.log(2 / 1e-6) / (2 * n))


def test_tails_of_a_hundred_million_draws(statistics: Statistics) -> None:
    n, _, cells = statistics
    edge = np.abs(np.arange(len(cells)) + 0.5 - 2**15) / 2**12  # the middle of a cell
    for beyond in (4.0, 5.0):
        expected = 2 * n * stats.norm.sf(beyond)
        assert abs(cells[edge > beyond].sum() - expected) < 5 * math.sqrt(expected)
    assert cells[edge > math.sqrt(2 * 24 * math.log(2)) + 2**-12].sum() == 0  # as far as 24 bits reach


def standard_errors(a: np.ndarray, b: np.ndarray) -> float:
    return abs(float(np.corrcoef(a.ravel(), b.ravel())[0, 1])) * math.sqrt(a.size)


@pytest.mark.parametrize("power", [1, 2], ids=["values", "squares"])
def test_neighbours_are_uncorrelated(compiled: Compiled, power: int) -> None:
    def draw(seed: int = 2026, word: int = 3 << 28, step: int = 5, patient: int = 0) -> np.ndarray:
        written = output_of(compiled("noise"), "normals", "portable", seed, word, step, patient, 2000, SIZE)
        return np.frombuffer(written, np.float32).reshape(2000, SIZE).astype(float) ** power

    z = draw()
    apart = partial(standard_errors, z)
    assert standard_errors(z[:-1], z[1:]) < 5  # patients
    for lag in (1, 2, 3, 4, 8, 16, 64):  # elements: of a pair, of a quad, of neighbouring lanes, months of two channels
        assert standard_errors(z[:, :-lag], z[:, lag:]) < 5
    assert apart(draw(seed=2027)) < 5 and apart(draw(seed=2026 + 2**32)) < 5
    assert apart(draw(step=6)) < 5
    assert apart(draw(patient=2**32)) < 5
    assert apart(draw(word=2 << 28)) < 5 and apart(draw(word=3 << 28 | 1 << 20)) < 5  # stream, retry
