"""The reverse step on a GPU: the bits of the CPU's extension, an operator of torch, and fresh noise from a graph."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hg3.extension import implementation
from hg3.sampling.ops import reverse_step, reverse_step_
from tests.csrc.step_cases import (
    HISTORY_ALONE,
    MEMORY,
    MIXED,
    NOISE_AND_HISTORY,
    ROWS,
    SHAPES,
    Arguments,
    arguments,
    channels_last,
    dense,
)

HAS_GPU = torch.cuda.is_available()
COMPILED = (
    implementation("reverse_step", torch.device("cuda")) == "extension"
    and implementation("reverse_step", torch.device("cpu")) == "extension"
)
TYPES = (torch.float32, torch.bfloat16, torch.float16)
pytestmark = [
    pytest.mark.skipif(not HAS_GPU, reason="there is no CUDA device"),
    pytest.mark.skipif(HAS_GPU and not COMPILED, reason="the extension is not built for CUDA"),
]


def sent(args: Arguments) -> Arguments:
    """Return copies on the GPU with the strides that they had, holes and repetitions included."""
    copies = []
    for part in args:
        size = 1 + sum((n - 1) * stride for n, stride in zip(part.shape, part.stride(), strict=True))
        memory = part.as_strided((size if part.numel() else 0,), (1,))
        copies.append(memory.to("cuda").as_strided(part.shape, part.stride()))
    return tuple(copies)


def assert_same_bits(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    """No tolerance: fma is explicit on both sides, and both round divisions and square roots as IEEE 754 says."""
    for part, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(part.cpu(), wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", range(len(ROWS)))
def test_shapes_and_rows_are_those_of_the_cpu(shape: str, step: int) -> None:
    args = arguments(*SHAPES[shape], step)
    assert_same_bits(reverse_step(*sent(args)), reverse_step(*args))


@pytest.mark.parametrize("make", MEMORY)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_memory_and_types_are_those_of_the_cpu(make: Callable[..., Tensor], dtype: torch.dtype) -> None:
    args = arguments(MIXED, 20, make=make, dtype=dtype)
    assert_same_bits(reverse_step(*sent(args)), reverse_step(*args))


@pytest.mark.parametrize("step", range(len(ROWS)))
def test_many_patients_are_those_of_the_cpu(step: int) -> None:
    args = arguments(step=step, n_patients=20_000)  # several turns for every block of threads
    assert_same_bits(reverse_step(*sent(args)), reverse_step(*args))


def test_memory_that_is_not_aligned() -> None:
    args = arguments(MIXED, 8)
    x_t, *rest = sent(args)
    moved = torch.empty(x_t.numel() + 1, device="cuda")[1:].reshape(x_t.shape).copy_(x_t)
    assert_same_bits(reverse_step(moved, *rest), reverse_step(*args))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_counted(bad: float) -> None:
    args = arguments(MIXED, 6)
    args[1][1, [0, 2, 4, 7], 3] = bad
    actual = reverse_step(*sent(args))
    assert actual[3].tolist() == [0, 4, 0]
    assert_same_bits(actual, reverse_step(*args))


@pytest.mark.parametrize("step", range(len(ROWS)))
def test_in_place(step: int) -> None:
    """x_0 is neither read nor written where the row has no history."""
    args = arguments(MIXED, 6, step)
    if step < HISTORY_ALONE:
        args[2].fill_(math.nan)
    copies = sent(args)
    counts, expected = reverse_step_(*copies), reverse_step_(*args)
    assert_same_bits((copies[0], copies[2], *counts), (args[0], args[2], *expected))


@pytest.mark.parametrize("step", [-1, len(ROWS), 2**40])
def test_a_step_outside_the_table_refuses_every_patient(step: int) -> None:
    args = sent(arguments(MIXED, 6))
    args[4].fill_(step)
    x_s, x_0_hat, _, nonfinite = reverse_step(*args)
    assert nonfinite.tolist() == [args[0][0].numel()] * len(args[0])
    assert torch.isfinite(x_s).all() and torch.isfinite(x_0_hat).all()


def test_a_layout_that_is_none_refuses_every_patient() -> None:
    args = sent(arguments(MIXED, 6))
    args[5][-1, 2] = 1000
    assert (reverse_step(*args)[3] == args[0][0].numel()).all()


@pytest.mark.parametrize(("n_patients", "blocks"), [(0, MIXED), (3, []), (0, [])], ids=["patients", "channels", "both"])
def test_nothing_in_nothing_out(n_patients: int, blocks: list[tuple[int, int]]) -> None:
    args = sent(arguments(blocks, 6, n_patients=n_patients, make=dense))
    x_s, x_0_hat, moved, nonfinite = reverse_step(*args)
    assert x_s.shape == x_0_hat.shape == args[0].shape
    assert moved.tolist() == nonfinite.tolist() == [0] * n_patients


def test_more_channels_than_a_gpu_takes_are_refused() -> None:
    args = sent(arguments([(1, 1)] * 2049, 1, make=dense))
    with pytest.raises(ValueError, match="x_t has 2049 channels, expected at most 2048 on a GPU"):
        reverse_step(*args)


def test_a_tensor_left_on_the_cpu_is_named() -> None:
    args = list(sent(arguments(MIXED, 6)))
    args[7] = args[7].cpu()
    with pytest.raises((ValueError, RuntimeError), match="seed is on cpu, expected cuda"):
        reverse_step(*args)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of opcheck's own
@pytest.mark.parametrize("make", MEMORY)
def test_opcheck(make: Callable[..., Tensor]) -> None:
    torch.library.opcheck(torch.ops.hg3.reverse_step.default, sent(arguments(MIXED, 6, make=make)))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_opcheck_in_place() -> None:
    torch.library.opcheck(torch.ops.hg3.reverse_step_.default, sent(arguments(MIXED, 6)))


def captured(args: Arguments) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]:
    """Return a graph of one step and the tensors that it writes, after a warm-up on a stream of its own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        reverse_step(*args)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        written = reverse_step(*args)
    return graph, written


def test_a_graph_replays_the_step_and_the_seed_of_its_time() -> None:
    args = sent(arguments(step=NOISE_AND_HISTORY, make=channels_last))
    args[3][:] = args[3][NOISE_AND_HISTORY].clone()  # rows alike: what differs is the noise
    graph, written = captured(args)
    seen: list[Tensor] = []
    for step, seed in ((0, 5), (1, 5), (2, 5), (2, 6)):
        args[4].fill_(step)
        args[7].fill_(seed)
        graph.replay()
        seen.append(written[0].clone())
        for part, expected in zip(written, reverse_step(*args), strict=True):
            assert torch.equal(part, expected)
    for number, x_s in enumerate(seen[1:]):
        assert not torch.equal(x_s, seen[number])


def test_the_step_runs_on_the_current_stream() -> None:
    """Slow work before it on the same stream changes what it reads: on another stream it would not wait."""
    args = sent(arguments(n_patients=64))
    expected = reverse_step(*args)[0]
    late = args[0].clone()
    args[0].zero_()
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)
        args[0].copy_(late)
        actual = reverse_step(*args)[0]
    torch.cuda.synchronize()
    assert torch.equal(actual, expected)
