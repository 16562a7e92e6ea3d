"""hg3::decode: against the codecs for every transform, codes by arg-max and by draw, and as an operator of torch."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hg3.layout import Block
from hg3.philox import Stream, stream_word
from hg3.table.block_values import _real_tables
from hg3.table.codecs import RealCodec
from hg3.table.column import LARGEST_REAL
from hg3.table.curve import fit_curve
from hg3.table.ops import KINDS, _decode_numpy, decode
from hg3.table.transforms import LAMBDA_LIMIT, Transform
from tests import oracle

SKEWED = np.random.default_rng(0).lognormal(3, 1, 2000).round(1)
CURVED = tuple(f"{kind}, curve" for kind in KINDS)
ALL = (*KINDS, *CURVED)
FREE = (-math.inf, math.inf)
STREAM = stream_word(Stream.DECODE) | 1
BOTH = pytest.mark.parametrize("implementation", [decode, _decode_numpy], ids=["operator", "numpy"])
LARGEST = float(np.finfo(np.float32).max)
EXTREMES = [0.0, -0.0, 1e-45, -1e-45, 1e-30, 0.5, -0.5, 1.0, -1.0, 30.0, -30.0, 1e6, -1e6, 1e30, LARGEST, -LARGEST]
Layout = Callable[[Tensor], Tensor]


def transform(kind: str, lmbda: float = 1.0) -> Transform:
    """Return the transform of one of ALL."""
    plain = Transform(kind.removesuffix(", curve"), lmbda)
    return replace(plain, curve=fit_curve(plain.forward(SKEWED), np.arange(2000))) if kind in CURVED else plain


def codec(kind: str, lmbda: float = 1.0, decimals: int = 2, bounds: tuple[float, float] = FREE) -> RealCodec:
    return RealCodec(transform(kind, lmbda), 0.75, 1.5, decimals, bounds)


def tables(codecs: list[RealCodec], widths: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return reals, knots and categories of the codecs' channels, then blocks of such widths."""
    reals, knots = _real_tables([Block("x", "real", c, 1) for c in range(len(codecs))], codecs)
    starts = len(codecs) + np.cumsum([0, *widths])[:-1]
    return reals, knots, torch.tensor(list(zip(starts.tolist(), widths, strict=True)), dtype=torch.int64).reshape(-1, 2)


def normals(n: int, channels: int, length: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(n, channels, length, generator=torch.Generator().manual_seed(channels))


def values_of(one: RealCodec, x: np.ndarray) -> np.ndarray:
    """Decode x, any shape, by the operator."""
    given = torch.from_numpy(x.astype(np.float32).reshape(-1, 1, 1))
    return decode(given, *tables([one], []))[0].numpy().reshape(x.shape)


def assert_agrees(actual: np.ndarray, one: RealCodec, x: np.ndarray) -> None:
    """The same numbers, but where the last bits of a mathematical function tip a tie.

    Libraries differ by up to 4 units in the last place of exp, expm1 and log1p, and of exp(log x) by |log x| as many:
    that may tip a value over to the next decimal, and where decimals are finer than floats, it is what is seen.
    """
    expected = one.decode(x.astype(np.float32))
    size = np.abs(expected)
    apart = 8 * 2.0**-52 * (size + 1) * (1 + np.abs(np.log(size + 1e-3)))
    unit = 10.0**-one.decimals
    different = np.abs(actual - expected)
    assert (different <= np.maximum(1.001 * unit, apart)).all()
    flips, likely = (different > 0).sum(), np.minimum(1.0, apart / unit).sum()
    assert flips <= likely + 5 * math.sqrt(likely) + 1


@pytest.mark.parametrize("decimals", range(-2, 10))
@pytest.mark.parametrize("kind", ALL)
def test_every_transform_is_the_codecs(kind: str, decimals: int) -> None:
    x = np.concatenate([normals(1, 1, 2000)[0, 0].numpy(), normals(1, 1, 200, 1e3)[0, 0].numpy(), EXTREMES])
    for lmbda in (0.3,) if not kind.startswith(("box-cox", "yeo-johnson")) else (-2.0, -0.3, -1e-9, 0.0, 0.3, 1.0, 2.0):
        for bounds in (FREE, (0.0, 1000.0), (-math.inf, 5000.0), (1.0, math.inf)):
            one = codec(kind, lmbda, decimals, bounds)
            assert_agrees(values_of(one, x), one, x)


@pytest.mark.parametrize("kind", ALL)
def test_ties_are_tipped_in_a_million_cells_as_seldom_as_libraries_differ(kind: str) -> None:
    x = normals(1, 1, 1_000_000, 1.0)[0, 0].numpy()
    one = codec(kind, 0.3, 3, (0.0, 1e6))
    assert_agrees(values_of(one, x), one, x)


@given(
    st.sampled_from(ALL),
    st.floats(-LAMBDA_LIMIT, LAMBDA_LIMIT),
    st.floats(-1e6, 1e6),
    st.floats(1e-9, 1e9),
    st.integers(-2, 9),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
)
def test_no_finite_number_gives_anything_but_a_number(
    kind: str, lmbda: float, center: float, scale: float, decimals: int, x: list[float]
) -> None:
    for bounds in (FREE, (0.07, 999.96)):
        if decimals < 2 and bounds != FREE:
            bounds = (0.0, 1000.0)
        one = RealCodec(transform(kind, lmbda), center, scale, decimals, bounds)
        values = values_of(one, np.array(x))
        low, high = one.value_range
        assert ((low <= values) & (values <= high)).all() and (np.abs(values) <= LARGEST_REAL).all()
        assert not np.signbit(values[values == 0]).any()
        if kind.startswith("none"):  # no mathematical function
            assert np.array_equal(values, one.decode(np.array(x, np.float32)))


@pytest.mark.parametrize(
    ("decimals", "x", "expected"),
    [
        (0, [0.5, 1.5, 2.5, -0.5, -1.5, 0.25], [0, 2, 2, 0, -2, 0]),
        (1, [0.25, 0.75, -0.25], [0.2, 0.8, -0.2]),
        (-1, [5.0, 15.0, 25.0, -5.0], [0, 20, 20, 0]),
        (-2, [150.0, 250.0, 49.0], [200, 200, 0]),
        (9, [0.5], [0.5]),
    ],
)
@BOTH
def test_ties_go_to_even_and_nothing_to_minus_zero(
    implementation: Callable[..., tuple[Tensor, Tensor]], decimals: int, x: list[float], expected: list[float]
) -> None:
    plain = RealCodec(Transform("none"), 0.0, 1.0, decimals, FREE)
    values = implementation(torch.tensor(x).reshape(-1, 1, 1), *tables([plain], []))[0].flatten()
    assert values.tolist() == expected
    assert not torch.signbit(values[values == 0]).any()


def test_rounding_at_a_bound_goes_inward() -> None:
    plain = RealCodec(Transform("none"), 0.0, 1.0, 1, (0.07, 9.96))
    assert values_of(plain, np.array([-5.0, 0.07, 9.96, 50.0])).tolist() == [0.1, 0.1, 9.9, 9.9]


@BOTH
@pytest.mark.parametrize("width", [1, 2, 7, 256, 300])
def test_the_first_of_the_largest_codes_is_taken(
    implementation: Callable[..., tuple[Tensor, Tensor]], width: int
) -> None:
    x = torch.randint(-1, 2, (40, width, 9), generator=torch.Generator().manual_seed(0)).float()
    _, codes = implementation(x, *tables([], [width]), wide=width > 256)
    assert codes.dtype == (torch.int32 if width > 256 else torch.uint8)
    assert np.array_equal(codes[0], x.numpy().argmax(axis=1))
    rising = torch.arange(width).float()[None, :, None].expand(2, width, 3)
    assert (implementation(rising, *tables([], [width]), wide=width > 256)[1] == width - 1).all()


@BOTH
def test_what_is_not_a_number_stays_none_and_has_no_code_of_its_own(
    implementation: Callable[..., tuple[Tensor, Tensor]],
) -> None:
    x = normals(4, 8, 5)
    x[1, 0] = x[2, 5, 3] = math.nan
    values, codes = implementation(x, *tables([codec(kind) for kind in KINDS], [3]))
    assert values[0, 1].isnan().all() and values.isnan().sum() == 5
    assert np.array_equal(codes[0], x[:, 4:7].numpy().argmax(axis=1)) and codes[0, 2, 3] == 1


@BOTH
def test_a_curve_is_what_the_oracle_draws(implementation: Callable[..., tuple[Tensor, Tensor]]) -> None:
    knots, scores = [-4.0, -1.0, 0.5, 0.75, 9.0], [-2.0, -1.5, 0.0, 1.0, 2.0]
    x = torch.tensor([-1e4, -7.0, -2.0, -1.75, -1.5, -0.5, 0.0, 0.125, 0.5, 1.0, 1.5, 2.0, 2.5, 30.0, 1e4])
    reals = torch.tensor([[0, 0, 0.5, 2.0, 1.0, 6, -1e30, 1e30, 1, 5], [0, 1, 0.5, 2.0, 1.0, 6, -1e30, 1e30, 1, 5]])
    table = torch.tensor([[0.0, *knots], [0.0, *scores]], dtype=torch.float64)
    plain, log = implementation(x[None, None], reals.double(), table, torch.zeros(0, 2, dtype=torch.int64))[0][:, 0]
    y = [oracle.on_line(0.5 + 2.0 * float(one), scores, knots) for one in x]
    assert plain.tolist() == pytest.approx(y, abs=1e-6)
    assert log.tolist() == pytest.approx([math.expm1(min(max(one, 0.0), 69.0775527898)) for one in y], rel=1e-6)


# draws


def draws(probabilities: list[float], n: int, length: int, seed: int = 11, stream: int = STREAM) -> Tensor:
    """Draw n patients' codes of one block of such probabilities, which stands behind another channel."""
    x = torch.tensor([0.0, *(2 * p - 1 for p in probabilities)])[None, :, None].expand(n, -1, length)
    categories = torch.tensor([[1, len(probabilities)]])
    reals, knots, _ = tables([], [])
    return decode(x, reals, knots, categories, torch.arange(n), seed, stream)[1][0]


@BOTH
@pytest.mark.parametrize("length", [1, 4, 6])
def test_draws_match_the_oracle(implementation: Callable[..., tuple[Tensor, Tensor]], length: int) -> None:
    patient = torch.tensor([0, 5, 2**32 - 1, 2**32 + 9, 2**40])
    x = normals(5, 1 + 3 + 2, length, 0.7)
    x[2, 1:4] = -1.5  # no code has a probability: the most probable one
    x[3, 1:4] = torch.tensor([-1.0, 1.0, -1.0])[:, None]
    one = codec("none")
    codes = implementation(x, *tables([one], [3, 2]), patient, -12345, STREAM)[1]
    for row, (start, width) in enumerate([(1, 3), (4, 2)]):
        for n, time in np.ndindex(5, length):
            element = start * math.ceil(length / 4) * 4 + time
            word = oracle.word(-12345, int(patient[n]), int(Stream.DECODE), 0, 1, element)
            block = x[n, start : start + width, time].double().tolist()
            assert codes[row, n, time] == oracle.drawn_code(block, word)
    assert (codes[0, 2] == 0).all() and (codes[0, 3] == 1).all()


@pytest.mark.parametrize("probabilities", [[0.5, 0.5], [0.7, 0.0, 0.3], [0.01, 0.09, 0.9], [0.125] * 8])
def test_draws_are_as_frequent_as_probable(probabilities: list[float]) -> None:
    n = 400_000
    counts = np.bincount(draws(probabilities, n // 40, 40).flatten().numpy(), minlength=len(probabilities))
    expected = n * np.array(probabilities)
    assert (counts[expected == 0] == 0).all()
    there = expected > 0
    chi_square = ((counts - expected)[there] ** 2 / expected[there]).sum()
    freedom = there.sum() - 1
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom)


def test_neighbouring_draws_are_independent() -> None:
    drawn = draws([0.5, 0.5], 10_000, 40).double() - 0.5
    for other in (drawn.roll(1, 0), drawn.roll(1, 1), draws([0.5, 0.5], 10_000, 40, seed=12).double() - 0.5):
        assert abs(4 * (drawn * other).mean()) < 5 / math.sqrt(drawn.numel())
    static = draws([0.5, 0.5], 10_000, 40, stream=stream_word(Stream.DECODE)).double() - 0.5
    assert abs(4 * (drawn * static).mean()) < 5 / math.sqrt(drawn.numel())


def test_a_patient_alone_draws_what_it_draws_in_a_batch() -> None:
    arguments, patient = tables([codec("log1p")], [4, 2]), torch.arange(100, 109)
    x = normals(9, 7, 11, 0.8)
    together = decode(x, *arguments, patient, 3, STREAM)
    for part in (slice(0, 1), slice(3, 9), slice(8, 9)):
        alone = decode(x[part], *arguments, patient[part], 3, STREAM)
        assert all(torch.equal(one, whole[:, part]) for one, whole in zip(alone, together, strict=True))


# as an operator


def dense(x: Tensor) -> Tensor:
    return x


def permuted(x: Tensor) -> Tensor:
    """Channels last, as a network may leave them."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def patients_last(x: Tensor) -> Tensor:
    return x.permute(1, 2, 0).contiguous().permute(2, 0, 1)


def sliced(x: Tensor) -> Tensor:
    """A view with holes in memory, like months cut off a pad."""
    return torch.nn.functional.pad(x, (0, 3))[:, :, : x.shape[2]]


def every_other(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=2)[:, :, ::2]


LAYOUTS = pytest.mark.parametrize("layout", [dense, permuted, patients_last, sliced, every_other])
MANY = tables([codec(kind, 0.3) for kind in (*KINDS, "box-cox, curve")], [3, 2])
PATIENT = torch.tensor([7, 2**32 + 5, 2**40])


@LAYOUTS
@pytest.mark.parametrize("patient", [None, PATIENT], ids=["argmax", "draw"])
def test_memory_layouts_change_nothing(layout: Layout, patient: Tensor | None) -> None:
    x = normals(3, 10, 6)
    before = x.clone()
    values, codes = decode(layout(x), *MANY, patient, 5, STREAM)
    expected = decode(before, *MANY, patient, 5, STREAM)
    assert torch.equal(values, expected[0]) and torch.equal(codes, expected[1])
    assert torch.equal(x, before)
    assert values.is_contiguous() and codes.is_contiguous()
    assert (values.dtype, values.shape, codes.shape) == (torch.float64, (5, 3, 6), (2, 3, 6))


@LAYOUTS
@pytest.mark.parametrize("patient", [None, PATIENT], ids=["argmax", "draw"])
def test_both_implementations_agree(layout: Layout, patient: Tensor | None) -> None:
    x = layout(normals(3, 10, 6))
    actual, expected = decode(x, *MANY, patient, 5, STREAM), _decode_numpy(x, *MANY, patient, 5, STREAM)
    apart = actual[0] != expected[0]  # another libm may round one of the 90 cells to the next of its two decimals
    assert int(apart.sum()) <= 1
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-13, atol=0.01001)
    assert torch.equal(actual[1], expected[1])


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("patient", [None, torch.arange(3001)], ids=["argmax", "draw"])
def test_threads_change_no_bit(patient: Tensor | None) -> None:
    x, results = normals(3001, 10, 13), []
    for number in (1, 2, 3):
        with threads(number):
            results.append(decode(x, *MANY, patient, 5, STREAM))
    assert all(torch.equal(one[part], results[0][part]) for one in results for part in (0, 1))


@BOTH
@pytest.mark.parametrize(("n", "length"), [(0, 6), (3, 0), (0, 0)])
def test_nothing_in_nothing_out(implementation: Callable[..., tuple[Tensor, Tensor]], n: int, length: int) -> None:
    values, codes = implementation(torch.zeros(n, 10, length), *MANY, torch.arange(n), 5, STREAM)
    assert values.shape == (5, n, length) and codes.shape == (2, n, length)
    values, codes = implementation(torch.zeros(n, 0, length), *tables([], []))
    assert values.shape == codes.shape == (0, n, length)


def spoiled(position: int, wrong: Tensor) -> list[Tensor]:
    arguments = [normals(3, 10, 6), *(table.clone() for table in MANY), PATIENT]
    arguments[position] = wrong
    return arguments


def with_entry(table: Tensor, row: int, entry: int, value: float) -> Tensor:
    changed = table.clone()
    changed[row, entry] = value
    return changed


REALS, KNOTS, CATEGORIES = MANY
ERRORS = [
    (0, torch.zeros(3, 10), "x has shape (3, 10), expected (N, C, L)"),
    (0, torch.zeros(3, 10, 6, dtype=torch.float64), "x is torch.float64, expected torch.float32"),
    (1, REALS[:, :9], "reals has shape (5, 9), expected (5, 10)"),
    (1, REALS.float(), "reals is torch.float32, expected torch.float64"),
    (2, KNOTS[:1], f"knots has shape (1, {KNOTS.shape[1]}), expected (2, {KNOTS.shape[1]})"),
    (3, CATEGORIES[:, :1], "categories has shape (2, 1), expected (2, 2)"),
    (3, CATEGORIES.int(), "categories is torch.int32, expected torch.int64"),
    (4, PATIENT[:2], "patient has shape (2,), expected (3,)"),
    (4, PATIENT.int(), "patient is torch.int32, expected torch.int64"),
    (1, with_entry(REALS, 0, 0, 10.0), "reals row 0 has channel 10, kind 0 and 0 knots from 0 on, expected a channel"),
    (1, with_entry(REALS, 1, 1, 4.0), "reals row 1 has channel 1, kind 4 and 0 knots from 0 on, expected a channel"),
    (1, with_entry(REALS, 4, 9, 1.0), "kind 2 and 1 knots from 0 on, expected a channel below 10, a kind from 0 to 3"),
    (1, with_entry(REALS, 4, 8, 9.0), f"none, or two or more, of the {KNOTS.shape[1]} knots"),
    (3, torch.tensor([[5, 3], [8, 3]]), "categories row 1 is (8, 3), expected a block inside the 10 channels"),
    (3, torch.tensor([[2**63 - 1, 1]]), "categories row 0 is (9223372036854775807, 1), expected a block inside"),
    (3, torch.tensor([[2**62, 2**62]]), "expected a block inside the 10 channels"),
    (1, with_entry(REALS, 4, 8, 2.0**31 - 1), "two or more, of the"),
    (1, with_entry(REALS, 0, 9, -1.0), "kind 0 and -1 knots from 0 on"),
    (1, with_entry(REALS, 0, 9, 2.0**20), "kind 0 and"),
    (3, torch.tensor([[5, 0]]), "categories row 0 is (5, 0), expected a block inside the 10 channels"),
]


@BOTH
@pytest.mark.parametrize(("position", "wrong", "sentence"), ERRORS, ids=[sentence for _, _, sentence in ERRORS])
def test_wrong_arguments_are_named(
    implementation: Callable[..., tuple[Tensor, Tensor]], position: int, wrong: Tensor, sentence: str
) -> None:
    with pytest.raises(ValueError) as caught:
        implementation(*spoiled(position, wrong))
    assert str(caught.value).startswith("hg3::decode: ") and sentence in str(caught.value)


@BOTH
def test_more_codes_than_a_byte_holds_want_wide_codes(implementation: Callable[..., tuple[Tensor, Tensor]]) -> None:
    with pytest.raises(ValueError, match="categories row 0 has 257 codes, expected at most 256; ask for wide codes"):
        implementation(torch.zeros(1, 257, 1), *tables([], [257]))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of opcheck's own
@LAYOUTS
@pytest.mark.parametrize("patient", [None, PATIENT], ids=["argmax", "draw"])
@pytest.mark.parametrize("wide", [False, True], ids=["bytes", "wide"])
def test_opcheck(layout: Layout, patient: Tensor | None, wide: bool) -> None:
    arguments = (layout(normals(3, 10, 6)), *MANY, patient, 5, STREAM, wide)
    torch.library.opcheck(torch.ops.hg3.decode.default, arguments)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_opcheck_of_nothing() -> None:
    torch.library.opcheck(torch.ops.hg3.decode.default, (torch.zeros(0, 10, 6), *MANY))


def test_compiled_is_eager() -> None:
    torch.compiler.reset()
    compiled = torch.compile(lambda x: decode(2 * x, *MANY), fullgraph=True, backend="aot_eager")
    x = normals(3, 10, 6)
    for actual, expected in zip(compiled(x), decode(2 * x, *MANY), strict=True):
        assert torch.equal(actual, expected)
