"""Blocks of patients from any callable as the model."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from hg3.config import HeadsConfig, SamplingConfig
from hg3.diffusion.schedule import cosine_schedule
from hg3.errors import ReleaseError
from hg3.layout import Block, Layout
from hg3.sampling.generate import Condition, Sample, Sampler, block_range, refuse_nonfinite, sample_patients
from hg3.sampling.ops import reverse_step_
from hg3.sampling.solvers import sampler_table

LENGTH, STEPS = 5, 4
STATIC = (Block("sex", "category", 0, 2), Block("height", "real", 2, 1, -1.5, 1.5))
DYNAMIC = (Block("VL", "real", 0, 1, -2.0, 2.0), Block("drug", "category", 1, 3))
LAYOUT = Layout(STATIC, DYNAMIC, LENGTH)
TABLE = sampler_table("dpm++", cosine_schedule(100), STEPS)
Network = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def shrink(x_static: Tensor, x_dynamic: Tensor, t: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """A network that looks at one patient at a time and at every input."""
    weight = torch.tanh(x_static.sum(dim=1) + x_dynamic.sum(dim=(1, 2)) + t / 100)
    return x_static * weight[:, None], x_dynamic * weight[:, None, None]


def sampled(patients: range, seed: int = 0, model: Network = shrink, layout: Layout = LAYOUT) -> Sample:
    return sample_patients(model, patients, sampler_of(seed, layout))


def sampler_of(seed: int = 0, layout: Layout = LAYOUT, guardrail: SamplingConfig = SamplingConfig()) -> Sampler:  # noqa: B008
    return Sampler(layout, HeadsConfig(), guardrail, TABLE, layout.length, seed, torch.device("cpu"))


def same(one: Sample, other: Sample) -> bool:
    return np.array_equal(one.x_static, other.x_static) and np.array_equal(one.x_dynamic, other.x_dynamic)


def spoilt(call: int, rows: list[int], value: float, static: bool = False) -> Network:
    """A network that returns `value` for some rows of one of its calls."""
    calls: list[Tensor] = []

    def model(x_static: Tensor, x_dynamic: Tensor, t: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        raw_static, raw_dynamic = shrink(x_static, x_dynamic, t, given)
        if len(calls) == call:
            (raw_static if static else raw_dynamic)[rows, 0] = value
        calls.append(t)
        return raw_static, raw_dynamic

    return model


def test_shapes_and_types() -> None:
    sample = sampled(range(6))
    assert (sample.x_static.shape, sample.x_dynamic.shape, sample.moved.shape) == ((6, 3), (6, 4, LENGTH), (6,))
    assert [str(part.dtype) for part in vars(sample).values()] == [
        "torch.float32",
        "torch.float32",
        "torch.int64",
        "torch.int64",
    ]


def test_a_patient_is_a_function_of_seed_and_number() -> None:
    one, other = sampled(range(8)), sampled(range(4, 12))
    np.testing.assert_array_equal(one.x_static[4:], other.x_static[:4])
    np.testing.assert_array_equal(one.x_dynamic[4:], other.x_dynamic[:4])
    assert len(np.unique(one.x_dynamic[:, 0, 0])) == 8


@pytest.mark.parametrize("seed", [1, 2**32, 2**62])
def test_every_bit_of_the_seed_counts(seed: int) -> None:
    assert same(sampled(range(4), seed), sampled(range(4), seed))
    assert not same(sampled(range(4), seed), sampled(range(4), 0))


def test_every_bit_of_the_number_counts() -> None:
    assert not same(sampled(range(4)), sampled(range(2**32, 2**32 + 4)))


def test_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one = sampled(range(4))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(4)
    assert same(one, sampled(range(4)))


def test_network_is_called_once_a_step_at_the_tables_times() -> None:
    seen: list[list[int]] = []

    def model(x_static: Tensor, x_dynamic: Tensor, t: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        assert not torch.is_grad_enabled()
        seen.append(t.tolist())
        return shrink(x_static, x_dynamic, t, given)

    sampled(range(3), model=model)
    assert seen == [[int(t)] for t in TABLE.times]  # one time, which all patients share
    assert len(seen) == STEPS


def test_static_entries_have_one_value_and_their_own_noise() -> None:
    layout = Layout(DYNAMIC, DYNAMIC, 1)  # both halves alike: only their streams differ
    sample = sampled(range(16), layout=layout)
    assert not np.isclose(sample.x_static, sample.x_dynamic[:, :, 0]).any(axis=0).all()


def test_guardrail_holds_and_is_counted_by_patient() -> None:
    def model(x_static: Tensor, x_dynamic: Tensor, t: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        raw_static, raw_dynamic = torch.zeros_like(x_static), torch.zeros_like(x_dynamic)
        raw_dynamic[1] = 1e6
        return raw_static, raw_dynamic

    sample = sampled(range(3), model=model)
    assert sample.x_dynamic[:, 0].abs().max() <= 2.0
    assert sample.x_static[:, 2].abs().max() <= 1.5
    np.testing.assert_array_equal(sample.x_dynamic[1, 0], np.full(LENGTH, -2.0))
    assert sample.moved[1] >= STEPS * LENGTH > sample.moved[[0, 2]].max()
    for block in (sample.x_static[:, :2], sample.x_dynamic[:, 1:4]):  # on the simplex in {-1, 1}
        np.testing.assert_allclose(block.sum(dim=1), 2.0 - block.shape[1], atol=1e-5)
        assert block.min() >= -1.0
        assert block.max() <= 1.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("static", [True, False])
def test_what_is_not_finite_is_refused(value: float, static: bool) -> None:
    model = spoilt(2, [3], value, static)
    with pytest.raises(ReleaseError, match=r"NaN or infinity for 1 patients \(103\), first at step 2; the block is re"):
        sampled(range(100, 106), model=model)


def test_what_the_last_step_leaves_must_be_finite_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def overflowing(x: torch.Tensor, *rest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        counts = reverse_step_(x, *rest)
        x[1, 0, -1] = torch.inf
        return counts

    monkeypatch.setattr("hg3.sampling.generate.reverse_step_", overflowing)
    with pytest.raises(ReleaseError, match=r"NaN or infinity for 1 patients \(101\)"):
        sampled(range(100, 103))


def test_refusal_names_the_first_patients_and_counts_all() -> None:
    with pytest.raises(ReleaseError, match=r"for 7 patients \(10, 11, 12, 13, 14, \.\.\.\), first at step 0"):
        sampled(range(10, 18), model=spoilt(0, list(range(7)), np.nan))


def test_refusal_names_the_first_step_of_any_patient() -> None:
    nonfinite = torch.zeros(4, 3, dtype=torch.int64)
    refuse_nonfinite(nonfinite, range(3))
    nonfinite[3, 0] = nonfinite[1, 2] = 5
    with pytest.raises(ReleaseError, match=r"2 patients \(0, 2\), first at step 1"):
        refuse_nonfinite(nonfinite, range(3))


def test_layout_without_static_columns() -> None:
    sample = sampled(range(3), layout=Layout((), DYNAMIC, LENGTH))
    assert sample.x_static.shape == (3, 0)
    assert torch.isfinite(sample.x_dynamic).all()


def test_given_blocks_stay_as_given_and_the_network_is_told() -> None:
    clean = torch.tensor([[1.0, -1.0, 0.5]]).repeat(4, 1)
    given = torch.tensor([[True, False]]).repeat(4, 1)

    def model(x_static: Tensor, x_dynamic: Tensor, t: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        assert torch.equal(told, given)
        assert torch.equal(x_static[:, :2], clean[:, :2]) and (x_static[:, 2] != 0.5).all()
        return shrink(x_static, x_dynamic, t, told)

    sample = sample_patients(model, range(4), sampler_of(), Condition(clean, given))
    assert torch.equal(sample.x_static[:, :2], clean[:, :2])
    assert (sample.x_static[:, 2] != 0.5).all()


def test_what_is_given_is_not_moved_and_not_counted() -> None:
    clean, given = torch.tensor([[1.0, -1.0, 9.0]]), torch.tensor([[False, True]])  # far outside its bounds

    def model(x_static: Tensor, x_dynamic: Tensor, t: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        return 100 * torch.ones_like(x_static), torch.zeros_like(x_dynamic)

    sample = sample_patients(model, range(1), sampler_of(), Condition(clean, given))
    assert sample.x_static[0, 2] == 9.0
    assert sample.moved.tolist() == sample_patients(zero, range(1), sampler_of()).moved.tolist()


def zero(x_static: Tensor, x_dynamic: Tensor, t: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(x_static), torch.zeros_like(x_dynamic)


FILTER = SamplingConfig(clamp=False, range_filter=True)


def wild(x_static: Tensor, x_dynamic: Tensor, t: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """A network whose patients leave the range about as often as not, each by its own noise."""
    return torch.zeros_like(x_static), -0.4 * x_dynamic


def test_rejected_patients_are_sampled_again_from_their_own_stream() -> None:
    sampler = sampler_of(guardrail=FILTER)
    sample = sample_patients(wild, range(64), sampler)
    assert (sample.x_dynamic[:, 0].abs() <= 2.0).all()
    assert 1 < sample.attempts.float().mean() < 20 and (sample.attempts == 1).any()
    free = sample_patients(wild, range(64), sampler_of(guardrail=SamplingConfig(clamp=False)))
    inside = (free.x_dynamic[:, 0].abs() <= 2.0).all(dim=1)
    assert torch.equal(inside, sample.attempts == 1)
    assert torch.equal(sample.x_dynamic[inside], free.x_dynamic[inside])
    again = sample_patients(wild, range(64), sampler)
    assert all(torch.equal(a, b) for a, b in zip(vars(again).values(), vars(sample).values(), strict=True))
    apart = [sample_patients(wild, range(i, i + 1), sampler) for i in range(8)]  # whoever else is rejected
    assert torch.equal(torch.cat([s.attempts for s in apart]), sample.attempts[:8])
    torch.testing.assert_close(torch.cat([s.x_dynamic for s in apart]), sample.x_dynamic[:8])


def test_a_patient_that_is_always_rejected_is_named() -> None:
    def never(x_static: Tensor, x_dynamic: Tensor, t: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(x_static), torch.full_like(x_dynamic, 1e3)

    with pytest.raises(ReleaseError, match=r"3 patients \(5, 6, 7\) left the range of the training data 101 times"):
        sample_patients(never, range(5, 8), sampler_of(guardrail=FILTER))


def test_times_beyond_the_record_are_seen_by_the_network_alone() -> None:
    lengths: set[int] = set()

    def model(x_static: Tensor, x_dynamic: Tensor, t: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        lengths.add(x_dynamic.shape[2])
        return zero(x_static, x_dynamic, t, given)

    sample = sample_patients(model, range(2), replace(sampler_of(), length=LENGTH + 3))
    assert lengths == {LENGTH + 3} and sample.x_dynamic.shape == (2, 4, LENGTH)


def test_blocks_follow_on() -> None:
    assert [block_range(number, 16) for number in range(2)] == [range(16), range(16, 32)]
    assert block_range(3) == range(768, 1024)
