"""reverse_step, whole: against the oracle over heads, rows, types and memory layouts, and as an operator of torch."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from hg3.diffusion.heads import HEADS
from hg3.diffusion.schedule import cosine_schedule
from hg3.philox import Stream, stream_word
from hg3.sampling.ops import reverse_step
from hg3.sampling.solvers import HISTORY, sampler_table
from tests import oracle

SCHEDULE = cosine_schedule(100)
N_STEPS = 12
# heads of every kind beside one another: a block of three codes and one of two, with and without bounds
EPS, V, X_0, LOGITS = (HEADS.index(head) for head in ("eps", "v", "x_0", "logits"))
LAYOUT = [(V, 0, 1), *[(LOGITS, 1, 3)] * 3, (EPS, 4, 1), (X_0, 5, 1)]
LAYOUT += [(V, 6, 1), *[(LOGITS, 7, 2)] * 2]
FREE = (-math.inf, math.inf)
# the one at a code says nothing: logits cannot leave their simplex, and nothing of theirs is moved
BOUNDS = [(-0.75, 0.5), FREE, (-0.2, 0.2), FREE, (-1.0, 1.0), (-0.25, math.inf), FREE, FREE, FREE]
SEED, RETRY = -(2**62) - 12345, 2
Arguments = tuple[Tensor, ...]
Shape = tuple[int, int]


def dense(batch: int, channels: int, length: int, generator: torch.Generator) -> Tensor:
    return torch.randn(batch, channels, length, generator=generator)


def permuted(batch: int, channels: int, length: int, generator: torch.Generator) -> Tensor:
    """Channels last, as the network leaves its output."""
    return dense(batch, length, channels, generator).transpose(1, 2)


def patients_last(batch: int, channels: int, length: int, generator: torch.Generator) -> Tensor:
    return dense(channels, length, batch, generator).permute(2, 0, 1)


def sliced(batch: int, channels: int, length: int, generator: torch.Generator) -> Tensor:
    """A view with holes in memory, like months cut off a pad."""
    return dense(batch, channels, length + 3, generator)[:, :, :length]


def arguments(
    make: Callable[..., Tensor] = dense,
    dtype: torch.dtype = torch.float32,
    solver: str = "dpm++",
    step: int = 5,
    n_patients: int = 3,
    length: int = 6,
    layout: list[tuple[int, int, int]] = LAYOUT,
) -> Arguments:
    """Return arguments of reverse_step in which bounds, history and noise all matter."""
    generator = torch.Generator().manual_seed(step)
    x_t, raw, x_0_prev = (make(n_patients, len(layout), length, generator) for _ in range(3))
    patient = torch.tensor([7, 2**32 + 5, 2**40, 1, 2][:n_patients], dtype=torch.int64)
    return (
        x_t,
        (1.5 * raw).to(dtype),
        x_0_prev,
        torch.tensor(sampler_table(solver, SCHEDULE, N_STEPS).rows, dtype=torch.float32),
        torch.tensor(step),
        torch.tensor(layout, dtype=torch.int64).reshape(-1, 3),
        torch.tensor(BOUNDS[: len(layout)]).reshape(-1, 2),
        torch.tensor(SEED),
        patient,
        torch.full_like(patient, stream_word(Stream.STEP_DYNAMIC, RETRY)),
    )


def slowly(args: Arguments) -> tuple[np.ndarray, np.ndarray, list[int], list[int]]:
    x_t, raw, x_0_prev, rows, step, layout, bounds, seed, patient, _ = args
    channels = [(HEADS[head], start, width) for head, start, width in layout.tolist()]
    return oracle.reverse_step(
        x_t.double().numpy(),
        raw.double().numpy(),
        x_0_prev.double().numpy(),
        rows[int(step)].tolist(),
        int(step),
        channels,
        [(low, high) for low, high in bounds.tolist()],
        int(seed),
        patient.tolist(),
        int(Stream.STEP_DYNAMIC),
        RETRY,
    )


def assert_agrees(args: Arguments) -> None:
    """A few roundings to float32 of numbers below 8; an eps head divides them by the signal."""
    actual, (x_s, x_0_hat, moved, nonfinite) = reverse_step(*args), slowly(args)
    signal, _, _, b0 = args[3][int(args[4])][:4].tolist()
    for channel, (head, _, _) in enumerate(args[5].tolist()):
        tolerance = 2e-6 / (signal if HEADS[head] == "eps" else 1.0)
        np.testing.assert_allclose(actual[1][:, channel], x_0_hat[:, channel], rtol=2e-6, atol=tolerance)
        tolerance = 3e-6 + b0 * tolerance
        np.testing.assert_allclose(actual[0][:, channel], x_s[:, channel], rtol=2e-6, atol=tolerance)
    assert actual[2].tolist() == moved
    assert actual[3].tolist() == nonfinite
    for part in actual[:2]:
        assert part.is_contiguous() and part.dtype == torch.float32 and part.shape == args[0].shape


@pytest.mark.parametrize("make", [dense, permuted, patients_last, sliced])
@pytest.mark.parametrize(
    ("solver", "step"),
    [
        ("ancestral", 0),
        ("ancestral", 6),
        ("ancestral", 11),
        ("dpm++", 0),
        ("dpm++", 1),
        ("dpm++", 6),
        ("dpm++", 11),
    ],
)
def test_rows_and_memory_layouts_match_the_oracle(make: Callable[..., Tensor], solver: str, step: int) -> None:
    assert_agrees(arguments(make, solver=solver, step=step))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("make", [dense, permuted])
@pytest.mark.parametrize("solver", ["ancestral", "dpm++"])
def test_types_match_the_oracle(make: Callable[..., Tensor], solver: str, dtype: torch.dtype) -> None:
    assert_agrees(arguments(make, dtype, solver))


@pytest.mark.parametrize("length", [1, 3, 4, 5, 17])
def test_lengths_match_the_oracle(length: int) -> None:
    assert_agrees(arguments(solver="ancestral", length=length))


@pytest.mark.parametrize("head", ["eps", "v", "x_0"])
def test_one_head_for_everything_matches_the_oracle(head: str) -> None:
    assert_agrees(arguments(solver="ancestral", layout=[(HEADS.index(head), c, 1) for c in range(9)]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_counted_and_does_not_spread(bad: float) -> None:
    args = arguments(solver="ancestral")
    args[1][1, [0, 2, 4, 6], 3] = bad
    assert_agrees(args)
    x_s, _, _, nonfinite = reverse_step(*args)
    assert nonfinite.tolist() == [0, 4, 0]
    assert torch.isfinite(x_s).all()


def test_the_guardrail_is_counted_per_patient() -> None:
    args = arguments(layout=[(X_0, 0, 1)])  # bounds -0.75 and 0.5
    args[1].copy_(torch.tensor([[-1.0, -0.75, 0, 0.5, 0.51, 9], [0] * 6, [-9] * 6])[:, None])
    _, x_0_hat, moved, _ = reverse_step(*args)
    assert moved.tolist() == [3, 0, 6]
    assert x_0_hat[0, 0].tolist() == [-0.75, -0.75, 0, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("solver", ["ancestral", "dpm++"])
def test_the_last_step_returns_x_0_hat_to_the_bit(solver: str) -> None:
    x_s, x_0_hat, _, _ = reverse_step(*arguments(solver=solver, step=N_STEPS - 1))
    assert torch.equal(x_s, x_0_hat)  # so that a release stays inside its bounds


@pytest.mark.parametrize(("solver", "step"), [("ancestral", 0), ("ancestral", 6), ("dpm++", N_STEPS - 1)])
def test_without_the_history_flag_the_past_is_not_read(solver: str, step: int) -> None:
    args = arguments(solver=solver, step=step)
    assert args[3][step, HISTORY] == 0
    expected = reverse_step(*args)
    args[2].fill_(math.nan)
    for part, wanted in zip(reverse_step(*args), expected, strict=True):
        assert torch.equal(part, wanted)


def test_with_the_history_flag_it_is() -> None:
    args = arguments(step=6)
    expected = reverse_step(*args)[0]
    args[2].add_(1.0)
    weight = args[3][6, 4]
    torch.testing.assert_close(reverse_step(*args)[0], expected + weight, rtol=1e-5, atol=1e-5)
    assert weight < -0.01


@pytest.mark.parametrize(
    ("n_patients", "layout"), [(0, LAYOUT), (3, []), (0, [])], ids=["no patients", "no channels", "nothing"]
)
def test_nothing_in_nothing_out(n_patients: int, layout: list[tuple[int, int, int]]) -> None:
    args = arguments(solver="ancestral", n_patients=n_patients, layout=layout)
    x_s, x_0_hat, moved, nonfinite = reverse_step(*args)
    assert x_s.shape == x_0_hat.shape == (n_patients, len(layout), 6)
    assert moved.tolist() == nonfinite.tolist() == [0] * n_patients


def test_inputs_are_left_as_they_were() -> None:
    args = arguments(solver="ancestral")
    before = [part.clone() for part in args]
    reverse_step(*args)
    assert all(torch.equal(part, was) for part, was in zip(args, before, strict=True))


def test_a_patient_alone_is_the_patient_in_a_batch() -> None:
    args = arguments(solver="ancestral", n_patients=5)
    together = reverse_step(*args)
    per_patient = {0, 1, 2, 8, 9}
    alone = reverse_step(*(part[3:4] if i in per_patient else part for i, part in enumerate(args)))
    for part, expected in zip(alone, together, strict=True):
        assert torch.equal(part[0], expected[3])


def test_the_step_tensor_picks_the_row_and_the_noise() -> None:
    step = torch.tensor(0)
    args = (*arguments(solver="ancestral")[:4], step, *arguments(solver="ancestral")[5:])
    seen = []
    for number in (3, 7, 3):
        step.fill_(number)
        assert_agrees(args)
        seen.append(reverse_step(*args)[0])
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])
    same_rows = list(args)
    same_rows[3] = args[3][3].expand(N_STEPS, 7).contiguous()
    step.fill_(7)
    noise_apart = (reverse_step(*same_rows)[0] - seen[0]) / args[3][3, 5]
    assert noise_apart.std().item() == pytest.approx(math.sqrt(2), rel=0.2)  # 162 differences of two normals


@pytest.mark.parametrize("step", [-1, N_STEPS])
def test_a_step_beyond_the_table_is_an_error(step: int) -> None:
    args = arguments()
    args[4].fill_(step)
    with pytest.raises((IndexError, RuntimeError)):
        reverse_step(*args)


@pytest.mark.parametrize(
    ("position", "name", "shape", "expected"),
    [
        (1, "raw", (3, 9, 5), "(3, 9, 6)"),
        (2, "x_0_prev", (3, 9, 7), "(3, 9, 6)"),
        (3, "rows", (12, 6), "(12, 7)"),
        (5, "layout", (8, 3), "(9, 3)"),
        (6, "bounds", (9, 1), "(9, 2)"),
        (8, "patient", (4,), "(3,)"),
        (9, "stream", (3, 1), "(3,)"),
    ],
)
def test_a_wrong_shape_is_named(position: int, name: str, shape: Shape, expected: str) -> None:
    args = list(arguments())
    args[position] = torch.zeros(shape, dtype=args[position].dtype)
    with pytest.raises(ValueError) as caught:
        reverse_step(*args)
    assert str(caught.value) == f"hg3::reverse_step: {name} has shape {shape}, expected {expected}"


def test_x_t_of_two_dimensions_is_named() -> None:
    x_t, raw, x_0_prev, *rest = arguments()
    with pytest.raises(ValueError, match=r"x_t has shape \(3, 9\), expected \(B, C, L\)"):
        reverse_step(x_t[:, :, 0], raw[:, :, 0], x_0_prev[:, :, 0], *rest)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_x_t_of_another_type_is_refused(dtype: torch.dtype) -> None:
    x_t, *rest = arguments()
    with pytest.raises(ValueError, match=f"x_t is {dtype}, expected torch.float32"):
        reverse_step(x_t.to(dtype), *rest)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of opcheck's own
@pytest.mark.parametrize("make", [dense, permuted, patients_last, sliced])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_opcheck(make: Callable[..., Tensor], dtype: torch.dtype) -> None:
    torch.library.opcheck(torch.ops.hg3.reverse_step.default, arguments(make, dtype, "ancestral"))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("n_patients", "layout"), [(0, LAYOUT), (3, [])], ids=["no patients", "no channels"])
def test_opcheck_of_nothing(n_patients: int, layout: list[tuple[int, int, int]]) -> None:
    args = arguments(n_patients=n_patients, layout=layout)
    torch.library.opcheck(torch.ops.hg3.reverse_step.default, args)


def network_and_step(args: Arguments) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What generation runs: something of the network's before the step and after it."""
    x_t, raw, *rest = args
    x_s, x_0_hat, moved, nonfinite = reverse_step(x_t, torch.tanh(raw) + x_t, *rest)
    return x_s, x_0_hat, moved + nonfinite, (x_s**2).sum(dim=1)


def assert_compiled_is_eager(backend: str) -> None:
    torch.compiler.reset()
    compiled = torch.compile(network_and_step, fullgraph=True, backend=backend)
    for make in (dense, permuted):
        for step in (2, 9):
            args = arguments(make, solver="ancestral", step=step)
            for part, expected in zip(compiled(args), network_and_step(args), strict=True):
                # the compiler may fuse and reorder float32 arithmetic around the step
                torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-5)


def test_compiled_is_eager() -> None:
    assert_compiled_is_eager("aot_eager")


@pytest.mark.slow
def test_compiled_by_inductor_is_eager() -> None:
    assert_compiled_is_eager("inductor")
