"""reverse_step, whole, in every implementation: against the oracle over heads, rows, types and memory layouts."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hg3.diffusion.heads import HEADS
from hg3.sampling.ops import reverse_step, reverse_step_
from hg3.sampling.solvers import HISTORY, SOLVERS
from tests.sampling.implementations import (
    COMPILED,
    EVERY,
    FREE,
    LAYOUT,
    LOGITS,
    MAKES,
    N_STEPS,
    PER_PATIENT,
    TORCH,
    X_0,
    Arguments,
    Implementation,
    Make,
    V,
    arguments,
    assert_agrees,
    dense,
    permuted,
    repeated,
)

pytestmark = EVERY
TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize(("solver", "step"), [("ancestral", 0), ("ancestral", 6), ("dpm++", 6), ("dpm++", 11)])
def test_memory_layouts_match_the_oracle(how: Implementation, make: Make, solver: str, step: int) -> None:
    assert_agrees(how, arguments(make, solver=solver, step=step))


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_row_of_every_solver_matches_the_oracle(how: Implementation, solver: str) -> None:
    for step in range(N_STEPS):
        assert_agrees(how, arguments(solver=solver, step=step, n_patients=2, length=3))


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_with_noise_matches_the_oracle(how: Implementation, eta: float) -> None:
    for step in (0, 5, N_STEPS - 1):
        assert_agrees(how, arguments(solver="ddim", eta=eta, step=step))


@TYPES
@pytest.mark.parametrize("make", [dense, permuted])
@pytest.mark.parametrize("solver", ["ancestral", "dpm++"])
def test_types_match_the_oracle(how: Implementation, make: Make, solver: str, dtype: torch.dtype) -> None:
    assert_agrees(how, arguments(make, dtype, solver))


@TYPES
@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("length", [8, 11, 17])
def test_tiles_match_the_oracle(how: Implementation, make: Make, length: int, dtype: torch.dtype) -> None:
    """18 channels and 8 months or more: whole tiles of 8 x 8, and last ones that overlap their neighbours."""
    assert_agrees(how, arguments(make, dtype, "sde-dpm++", n_patients=2, length=length, layout=repeated(LAYOUT, 2)))


@pytest.mark.parametrize("length", [1, 3, 4, 5, 17])
def test_lengths_match_the_oracle(how: Implementation, length: int) -> None:
    assert_agrees(how, arguments(solver="ancestral", length=length))


@pytest.mark.parametrize("head", ["eps", "v", "x_0"])
def test_one_head_for_everything_matches_the_oracle(how: Implementation, head: str) -> None:
    assert_agrees(how, arguments(solver="ancestral", layout=[(HEADS.index(head), c, 1) for c in range(9)]))


@pytest.mark.parametrize("width", [1, 2, 9, 40])
def test_one_block_for_everything_matches_the_oracle(how: Implementation, width: int) -> None:
    assert_agrees(how, arguments(permuted, layout=[(LOGITS, 0, width)] * width, length=9))


@st.composite
def layouts(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    layout: list[tuple[int, int, int]] = []
    for head in draw(st.lists(st.sampled_from(range(4)), max_size=5)):
        width = draw(st.integers(1, 5)) if head == LOGITS else 1
        layout += [(head, len(layout), width)] * width
    return layout


@settings(max_examples=40)
@given(
    layout=layouts(),
    make=st.sampled_from(MAKES),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    solver=st.sampled_from(sorted(SOLVERS)),
    step=st.integers(0, N_STEPS - 1),
    n_patients=st.integers(0, 3),
    length=st.integers(0, 19),
)
def test_random_shapes_match_the_oracle(how: Implementation, **wishes: Any) -> None:
    assert_agrees(how, arguments(**wishes))


# Extreme values.


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1e4, 1e30])
@pytest.mark.parametrize("make", [dense, permuted])
def test_raw_values_of_any_size_match_the_oracle(how: Implementation, make: Make, scale: float) -> None:
    """Of a size at which nothing else counts: clamped, or free and then right relative to themselves."""
    args = arguments(make, solver="sde-dpm++", length=9)
    args[1].mul_(scale)
    assert_agrees(how, args)


@pytest.mark.parametrize(
    "logits",
    [
        [0.0, 0.0, 0.0],
        [1e30, 0.0, -1e30],
        [3e38, -3e38, -3e38],
        [3e38, 3e38, 1e38],
        [-86.0, -87.5, 0.0],
        [-500.0, -500.0, -501.0],
        [1e-42, -1e-42, 0.0],
        [16_777_216.0, 16_777_215.0, 0.0],
    ],
    ids=str,
)
def test_logits_of_any_size_match_the_oracle(how: Implementation, logits: list[float]) -> None:
    args = arguments(layout=[(LOGITS, 0, 3)] * 3, length=9)
    args[1].copy_(torch.tensor(logits)[None, :, None])
    assert_agrees(how, args)
    x_0_hat = how.step(*args)[1]
    assert (x_0_hat >= -1).all() and (x_0_hat <= 1).all()  # the simplex holds to the last bit
    torch.testing.assert_close(x_0_hat.sum(dim=1), torch.full((3, 9), -1.0), rtol=0, atol=5e-7)


def test_free_values_pass_an_x_0_head_to_the_bit(how: Implementation) -> None:
    args = arguments(layout=[(X_0, c, 1) for c in range(9)])
    args[6].copy_(torch.tensor(FREE))
    args[1][:, :, :6] = torch.tensor([1e-45, -1e-42, 3.4e38, 1e-38, 0.1, -3.4e38])
    assert torch.equal(how.step(*args)[1].view(torch.int32), args[1].view(torch.int32))  # no denormal is lost


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("make", [dense, permuted])
@TYPES
def test_what_is_not_finite_is_counted_and_does_not_spread(
    how: Implementation, make: Make, dtype: torch.dtype, bad: float
) -> None:
    args = arguments(make, dtype, solver="ancestral", length=9)
    args[1][1, [0, 2, 4, 6], 3] = bad
    args[1][2, [1, 2, 3], 8] = bad
    assert_agrees(how, args)
    x_s, _, _, nonfinite = how.step(*args)
    assert nonfinite.tolist() == [0, 4, 3]
    assert torch.isfinite(x_s).all()


def test_a_half_that_overflows_is_counted(how: Implementation) -> None:
    args = list(arguments(length=9))
    args[1] = torch.where(torch.arange(9) == 4, 1e5, args[1]).half()  # beyond 65,504
    assert how.step(*args)[3].tolist() == [9, 9, 9]


def test_the_guardrail_is_counted_per_patient(how: Implementation) -> None:
    args = arguments(layout=[(X_0, 0, 1)])  # bounds -0.75 and 0.5
    args[1].copy_(torch.tensor([[-1.0, -0.75, 0, 0.5, 0.51, 9], [0] * 6, [-9] * 6])[:, None])
    _, x_0_hat, moved, _ = how.step(*args)
    assert moved.tolist() == [3, 0, 6]
    assert x_0_hat[0, 0].tolist() == [-0.75, -0.75, 0, 0.5, 0.5, 0.5]


# Rows: history, noise and the last step.


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_last_step_returns_x_0_hat_to_the_bit(how: Implementation, solver: str) -> None:
    x_s, x_0_hat, _, _ = how.step(*arguments(solver=solver, step=N_STEPS - 1))
    assert torch.equal(x_s, x_0_hat)  # so that a release stays inside its bounds


@pytest.mark.parametrize(("solver", "step"), [("ancestral", 0), ("ancestral", 6), ("dpm++", N_STEPS - 1)])
def test_without_the_history_flag_the_past_is_not_read(how: Implementation, solver: str, step: int) -> None:
    args = arguments(solver=solver, step=step)
    assert args[3][step, HISTORY] == 0
    expected = how.step(*args)
    args[2].fill_(math.nan)
    assert_same(how.step(*args), expected)


def test_with_the_history_flag_it_is(how: Implementation) -> None:
    args = arguments(step=6)
    expected = how.step(*args)[0]
    args[2].add_(1.0)
    weight = args[3][6, 4]
    torch.testing.assert_close(how.step(*args)[0], expected + weight, rtol=1e-5, atol=1e-5)
    assert weight < -0.01


def test_the_step_tensor_picks_the_row_and_the_noise(how: Implementation) -> None:
    step = torch.tensor(0)
    args = (*arguments(solver="ancestral")[:4], step, *arguments(solver="ancestral")[5:])
    seen = []
    for number in (3, 7, 3):
        step.fill_(number)
        assert_agrees(how, args)
        seen.append(how.step(*args)[0])
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])
    same_rows = list(args)
    same_rows[3] = args[3][3].expand(N_STEPS, 7).contiguous()
    step.fill_(7)
    noise_apart = (how.step(*same_rows)[0] - seen[0]) / args[3][3, 5]
    assert noise_apart.std().item() == pytest.approx(math.sqrt(2), rel=0.2)  # 162 differences of two normals


# In place, and what is left alone.


@pytest.mark.parametrize("solver", ["ancestral", "dpm++", "sde-dpm++"])
@pytest.mark.parametrize("make", [dense, permuted])
@pytest.mark.parametrize("step", [0, 6, N_STEPS - 1])
def test_in_place_is_the_functional_form(how: Implementation, make: Make, solver: str, step: int) -> None:
    x_t, raw, x_0_prev, *rest = arguments(make, solver=solver, step=step, length=9)
    x, x_0 = x_t.contiguous(), x_0_prev.contiguous()
    x_s, x_0_hat, *counts = how.step(x, raw, x_0, *rest)
    kept = x_0_hat if rest[0][step, HISTORY] > 0 else x_0.clone()
    assert_same(how.in_place(x, raw, x_0, *rest), counts)
    assert_same((x, x_0), (x_s, kept))


def test_in_place_without_history_x_0_may_hold_anything(how: Implementation) -> None:
    x, raw, x_0, *rest = arguments(solver="ancestral")
    x_0.fill_(math.nan)
    how.in_place(x, raw, x_0, *rest)
    assert torch.isnan(x_0).all() and torch.isfinite(x).all()


def test_inputs_are_left_as_they_were(how: Implementation) -> None:
    args = arguments(solver="sde-dpm++")
    before = [part.clone() for part in args]
    how.step(*args)
    assert_same(args, before)


@pytest.mark.parametrize(
    ("n_patients", "layout", "length"),
    [(0, LAYOUT, 6), (3, [], 6), (3, LAYOUT, 0), (0, [], 0)],
    ids=["no patients", "no channels", "no months", "nothing"],
)
def test_nothing_in_nothing_out(
    how: Implementation, n_patients: int, layout: list[tuple[int, int, int]], length: int
) -> None:
    args = arguments(solver="ancestral", n_patients=n_patients, layout=layout, length=length)
    x_s, x_0_hat, moved, nonfinite = how.step(*args)
    assert x_s.shape == x_0_hat.shape == (n_patients, len(layout), length)
    assert moved.tolist() == nonfinite.tolist() == [0] * n_patients
    assert [counts.tolist() for counts in how.in_place(*args)] == [[0] * n_patients] * 2


def test_the_functions_are_the_operators(how: Implementation) -> None:
    args = arguments(solver="sde-dpm++")
    if how is COMPILED:  # the one that hg3:: has, where it was built
        assert_same(reverse_step(*args), how.step(*args))
        assert_same(reverse_step_(*args), how.in_place(*arguments(solver="sde-dpm++")))
    for part, expected in zip(reverse_step(*args), how.step(*args), strict=True):
        torch.testing.assert_close(part, expected, rtol=2e-6, atol=1e-5)


# The same bits, however the work is cut.


def assert_same(parts: tuple[Tensor, ...] | list[Tensor], expected: tuple[Tensor, ...] | list[Tensor]) -> None:
    for part, wanted in zip(parts, expected, strict=True):
        torch.testing.assert_close(part, wanted, rtol=0, atol=0, equal_nan=True)


def of_patients(args: Arguments, chosen: slice) -> Arguments:
    return tuple(part[chosen] if i in PER_PATIENT else part for i, part in enumerate(args))


@pytest.mark.parametrize("make", [dense, permuted])
def test_a_batch_may_be_cut_anywhere(how: Implementation, make: Make) -> None:
    args = arguments(make, solver="sde-dpm++", n_patients=5, length=11)
    together = how.step(*args)
    for cut in range(1, 5):
        first, second = (how.step(*of_patients(args, part)) for part in (slice(cut), slice(cut, None)))
        assert_same([torch.cat(parts) for parts in zip(first, second, strict=True)], together)


@pytest.mark.parametrize("make", [dense, permuted])
def test_threads_do_not_change_a_bit(how: Implementation, make: Make) -> None:
    """Patients enough for several tasks of the compiled one."""
    layout, before = repeated(LAYOUT, 2), torch.get_num_threads()
    args = list(arguments(make, solver="sde-dpm++", n_patients=5, length=64, layout=layout))
    for i in PER_PATIENT:
        args[i] = torch.cat([args[i]] * 24)  # 120 patients, 138,240 entries
    args[8] = torch.arange(120)
    answers = []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            answers.append(how.step(*args))
    finally:
        torch.set_num_threads(before)
    assert_same(*answers)


@pytest.mark.parametrize("make", [dense, permuted])
def test_the_first_months_are_the_same_in_a_longer_record(how: Implementation, make: Make) -> None:
    """5 months and 8 take 8 words a channel; 5 pass through the tail of a vector loop and 8 through its body."""
    whole = arguments(make, solver="sde-dpm++", length=8)
    expected = how.step(*whole)
    for length in (5, 6, 7):
        args = tuple(part[:, :, :length] if i < 3 else part for i, part in enumerate(whole))
        assert_same(how.step(*args)[:2], [part[:, :, :length] for part in expected[:2]])


@pytest.mark.parametrize("make", MAKES)
def test_memory_layouts_do_not_change_a_bit(how: Implementation, make: Make) -> None:
    if how is TORCH:
        pytest.skip("torch adds a block's weights in an order that follows the memory")
    args = arguments(make, solver="sde-dpm++", length=17, layout=repeated(LAYOUT, 2))
    plain = [part.contiguous() for part in args]
    assert_same(how.step(*args), how.step(*plain))


def test_noise_is_that_of_torch(how: Implementation) -> None:
    """Where the row is pure noise, x_s is torch's `normal` to a few units of the last place."""
    args = list(arguments(layout=[(V, c, 1) for c in range(22)], length=64))
    args[3] = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]]).expand(N_STEPS, 7)
    expected = TORCH.step(*args)[0]
    torch.testing.assert_close(how.step(*args)[0], expected, rtol=4 * 2**-23, atol=1e-15)
