"""What reverse_step refuses: the same sentence from every implementation."""

import math

import pytest
import torch

from hg3.sampling.check_arguments import check_reverse_step
from tests.sampling.implementations import (
    COMPILED,
    EVERY,
    LOGITS,
    N_STEPS,
    NEEDS_EXTENSION,
    Implementation,
    V,
    arguments,
    permuted,
)

NAMES = ("x_t", "raw", "x_0_prev", "rows", "step", "layout", "bounds", "seed", "patient", "stream")
POSITION = {name: number for number, name in enumerate(NAMES)}
Shape = tuple[int, ...]


def refusal(how: Implementation, args: list[torch.Tensor]) -> str:
    """Return the sentence that both forms of the step refuse `args` with."""
    said = set()
    for form in (how.step, how.in_place):
        with pytest.raises(ValueError) as caught:
            form(*args)
        said.add(str(caught.value))
    (sentence,) = said
    return sentence


@EVERY
@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("x_t", (3, 9), "(B, C, L)"),
        ("x_t", (), "(B, C, L)"),
        ("raw", (3, 9, 5), "(3, 9, 6)"),
        ("raw", (9, 6), "(3, 9, 6)"),
        ("x_0_prev", (3, 9, 7), "(3, 9, 6)"),
        ("x_0_prev", (1, 9, 6), "(3, 9, 6)"),
        ("rows", (12, 6), "(12, 7)"),
        ("rows", (7,), "(7, 7)"),
        ("rows", (), "(0, 7)"),
        ("layout", (8, 3), "(9, 3)"),
        ("bounds", (9, 1), "(9, 2)"),
        ("patient", (4,), "(3,)"),
        ("stream", (3, 1), "(3,)"),
        ("stream", (), "(3,)"),
        ("step", (2,), "()"),
        ("seed", (0,), "()"),
    ],
)
def test_a_wrong_shape_is_named(how: Implementation, name: str, shape: Shape, expected: str) -> None:
    args = list(arguments())
    args[POSITION[name]] = torch.zeros(shape, dtype=args[POSITION[name]].dtype)
    assert refusal(how, args) == f"hg3::reverse_step: {name} has shape {shape}, expected {expected}"


WHOLE = "torch.int64"
REAL = "torch.float32"


@EVERY
@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("x_t", torch.float64, REAL),
        ("x_t", torch.bfloat16, REAL),
        ("raw", torch.float64, "torch.float32, torch.bfloat16 or torch.float16"),
        ("raw", torch.int64, "torch.float32, torch.bfloat16 or torch.float16"),
        ("x_0_prev", torch.float16, REAL),
        ("rows", torch.float64, REAL),
        ("bounds", torch.bfloat16, REAL),
        ("step", torch.int32, WHOLE),
        ("layout", torch.float32, WHOLE),
        ("seed", torch.uint8, WHOLE),
        ("patient", torch.int32, WHOLE),
        ("stream", torch.bool, WHOLE),
    ],
    ids=str,
)
def test_a_wrong_type_is_named(how: Implementation, name: str, dtype: torch.dtype, expected: str) -> None:
    args = list(arguments())
    args[POSITION[name]] = args[POSITION[name]].to(dtype)
    assert refusal(how, args) == f"hg3::reverse_step: {name} is {dtype}, expected {expected}"


@EVERY
def test_a_seed_of_one_entry_is_a_seed(how: Implementation) -> None:
    args = arguments(solver="ancestral")
    wrapped = [part[None] if NAMES[i] in ("seed", "step") else part for i, part in enumerate(args)]
    assert torch.equal(how.step(*wrapped)[0], how.step(*args)[0])


@pytest.mark.parametrize("name", NAMES[1:])
def test_another_device_is_named(name: str) -> None:
    """In torch's check; two devices reach the compiled one's only on a machine that has them."""
    args = dict(zip(NAMES, arguments(), strict=True))
    args[name] = args[name].to("meta")
    with pytest.raises(ValueError) as caught:
        check_reverse_step(*args.values())
    assert str(caught.value) == f"hg3::reverse_step: {name} is on meta, expected cpu"


@EVERY
@pytest.mark.parametrize("name", ["x", "x_0"])
def test_in_place_needs_what_has_no_holes(how: Implementation, name: str) -> None:
    args = list(arguments())
    place = {"x": 0, "x_0": 2}[name]
    args[place] = arguments(permuted)[place]
    before = args[place].clone()
    with pytest.raises(ValueError) as caught:
        how.in_place(*args)
    assert str(caught.value) == f"hg3::reverse_step_: {name} is not contiguous; use reverse_step"
    assert torch.equal(args[place], before)


@EVERY
@pytest.mark.parametrize("step", [-1, N_STEPS, 2**40])
def test_a_step_beyond_the_table_is_an_error(how: Implementation, step: int) -> None:
    args = arguments()
    args[4].fill_(step)
    for form in (how.step, how.in_place):
        with pytest.raises(IndexError, match=f"hg3::reverse_step: step is {step}, expected 0 to {N_STEPS - 1}"):
            form(*args)


@EVERY
@pytest.mark.parametrize(
    ("layout", "row"),
    [
        ([(7, 0, 1), (V, 1, 1), (V, 2, 1)], 0),
        ([(V, 0, 1), (-1, 1, 1), (V, 2, 1)], 1),
        ([(LOGITS, 0, 2), (LOGITS, 0, 2), (LOGITS, 1, 2)], 2),  # overlaps
        ([(LOGITS, 0, 3), (LOGITS, 1, 2), (LOGITS, 1, 2)], 1),  # a block in a block
        ([(LOGITS, 0, 2), (V, 0, 2), (V, 2, 1)], 1),  # of two heads
        ([(LOGITS, 1, 1), (V, 1, 1), (V, 2, 1)], 0),  # begins elsewhere
        ([(V, 0, 1), (LOGITS, 1, 3), (LOGITS, 1, 3)], 1),  # ends beyond the channels
        ([(V, 0, 1), (LOGITS, 1, 2**63 - 1), (LOGITS, 1, 2**63 - 1)], 1),
        ([(V, 0, 1), (LOGITS, 1, -1), (LOGITS, 1, -1)], 1),
        ([(V, 0, 0), (V, 1, 1), (V, 2, 1)], 0),
        ([(2**32, 0, 1), (V, 1, 1), (V, 2, 1)], 0),
    ],
)
def test_a_layout_that_cannot_be_is_refused(how: Implementation, layout: list[tuple[int, int, int]], row: int) -> None:
    head, start, width = layout[row]
    assert refusal(how, list(arguments(layout=layout))) == (
        f"hg3::reverse_step: layout row {row} is ({head}, {start}, {width}), expected a head from 0 to 3 and blocks "
        "that follow one another"
    )


@EVERY
def test_a_refusal_shows_no_value(how: Implementation) -> None:
    args = list(arguments())
    args[0].fill_(123.456)
    args[1] = torch.full((3, 9, 5), math.pi)
    said = refusal(how, args)
    assert "123" not in said and "3.14" not in said


@EVERY
def test_more_steps_than_the_noise_can_tell_apart_are_refused(how: Implementation) -> None:
    args = list(arguments())
    args[POSITION["rows"]] = torch.zeros(2**20 + 1, 7)
    assert "rows has 1048577 steps, expected at most 1048576" in refusal(how, args)


@EVERY
@pytest.mark.parametrize("name", ["x_t", "raw", "x_0_prev"])
def test_a_gradient_is_refused_where_one_would_be_taken(how: Implementation, name: str) -> None:
    args = list(arguments())
    args[POSITION[name]].requires_grad_()
    assert "an argument requires a gradient" in refusal(how, args)
    with torch.no_grad():
        how.step(*args)


@EVERY
@pytest.mark.parametrize("shift", [0, 1])
def test_in_place_x_and_x_0_are_two_tensors(how: Implementation, shift: int) -> None:
    args = list(arguments())
    n, channels, length = args[0].shape
    memory = torch.randn(n + shift, channels, length)
    args[0], args[2] = memory[:n], memory[shift:]
    with pytest.raises(ValueError, match="x and x_0 lie over one another, expected two tensors"):
        how.in_place(*args)


@NEEDS_EXTENSION
def test_in_place_raw_does_not_lie_half_under_what_is_written() -> None:
    args = list(arguments())
    n, channels, length = args[0].shape
    memory = torch.randn(n + 1, channels, length)
    args[0], args[1] = memory[:n], memory[1:]
    with pytest.raises(ValueError, match="x lies in part over raw; use reverse_step"):
        COMPILED.in_place(*args)


@EVERY
def test_autograd_knows_what_was_written_over(how: Implementation) -> None:
    args = list(arguments())
    weight = torch.ones_like(args[0], requires_grad=True)
    total = (weight * args[0]).sum()
    how.in_place(*args)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_a_tensor_without_memory_among_others_is_named() -> None:
    args = list(arguments())
    args[POSITION["seed"]] = torch.tensor(1, device="meta")
    with pytest.raises(ValueError, match="seed is on meta, expected cpu"):
        COMPILED.step(*args)
