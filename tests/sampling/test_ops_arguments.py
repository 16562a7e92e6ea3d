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
        check_reverse_step(**args)
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
        with pytest.raises((IndexError, RuntimeError)):
            form(*args)


@NEEDS_EXTENSION
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
def test_a_layout_that_cannot_be_is_refused(layout: list[tuple[int, int, int]], row: int) -> None:
    """By the compiled one, which would leave its buffers; torch answers whatever is asked."""
    head, start, width = layout[row]
    assert refusal(COMPILED, list(arguments(layout=layout))) == (
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
