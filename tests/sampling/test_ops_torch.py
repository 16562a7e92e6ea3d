"""reverse_step as an operator of torch: opcheck, and compiled graphs give the eager answer."""

import pytest
import torch
from torch import Tensor

from tests.sampling.implementations import (
    EVERY,
    LAYOUT,
    Arguments,
    Implementation,
    Make,
    arguments,
    dense,
    permuted,
    sliced,
    sliced_last,
)

pytestmark = [EVERY, pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")]  # of opcheck's own


@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (dense, torch.float32),
        (permuted, torch.float32),
        (sliced, torch.float32),
        (sliced_last, torch.bfloat16),
        (permuted, torch.float16),
    ],
)
def test_opcheck(how: Implementation, make: Make, dtype: torch.dtype) -> None:
    torch.library.opcheck(how.step, arguments(make, dtype, "sde-dpm++", length=9))


@pytest.mark.parametrize("solver", ["ancestral", "dpm++"])
def test_opcheck_in_place(how: Implementation, solver: str) -> None:
    x, _, x_0, *rest = arguments(solver=solver)
    torch.library.opcheck(how.in_place, (x, arguments(permuted)[1], x_0, *rest))


@pytest.mark.parametrize(("n_patients", "layout"), [(0, LAYOUT), (3, [])], ids=["no patients", "no channels"])
def test_opcheck_of_nothing(how: Implementation, n_patients: int, layout: list[tuple[int, int, int]]) -> None:
    args = arguments(n_patients=n_patients, layout=layout)
    torch.library.opcheck(how.step, args)


def assert_compiled_is_eager(how: Implementation, backend: str) -> None:
    """What generation runs: something of the network's before the step and after it, out of place and in place."""

    def functional(args: Arguments) -> tuple[Tensor, ...]:
        x_t, raw, *rest = args
        x_s, x_0_hat, moved, nonfinite = how.step(x_t, torch.tanh(raw) + x_t, *rest)
        return x_s, x_0_hat, moved + nonfinite, (x_s**2).sum(dim=1)

    def in_place(args: Arguments) -> tuple[Tensor, ...]:
        x_t, raw, x_0_prev, *rest = args
        x, x_0 = x_t.clone(memory_format=torch.contiguous_format), x_0_prev.clone(memory_format=torch.contiguous_format)
        moved, nonfinite = how.in_place(x, torch.tanh(raw) + x, x_0, *rest)
        return 2 * x, x_0, moved + nonfinite

    for form in (functional, in_place):
        torch.compiler.reset()
        compiled = torch.compile(form, fullgraph=True, backend=backend)
        for make in (dense, permuted):
            for step in (2, 9):
                args = arguments(make, solver="sde-dpm++", step=step)
                for part, expected in zip(compiled(args), form(args), strict=True):
                    # the compiler may fuse and reorder float32 arithmetic around the step
                    torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-5)


def test_compiled_is_eager(how: Implementation) -> None:
    assert_compiled_is_eager(how, "aot_eager")


@pytest.mark.slow
def test_compiled_by_inductor_is_eager(how: Implementation) -> None:
    assert_compiled_is_eager(how, "inductor")
