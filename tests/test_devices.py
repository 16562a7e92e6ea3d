"""Generation and training on every device that there is: a GPU makes what the CPU makes, but for roundings."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hg3.diffusion.loss import Model
from hg3.release.plan import Request, Source, make_plan, open_source
from hg3.release.writer import make_block
from hg3.sampling.generate import Sample, sample_patients
from tests import runs
from tests.devices import CPU, DEVICES, WAITS, Called
from tests.runs import make_run
from tests.training.cases import make_tiny_trainer

one_thread = runs.one_thread
ASKED = Request(16, seed=3, steps=5, block_patients=16)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


def sampled(source: Source, model: Model | None = None) -> Sample:
    sampler = source.sampler(make_plan(source, ASKED))
    return sample_patients(model or source.network, range(ASKED.patients), sampler)


@DEVICES
def test_a_block_is_the_cpus_but_for_roundings(run: Path, device: torch.device) -> None:
    """The noise is the same to the bit; convolutions add up in another order, which may tip a code over."""
    here, there = sampled(open_source(run, CPU)), sampled(open_source(run, device))
    assert torch.equal(here.attempts, there.attempts)
    for one, other in ((here.x_static, there.x_static), (here.x_dynamic, there.x_dynamic)):
        assert other.device == CPU and torch.isfinite(other).all()
        assert ((one - other).abs() < 0.05).float().mean() > 0.98


@DEVICES
def test_a_block_is_made_alike_twice(run: Path, device: torch.device) -> None:
    made = []
    for _ in range(2):
        source = open_source(run, device)
        plan = make_plan(source, ASKED)
        made.append(make_block(source, source.sampler(plan), plan, 0, ASKED.patients))
    one, other = made
    assert one.table.num_rows >= ASKED.patients and one.table.equals(other.table)
    assert one.counts == other.counts and one.counts["attempts"] == ASKED.patients


@DEVICES
def test_no_step_of_generation_waits_for_the_device(run: Path, device: torch.device) -> None:
    """From one call of the network to the last: the host has nothing to read, and no number to send."""
    source, called, moments = open_source(run, device), Called(), list[int]()

    def watched(x_static: Tensor, x_dynamic: Tensor, t: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        moments.append(len(called.names))
        if device.type == "cuda" and len(moments) in (2, ASKED.steps):  # the network's own first call may set up
            torch.cuda.set_sync_debug_mode("error" if len(moments) == 2 else "default")
        answer: tuple[Tensor, Tensor] = source.network(x_static, x_dynamic, t, given)
        return answer

    try:
        with called:
            sampled(source, watched)
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert len(moments) == ASKED.steps
    between = called.names[moments[0] : moments[-1]]
    assert between.count("hg3::reverse_step_") == 2 * (len(moments) - 1)
    assert WAITS.intersection(between) == set()


@DEVICES
def test_an_update_moves_the_weights_and_their_average(device: torch.device) -> None:
    trainer = make_tiny_trainer({"training.precision": "auto"}, device=device)
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    told = [trainer.step() for _ in range(3)]
    assert all(math.isfinite(value) for entry in told for value in entry.values())
    assert trainer.progress.update == 3 and trainer.progress.skipped == 0
    for network in (trainer.model, trainer.ema):
        moved = [not torch.equal(weight, before[name]) for name, weight in network.named_parameters()]
        assert sum(moved) > 0.9 * len(moved)
        assert {weight.device.type for weight in network.parameters()} == {device.type}


@DEVICES
def test_an_update_reads_from_the_device_once(device: torch.device) -> None:
    """Loss and norm together; a value by itself, as float() takes it, would wait each time."""
    trainer = make_tiny_trainer(device=device)
    trainer.step()
    with Called() as called:
        trainer.step()
    assert "aten::_local_scalar_dense" not in called.names
