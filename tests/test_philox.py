"""Noise as a function: the published integers, no word drawn twice, and normals that are normal."""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import hg3.philox as module
from hg3.philox import LOW_32, Stream, normal, philox, stream_word, words
from tests import oracle

FULL = 0xFFFFFFFF
KNOWN_ANSWERS = [  # Random123 (Salmon et al. 2011), kat_vectors, philox4x32 10: counter, key, words
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def integers(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def drawn(
    draw: Callable[..., Tensor],
    n_channels: int,
    length: int,
    seed: int = 3,
    patients: range | list[int] = range(4),
    stream: Stream = Stream.STEP_DYNAMIC,
    retry: int = 0,
    step: int = 0,
) -> Tensor:
    patient = torch.tensor(list(patients), dtype=torch.int64)
    stream_words = torch.full_like(patient, stream_word(stream, retry))
    return draw(torch.tensor(seed), patient, stream_words, torch.tensor(step), n_channels, length)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS, ids=["zeros", "ones", "pi"])
def test_the_published_answers(counter: str, key: str, answer: str) -> None:
    c0, c1, c2, c3 = (torch.tensor(w) for w in integers(counter))
    k0, k1 = (torch.tensor(w) for w in integers(key))
    assert [int(w) for w in philox((c0, c1, c2, c3), (k0, k1))] == integers(answer)
    assert oracle.philox_block(integers(counter), integers(key)) == integers(answer)


Choice = tuple[Stream, int, int]


@pytest.mark.parametrize("seed", [0, 1, -1, 2**32, 2**63 - 1, -(2**63), 0x0123456789ABCDEF])
@pytest.mark.parametrize(
    "choice",
    [(Stream.INITIAL_STATIC, 0, 0), (Stream.DECODE, 255, 2**20 - 1), (Stream.STEP_DYNAMIC, 3, 499)],
)
def test_words_and_normals_match_the_oracle(seed: int, choice: Choice) -> None:
    stream, retry, step = choice
    patients = [0, 1, 2**32 - 1, 2**32, 2**40 + 17]
    actual_words = drawn(words, 2, 5, seed, patients, stream, retry, step)
    actual_normals = drawn(normal, 2, 5, seed, patients, stream, retry, step)
    assert actual_words.shape == (5, 2, 8) and actual_normals.shape == (5, 2, 5)
    assert actual_normals.dtype == torch.float32
    for row, patient in enumerate(patients):
        expected = [oracle.word(seed, patient, stream, retry, step, e) for e in range(16)]
        assert actual_words[row].flatten().tolist() == expected
        slowly = oracle.normals(seed, patient, stream, retry, step, 2, 5)
        # one rounding to float32, after roundings in float64 of angles up to 2 pi
        np.testing.assert_allclose(actual_normals[row].numpy(), slowly, rtol=2**-23, atol=1e-14)


def test_random_draws_match_the_oracle() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        seed, patient = (int(n) for n in random.integers(-(2**63), 2**63 - 1, size=2))
        stream, retry, step = (
            Stream(int(random.integers(5))),
            int(random.integers(256)),
            int(random.integers(2**20)),
        )
        actual = drawn(words, 1, 4, seed=seed, patients=[patient % 2**62], stream=stream, retry=retry, step=step)
        expected = [oracle.word(seed, patient % 2**62, stream, retry, step, e) for e in range(4)]
        assert actual.flatten().tolist() == expected


def test_no_two_draws_share_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    counters: list[tuple[int, ...]] = []

    def recorded(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        parts = torch.broadcast_tensors(*counter)
        counters.extend(zip(*(part.flatten().tolist() for part in parts), strict=True))
        return parts

    monkeypatch.setattr(module, "philox", recorded)
    patients = [0, 1, 2**20, 2**28, 2**32 - 1, 2**32, 2**32 + 1, 2**40]
    for stream, retry, step in itertools.product(Stream, [0, 1, 254, 255], [0, 1, 255, 2**20 - 1]):
        drawn(words, 3, 5, patients=patients, stream=stream, retry=retry, step=step)
    n_blocks = len(Stream) * 4 * 4 * len(patients) * 3 * 2  # 3 channels, 5 months: 2 blocks of 4 words each
    assert len(counters) == n_blocks
    assert len(set(counters)) == n_blocks
    assert all(0 <= part <= LOW_32 for counter in counters for part in counter)


@pytest.mark.parametrize("retry", [-1, 256])
def test_a_retry_that_would_run_into_another_stream_is_refused(retry: int) -> None:
    with pytest.raises(ValueError, match=f"retry is {retry}; the counter holds 0 to 255"):
        stream_word(Stream.INITIAL_STATIC, retry)


def test_an_element_is_where_it_is_whatever_the_length() -> None:
    # 5 and 8 months take 8 words a channel each: the first five are the same draws
    assert torch.equal(drawn(normal, 3, 5), drawn(normal, 3, 8)[:, :, :5])
    assert torch.equal(drawn(normal, 2, 8), drawn(normal, 3, 8)[:, :2])


@pytest.mark.parametrize(("n_patients", "n_channels", "length"), [(0, 3, 5), (2, 0, 5), (2, 3, 1)])
def test_shapes_at_the_edge(n_patients: int, n_channels: int, length: int) -> None:
    assert drawn(normal, n_channels, length, patients=range(n_patients)).shape == (
        n_patients,
        n_channels,
        length,
    )


def test_a_patient_is_the_same_in_any_company() -> None:
    batch = drawn(normal, 6, 61, patients=range(300))
    assert torch.equal(drawn(normal, 6, 61, patients=[7])[0], batch[7])
    assert torch.equal(drawn(normal, 6, 61, patients=[299, 7, 12])[1], batch[7])


@pytest.fixture
def n_threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("n_threads_restored")
def test_threads_do_not_change_a_bit() -> None:
    answers = []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        answers.append(drawn(normal, 7, 61, patients=range(501)))
    assert torch.equal(*answers)


@pytest.fixture(scope="module")
def many() -> np.ndarray:
    """2,000 patients, 16 channels, 64 months: 2,048,000 draws."""
    return drawn(normal, 16, 64, seed=2026, patients=range(2000)).double().numpy()


def test_moments_are_those_of_a_standard_normal(many: np.ndarray) -> None:
    z, n = many.ravel(), many.size
    # five standard errors each: of the k-th moment's estimate, sqrt(Var[z^k] / n)
    assert abs(z.mean()) < 5 * math.sqrt(1 / n)
    assert abs((z**2).mean() - 1) < 5 * math.sqrt(2 / n)
    assert abs((z**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / n)


def test_the_distribution_is_normal(many: np.ndarray) -> None:
    # Kolmogorov-Smirnov: a true normal exceeds sqrt(log(2 / p) / (2 n)) with probability p = 1e-6
    limit = math.sqrt(math.log(2 / 1e-6) / (2 * many.size))
    assert stats.kstest(many.ravel(), "norm").statistic < limit


def test_tails_reach_as_far_as_24_bits_allow(many: np.ndarray) -> None:
    assert np.abs(many).max() <= math.sqrt(2 * 24 * math.log(2))
    expected = many.size * 2 * stats.norm.sf(4)  # 130 draws beyond 4
    assert abs((np.abs(many) > 4).sum() - expected) < 5 * math.sqrt(expected)


def correlation_in_standard_errors(a: np.ndarray, b: np.ndarray) -> float:
    return abs(float(np.corrcoef(a.ravel(), b.ravel())[0, 1])) * math.sqrt(a.size)


@pytest.mark.parametrize("power", [1, 2], ids=["values", "squares"])
def test_neighbours_are_uncorrelated(many: np.ndarray, power: int) -> None:
    z = many**power
    assert correlation_in_standard_errors(z[:-1], z[1:]) < 5  # patients
    assert correlation_in_standard_errors(z[:, :-1], z[:, 1:]) < 5  # channels
    for lag in (1, 2, 3, 4):  # months: of one pair of Box and Muller, of one block, of two
        assert correlation_in_standard_errors(z[:, :, :-lag], z[:, :, lag:]) < 5
    assert correlation_in_standard_errors(z[:, :, 0::2], z[:, :, 1::2]) < 5


@pytest.mark.parametrize(
    "change",
    [{"seed": 2027}, {"seed": 2026 + 2**32}, {"step": 1}, {"retry": 1}, {"stream": Stream.STEP_STATIC}],
    ids=str,
)
def test_other_draws_are_uncorrelated(many: np.ndarray, change: dict[str, int]) -> None:
    settings = {"seed": 2026, "patients": range(500)} | change
    other = drawn(normal, 16, 64, **settings).double().numpy()  # type: ignore[arg-type]
    assert correlation_in_standard_errors(many[:500], other) < 5
    assert correlation_in_standard_errors(many[:500] ** 2, other**2) < 5
