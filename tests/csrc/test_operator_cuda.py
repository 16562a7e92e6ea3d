"""The reverse step as an operator of torch on every device: checked, compiled, recorded in a graph, on a stream."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hg3.diffusion.heads import V
from hg3.sampling.ops import reverse_step, reverse_step_
from tests.csrc.step_cases import MEMORY, MIXED, NOISE_AND_HISTORY, Arguments, arguments, channels_last, dense
from tests.devices import DEVICES, NEEDS_GPU, sent

Written = tuple[Tensor, ...]
ON_GPU = pytest.mark.parametrize("device", [pytest.param(torch.device("cuda"), id="on_gpu", marks=NEEDS_GPU)])
OPCHECK = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of opcheck's own


@DEVICES
@pytest.mark.parametrize("make", MEMORY)
def test_copies_lie_on_a_device_as_their_originals(device: torch.device, make: Callable[..., Tensor]) -> None:
    whole = arguments(MIXED, 6, make=make, dtype=torch.float32)[1]
    for part in (whole, whole[1:, 2:], whole[:0]):
        (copy,) = sent((part,), device)
        assert copy.stride() == part.stride() and copy.storage_offset() % 4 == part.storage_offset() % 4 * bool(
            len(part)
        )
        assert copy.device.type == device.type and torch.equal(copy.cpu(), part)


@OPCHECK
@DEVICES
@pytest.mark.parametrize("make", MEMORY)
def test_opcheck(device: torch.device, make: Callable[..., Tensor]) -> None:
    torch.library.opcheck(torch.ops.hg3.reverse_step.default, sent(arguments(MIXED, 6, make=make), device))


@OPCHECK
@DEVICES
def test_opcheck_in_place(device: torch.device) -> None:
    torch.library.opcheck(torch.ops.hg3.reverse_step_.default, sent(arguments(MIXED, 6), device))


@DEVICES
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_whole_is_eager(device: torch.device, backend: str) -> None:
    """Out of place and in place, with something before the step and after it that no compiler may round otherwise."""

    def functional(x_t: Tensor, raw: Tensor, *rest: Tensor) -> Written:
        x_s, *others = reverse_step(x_t, 2 * raw, *rest)
        return 2 * x_s, *others

    def in_place(x_t: Tensor, raw: Tensor, x_0_prev: Tensor, *rest: Tensor) -> Written:
        x, x_0 = x_t.clone(), x_0_prev.clone()
        counts = reverse_step_(x, 2 * raw, x_0, *rest)
        return 2 * x, x_0, *counts

    for form in (functional, in_place):
        torch.compiler.reset()
        compiled = torch.compile(form, fullgraph=True, backend=backend)
        for step in (1, NOISE_AND_HISTORY):
            args = sent(arguments(step=step), device)
            assert_equal(compiled(*args), form(*args))


def assert_equal(actual: Written, expected: Written) -> None:
    for part, wanted in zip(actual, expected, strict=True):
        assert torch.equal(part, wanted)


def recorded(device: torch.device, call: Callable[[], Written]) -> tuple[Callable[[], None], Written]:
    """Return what repeats `call`, and the tensors that it writes anew: on a GPU a graph, after a warm-up of its own."""
    if device.type != "cuda":
        written = call()

        def again() -> None:
            for part, new in zip(written, call(), strict=True):
                part.copy_(new)

        return again, written
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        written = call()
    return graph.replay, written


MOMENTS = ((0, 5), (1, 5), (2, 5), (2, 6))  # steps and seeds at which a graph is replayed


def of_noise(device: torch.device) -> Arguments:
    """Return arguments whose rows are alike, so that what differs between steps is the noise."""
    args = sent(arguments(step=NOISE_AND_HISTORY, make=channels_last), device)
    args[3][:] = args[3][NOISE_AND_HISTORY].clone()
    return args


@DEVICES
def test_a_graph_replays_the_step_and_the_seed_of_its_time(device: torch.device) -> None:
    args = of_noise(device)
    replay, written = recorded(device, lambda: reverse_step(*args))
    seen: list[Tensor] = []
    for step, seed in MOMENTS:
        args[4].fill_(step)
        args[7].fill_(seed)
        replay()
        seen.append(written[0].clone())
        assert_equal(written, reverse_step(*args))
    for number, x_s in enumerate(seen[1:]):
        assert not torch.equal(x_s, seen[number])


@DEVICES
def test_a_graph_replays_the_form_in_place_step_after_step(device: torch.device) -> None:
    """As generation calls it: each replay goes on from where the one before left x and x_0."""
    args = of_noise(device)
    x, x_0 = args[0].clone(), args[2].clone()
    replay, counts = recorded(device, lambda: reverse_step_(*args))
    args[0].copy_(x)  # a warm-up has taken steps already
    args[2].copy_(x_0)
    for step, seed in MOMENTS:
        args[4].fill_(step)
        args[7].fill_(seed)
        replay()
        expected = reverse_step_(x, args[1], x_0, *args[3:])
        assert_equal((args[0], args[2], *counts), (x, x_0, *expected))


@ON_GPU
def test_the_step_runs_on_the_current_stream(device: torch.device) -> None:
    """Slow work before it on the same stream changes what it reads: on another stream it would not wait."""
    args = sent(arguments(n_patients=64), device)
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


@DEVICES
@pytest.mark.parametrize(("n_patients", "blocks"), [(0, MIXED), (3, []), (0, [])], ids=["patients", "channels", "both"])
def test_nothing_in_nothing_out(device: torch.device, n_patients: int, blocks: list[tuple[int, int]]) -> None:
    args = sent(arguments(blocks, 6, n_patients=n_patients, make=dense), device)
    x_s, x_0_hat, moved, nonfinite = reverse_step(*args)
    assert x_s.shape == x_0_hat.shape == args[0].shape
    assert moved.tolist() == nonfinite.tolist() == [0] * n_patients


@ON_GPU
def test_more_channels_than_the_kernel_takes_are_refused(device: torch.device) -> None:
    args = sent(arguments([(V, 1)] * 2049, 1, make=dense), device)
    with pytest.raises(ValueError, match="x_t has 2049 channels, expected at most 2048 on a GPU"):
        reverse_step(*args)


@ON_GPU
def test_a_tensor_left_behind_is_named(device: torch.device) -> None:
    args = list(sent(arguments(MIXED, 6), device))
    args[7] = args[7].cpu()
    with pytest.raises((ValueError, RuntimeError), match="seed is on cpu, expected cuda"):
        reverse_step(*args)
