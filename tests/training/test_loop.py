"""The loop: resumable at any update to the bit, deaf to bad losses, and as long as it was told to be."""

import copy
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hg3.diffusion.loss import denoising_loss
from hg3.errors import TrainingError
from hg3.training import loop
from hg3.training.checkpoint import best_checkpoint, checkpoints, read_state, read_tensors
from hg3.training.loop import run_updates
from hg3.training.run import train
from hg3.training.trainer import MOST_SKIPPED, Trainer, generator_for, learning_rate
from hg3.training.validation import Validation
from tests.training.cases import UPDATES, Inputs, make_run_folder, make_tiny_trainer, tiny_train, weight_hashes

ROOT = Path(__file__).parents[2]
DENOISING_LOSS = "hg3.training.trainer.denoising_loss"


def ignore(entry: dict[str, Any]) -> None:
    torch.rand(1)  # the stream that all torch programs share must not matter


def run_to_the_end(trainer: Trainer, folder: Path) -> None:
    assert run_updates(trainer, folder, ignore, UPDATES, None)


def all_tensors(trainer: Trainer) -> dict[str, Tensor]:
    """Return copies of everything that an update may change."""
    parts = {"model": trainer.model.state_dict(), "ema": trainer.ema.state_dict(), "adam": trainer._optimizer_tensors()}
    return {f"{part} {name}": t.clone() for part, tensors in parts.items() for name, t in tensors.items()}


def assert_equal_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


# In the warm-up, at a validation, right before the end; before the first update of all.
@pytest.mark.parametrize(
    ("at", "precision"),
    [(3, "float32"), (10, "float32"), (UPDATES - 1, "float32"), (0, "float32"), (10, "bfloat16"), (10, "float16")],
)
def test_stopped_and_resumed_is_as_if_never_stopped(at: int, precision: str, tmp_path: Path) -> None:
    changes = {"training.precision": precision}
    whole = make_tiny_trainer(changes)
    run_to_the_end(whole, make_run_folder(whole, tmp_path / "whole"))
    stopped = make_tiny_trainer(changes)
    folder = make_run_folder(stopped, tmp_path / "stopped")
    assert not run_updates(stopped, folder, ignore, UPDATES, None, lambda: stopped.progress.update == at)
    resumed = make_tiny_trainer(changes)
    assert resumed.restore(checkpoints(folder.parent)[-1]) == []
    assert resumed.progress.update == at
    run_to_the_end(resumed, folder)
    assert_equal_bits(all_tensors(resumed), all_tensors(whole))
    assert resumed.progress == whole.progress
    assert resumed.scaler.state_dict() == whole.scaler.state_dict()


@pytest.mark.parametrize(
    ("name", "at", "when", "status", "kept"),
    [
        ("SIGTERM", 3, (), 130, 3),
        ("SIGUSR1", 10, (), 130, 10),
        ("SIGKILL", 20, ("writing",), -9, 10),
        ("SIGKILL", 20, ("written",), -9, 20),
    ],
)
def test_a_real_signal_then_a_resume_is_as_if_never_stopped(
    name: str, at: int, when: tuple[str], status: int, kept: int, inputs: Inputs, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    program = [sys.executable, "-m", "tests.training.interrupted", *map(str, (inputs.table, inputs.schema, run))]
    assert subprocess.run([*program, name, str(at), *when], cwd=ROOT, timeout=120).returncode == status
    assert checkpoints(run)[-1].name == f"step-{kept:06d}"
    assert bool(list(run.rglob(".hg3-tmp-*"))) == (when == ("writing",))
    warnings: list[str] = []
    assert train(inputs.table, run, resume=True, updates=UPDATES, warn=warnings.append)
    assert warnings == []
    assert weight_hashes(checkpoints(run)[-1]) == weight_hashes(checkpoints(finished)[-1])
    assert (run / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()
    assert not list(run.rglob(".hg3-tmp-*"))


def test_another_thread_count_is_told(tmp_path: Path) -> None:
    trainer = make_tiny_trainer()
    checkpoint = trainer.save(tmp_path)
    torch.set_num_threads(2)
    try:
        warnings = make_tiny_trainer().restore(checkpoint)
    finally:
        torch.set_num_threads(1)
    assert len(warnings) == 1 and "threads 1 and goes on with 2" in warnings[0]


def test_the_loss_decreases() -> None:
    trainer = make_tiny_trainer({"training.learning_rate": "3e-3"})
    before = trainer.validate()
    losses = [trainer.step()["loss"] for _ in range(300)]
    assert np.mean(losses[-20:]) < 0.9 * np.mean(losses[:20])
    assert trainer.validate().loss < 0.9 * before.loss


def test_the_seed_makes_the_weights() -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        trainer = make_tiny_trainer(seed=seed)
        for _ in range(3):
            trainer.step()
        return all_tensors(trainer)

    assert_equal_bits(weights(1), weights(1))
    one, other = weights(1), weights(2)
    assert not torch.equal(one["model enter.weight"], other["model enter.weight"])


def test_each_update_has_its_own_noise() -> None:
    cpu = torch.device("cpu")
    draws = [torch.rand(4, generator=generator_for(cpu, seed, update)) for seed in (0, 1) for update in (0, 1, 2)]
    assert len({tuple(d.tolist()) for d in draws}) == 6
    assert torch.equal(draws[4], torch.rand(4, generator=generator_for(cpu, 1, 1)))


@pytest.mark.parametrize(
    ("update", "warmup", "total", "share"),
    [
        (0, 10, 110, 0.1),
        (4, 10, 110, 0.5),
        (9, 10, 110, 1.0),
        (10, 10, 110, 1.0),
        (60, 10, 110, 0.505),  # half-way: the middle of 1 and 0.01
        (35, 10, 110, 0.01 + 0.99 * (1 + math.sqrt(0.5)) / 2),
        (110, 10, 110, 0.01),
        (500, 10, 110, 0.01),
        (4, 10, None, 0.5),
        (40, 10, None, 1.0),
        (0, 0, 100, 1.0),
        (0, 0, None, 1.0),
        (3, 10, 5, 0.4),  # a training that ends within its warm-up
        (10, 10, 10, 1.0),
    ],
)
def test_learning_rate(update: int, warmup: int, total: int | None, share: float) -> None:
    assert learning_rate(update, 2e-3, warmup, total) == pytest.approx(2e-3 * share, rel=1e-12)


def test_the_optimiser_gets_that_rate() -> None:
    trainer = make_tiny_trainer()
    trainer.progress.total = UPDATES
    for update in range(8):
        entry = trainer.step()
        assert entry["learning_rate"] == learning_rate(update, 1e-3, 6, UPDATES)
        assert {group["lr"] for group in trainer.optimizer.param_groups} == {entry["learning_rate"]}


def first(model: torch.nn.Module) -> Tensor:
    return dict(model.named_parameters())["enter.weight"]


def test_the_average_follows_its_formula() -> None:
    trainer = make_tiny_trainer({"training.ema": "0.3"})
    expected = first(trainer.ema).double().clone()
    for update in range(6):
        trainer.step()
        decay = min(0.3, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * first(trainer.model).detach().double()
    torch.testing.assert_close(first(trainer.ema).double(), expected, rtol=0, atol=1e-6)
    assert not torch.equal(first(trainer.ema), first(trainer.model))


def test_gradients_are_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    trainer = make_tiny_trainer({"training.clip": "0.01"})

    def step(*_: Any) -> None:
        gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
        norms.append(float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))))

    monkeypatch.setattr(trainer.scaler, "step", step)
    assert trainer.step()["gradient_norm"] > 0.1  # as it was
    assert norms == [pytest.approx(0.01, rel=1e-3)]


def test_each_epoch_is_a_permutation_of_the_patients() -> None:
    trainer = make_tiny_trainer()  # 24 patients in batches of 8
    epochs = []
    for epoch in range(3):
        batches = [trainer._batch_index(3 * epoch + place) for place in range(3)]
        epochs.append(torch.cat(batches).tolist())
        assert sorted(epochs[-1]) == list(range(24))
    assert epochs[0] != epochs[1] != epochs[2]


def test_no_patient_comes_twice_where_the_batch_does_not_divide_them() -> None:
    trainer = make_tiny_trainer({"training.batch": "7"})
    for epoch in range(4):
        seen = torch.cat([trainer._batch_index(3 * epoch + place) for place in range(3)]).tolist()
        assert len(seen) == 21 == len(set(seen))


def test_validation_does_not_vary() -> None:
    trainer = make_tiny_trainer()
    trainer.step()
    loss = trainer.validate()
    other = make_tiny_trainer(seed=5)  # other weights, which are then replaced
    torch.rand(3)
    assert other.validate() != loss
    other.ema.load_state_dict(trainer.ema.state_dict())
    assert trainer.validate() == loss == other.validate()


def test_validation_looks_at_the_average_alone() -> None:
    trainer = make_tiny_trainer()
    loss = trainer.validate()
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(1.0)
    assert trainer.validate() == loss


@pytest.mark.parametrize(("precision", "enabled"), [("float32", False), ("bfloat16", False), ("float16", True)])
def test_the_loss_is_scaled_in_float16_alone(precision: str, enabled: bool) -> None:
    trainer = make_tiny_trainer({"training.precision": precision})
    assert trainer.scaler.is_enabled() == enabled
    entry = trainer.step()
    assert trainer.progress.skipped == 0 and math.isfinite(entry["loss"])
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())


def bad_losses(kind: str, when: Callable[[], bool]) -> Callable[..., Tensor]:
    """Return a denoising loss that is not finite (`kind` gradient: whose gradient is not) whenever `when` says so."""
    honest = denoising_loss

    def loss(model: Any, *rest: Any) -> Tensor:
        value = honest(model, *rest)
        if not when():
            return value
        if kind == "gradient":
            return value + (0.0 * next(model.parameters())).sqrt().sum()  # the slope of the root is infinite at 0
        return value * float(kind)

    return loss


@pytest.mark.parametrize("kind", ["nan", "inf", "gradient"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_an_update_that_is_not_finite_is_skipped(kind: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_tiny_trainer({"training.precision": precision})
    monkeypatch.setattr(DENOISING_LOSS, bad_losses(kind, lambda: trainer.progress.update == 2))
    trainer.step(), trainer.step()
    before = all_tensors(trainer)
    entry = trainer.step()
    assert not (math.isfinite(entry["loss"]) and math.isfinite(entry["gradient_norm"]))
    assert_equal_bits(all_tensors(trainer), before)
    progress = trainer.progress
    assert (progress.update, progress.skipped, progress.skipped_in_a_row) == (3, 1, 1)
    trainer.step()
    assert (progress.update, progress.skipped, progress.skipped_in_a_row) == (4, 1, 0)
    assert not torch.equal(all_tensors(trainer)["model enter.weight"], before["model enter.weight"])


def test_float16_lowers_its_scale_after_an_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_tiny_trainer({"training.precision": "float16"})
    scale = trainer.scaler.get_scale()
    monkeypatch.setattr(DENOISING_LOSS, bad_losses("inf", lambda: trainer.progress.update == 0))
    trainer.step()
    assert trainer.scaler.get_scale() == scale / 2


def test_twenty_bad_updates_in_a_row_end_training_and_spare_the_checkpoint(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    calls: list[dict[str, Any]] = []
    with monkeypatch.context() as patch:
        patch.setattr(DENOISING_LOSS, bad_losses("nan", lambda: len(calls) >= 15))
        with pytest.raises(TrainingError, match=r"not finite in 20 updates in a row, up to update 35; the last good"):
            tiny_train(inputs, run, updates=60, report=calls.append)
    assert calls[-1]["update"] == 15 + MOST_SKIPPED - 1 and calls[-1]["skipped"] == MOST_SKIPPED - 1
    assert not list(run.rglob(".hg3-tmp-*"))
    state = read_state(checkpoints(run)[-1])
    assert (state["update"], state["skipped"], state["skipped_in_a_row"]) == (10, 0, 0)  # none within the bad ones
    for line in (run / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # NaN is not JSON
    assert train(inputs.table, run, resume=True, changes={"training.learning_rate": "1e-4"})
    state = read_state(checkpoints(run)[-1])
    assert (state["update"], state["skipped"], state["skipped_in_a_row"]) == (60, 0, 0)


def test_nineteen_bad_updates_in_a_row_are_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_tiny_trainer()
    good = {MOST_SKIPPED - 1, 2 * MOST_SKIPPED - 1}
    monkeypatch.setattr(DENOISING_LOSS, bad_losses("nan", lambda: trainer.progress.update not in good))
    for _ in range(2 * MOST_SKIPPED):
        trainer.step()
    assert trainer.progress.skipped == 2 * (MOST_SKIPPED - 1)


def test_a_training_whose_last_update_was_skipped_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_tiny_trainer()
    folder = make_run_folder(trainer, tmp_path / "run")
    monkeypatch.setattr(DENOISING_LOSS, bad_losses("nan", lambda: trainer.progress.update == 6))
    assert run_updates(trainer, folder, ignore, 7, None)
    state = read_state(checkpoints(folder.parent)[-1])
    assert (state["update"], state["total"], state["skipped_in_a_row"]) == (7, 7, 1)


def with_validations(
    trainer: Trainer, losses: list[float], monkeypatch: pytest.MonkeyPatch, attacks: Iterable[float] = repeat(0.5)
) -> None:
    """Make validations return `losses` and `attacks`, one after the other."""
    left = map(Validation, losses, attacks)
    monkeypatch.setattr(trainer, "validate", lambda: next(left))


def test_training_stops_when_validation_no_longer_improves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"training.validate_every": "5", "training.patience": "2"}
    trainer = make_tiny_trainer(changes)
    folder = make_run_folder(trainer, tmp_path / "run")
    with_validations(trainer, [3.0, 2.0, 2.5, 1.0, 1.0, 1.5], monkeypatch)
    assert run_updates(trainer, folder, ignore, 100, None)
    assert trainer.progress.update == 30
    assert [p.name for p in checkpoints(folder.parent)] == ["step-000020", "step-000030"]
    assert best_checkpoint(folder.parent).name == "step-000020"
    resumed = make_tiny_trainer(changes)
    resumed.restore(checkpoints(folder.parent)[-1])
    assert run_updates(resumed, folder, lambda entry: pytest.fail("it was over"), None, None)


def test_weights_that_give_their_patients_away_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_tiny_trainer({"training.validate_every": "5", "training.patience": "2"})
    folder = make_run_folder(trainer, tmp_path / "run")
    assert trainer.largest_rise == pytest.approx(0.1339, abs=1e-4)
    with_validations(trainer, [3.0, 2.0, 1.0, 0.5, 0.1], monkeypatch, [0.48, 0.61, 0.62, 0.7, 0.9])
    told: list[dict[str, Any]] = []
    assert run_updates(trainer, folder, told.append, 100, None)
    assert trainer.progress.update == 20  # validation still improved
    assert best_checkpoint(folder.parent).name == "step-000010"
    assert trainer.progress.best_validation == 2.0
    found = [(entry["attack"], entry["attack_limit"]) for entry in told if "attack" in entry]
    assert found == [(attack, 0.48 + trainer.largest_rise) for attack in (0.48, 0.61, 0.62, 0.7)]
    resumed = make_tiny_trainer()
    resumed.restore(checkpoints(folder.parent)[-1])
    assert resumed.progress == trainer.progress


def test_patients_who_are_easy_from_the_first_give_nobody_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_tiny_trainer({"training.validate_every": "5", "training.patience": "2"})
    folder = make_run_folder(trainer, tmp_path / "run")
    with_validations(trainer, [math.nan, 3.0, 2.0], monkeypatch, [0.2, 0.8, 0.82])
    assert run_updates(trainer, folder, ignore, 15, None)
    assert best_checkpoint(folder.parent).name == "step-000015"


def test_an_attack_on_the_training_patients_themselves_finds_nothing() -> None:
    trainer = make_tiny_trainer()
    trainer.validation = trainer.train
    assert trainer.validate().attack == 0.5


def test_the_attack_finds_who_was_memorised() -> None:
    """24 patients, over 300 times each. The untrained network finds them easier, too: what counts is the rise."""
    trainer = make_tiny_trainer({"network.width": "32", "training.learning_rate": "3e-3", "training.ema": "0.9"})
    before = trainer.validate().attack
    for _ in range(1000):
        trainer.step()
    assert trainer.validate().attack > before + trainer.largest_rise


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_validation_that_is_not_finite_is_no_progress(
    bad: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_tiny_trainer({"training.validate_every": "5"})
    folder = make_run_folder(trainer, tmp_path / "run")
    with_validations(trainer, [bad, 2.0, bad, 1.0], monkeypatch)
    assert run_updates(trainer, folder, ignore, 20, None)
    assert trainer.progress.best_validation == 1.0
    assert best_checkpoint(folder.parent).name == "step-000020"


def test_checkpoints_between_validations(tmp_path: Path) -> None:
    trainer = make_tiny_trainer({"training.checkpoint_every": "4"})
    folder = make_run_folder(trainer, tmp_path / "run")
    seen: dict[int, list[str]] = {}

    def look(entry: dict[str, Any]) -> None:
        seen[entry["update"]] = [p.name for p in checkpoints(folder.parent)]

    run_updates(trainer, folder, look, 18, None)
    assert seen[4] == [] and seen[5] == ["step-000004"] and seen[9][-1] == "step-000008"
    assert seen[13] == ["step-000010", "step-000012"]  # the best by validation, and the last
    assert read_state(folder / "step-000018")["validation"] == trainer.progress.best_validation


def test_what_is_told_of_an_update_is_secured_before_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_tiny_trainer({"training.checkpoint_every": "4"})
    folder, events, save = make_run_folder(trainer, tmp_path / "run"), list[str](), trainer.save

    def saved(place: Path) -> Path:
        events.append(f"save {trainer.progress.update}")
        return save(place)

    monkeypatch.setattr(trainer, "save", saved)
    stopped = iter([False] * 11)
    assert not run_updates(
        trainer,
        folder,
        lambda entry: events.append(f"tell {entry['update']}"),
        UPDATES,
        None,
        lambda: next(stopped, True),
        lambda: events.append("secure"),
    )
    wanted = [f"tell {update}" for update in range(1, 12)] + ["secure", "save 11"]
    for update in (10, 8, 4):  # a validation, and two that are none
        wanted[update:update] = ["secure", f"save {update}"]
    assert events == wanted


class FakeClock:
    """A clock on which updates take 2 s, the first five 100 s, and a validation 10 s."""

    def __init__(self, trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.steps = 5_000.0, 0
        step, validate = trainer.step, trainer.validate

        def slow_step() -> dict[str, float]:
            self.steps += 1
            self.now += 100.0 if self.steps <= 5 else 2.0
            return step()

        def slow_validate() -> Validation:
            self.now += 10.0
            return validate()

        monkeypatch.setattr(trainer, "step", slow_step)
        monkeypatch.setattr(trainer, "validate", slow_validate)
        monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: self.now))


# An hour, less 5 * 100 + 45 * 2 + 10 s for the first 50 updates, at 2 s each and 10 s every 75th: 25 epochs.
TOTAL_OF_AN_HOUR = 50 + int(3000 / (2 + 10 / 75))
RARE = {"training.validate_every": "1000"}


def test_minutes_fix_the_total_after_fifty_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_tiny_trainer(RARE)
    folder = make_run_folder(trainer, tmp_path / "run")
    FakeClock(trainer, monkeypatch)
    entries: list[dict[str, Any]] = []
    assert not run_updates(trainer, folder, entries.append, None, 60.0, lambda: trainer.progress.update == 53)
    assert [e["total"] for e in entries] == [None] * 50 + [TOTAL_OF_AN_HOUR] * 3
    # A kill right after the 50th update loses nothing: the total is written as soon as it is known.
    for name in ("step-000050", "step-000053"):
        assert read_state(folder / name)["total"] == TOTAL_OF_AN_HOUR
    resumed = make_tiny_trainer(RARE)
    resumed.restore(folder / "step-000050")
    FakeClock(resumed, monkeypatch)
    run_updates(resumed, folder, entries.append, None, 1.0, lambda: resumed.progress.update == 120)
    assert entries[-1]["total"] == TOTAL_OF_AN_HOUR
    assert entries[-1]["learning_rate"] == learning_rate(119, 1e-3, 6, TOTAL_OF_AN_HOUR)


@pytest.mark.parametrize("at", [30, 50])
def test_minutes_count_anew_where_the_total_was_not_fixed(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_tiny_trainer(RARE)
    folder = make_run_folder(trainer, tmp_path / "run")
    assert not run_updates(trainer, folder, ignore, None, 60.0, lambda: trainer.progress.update == at)
    resumed = make_tiny_trainer(RARE)
    resumed.restore(checkpoints(folder.parent)[-1])
    FakeClock(resumed, monkeypatch)
    assert not run_updates(resumed, folder, ignore, None, 60.0, lambda: resumed.progress.update == at + 51)
    # The validation at update 75 took 10 s of the hour, and is no part of what an update takes.
    assert resumed.progress.total == at + 50 + int(2990 / (2 + 10 / 75))


def test_minutes_too_few_still_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_tiny_trainer(RARE)
    folder = make_run_folder(trainer, tmp_path / "run")
    FakeClock(trainer, monkeypatch)
    assert run_updates(trainer, folder, ignore, None, 0.1)
    assert trainer.progress.update == trainer.progress.total == 51
    assert best_checkpoint(folder.parent).name == "step-000051"


def test_updates_on_a_resume_set_another_total(inputs: Inputs, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert tiny_train(inputs, run)
    assert train(inputs.table, run, resume=True, updates=UPDATES + 5)
    assert read_state(checkpoints(run)[-1])["update"] == UPDATES + 5
    assert read_state(checkpoints(finished)[-1])["total"] == UPDATES


def test_the_saved_average_is_the_average(tmp_path: Path) -> None:
    trainer = make_tiny_trainer()
    trainer.step()
    saved = read_tensors(trainer.save(tmp_path) / "ema.safetensors")
    assert_equal_bits(saved, copy.deepcopy(trainer.ema.state_dict()))


def test_the_total_of_minutes_is_not_saved_with_unsound_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_tiny_trainer()
    FakeClock(trainer, monkeypatch)
    monkeypatch.setattr(loop, "TIMED_UPDATES", 6)
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(torch.nan)
    with pytest.raises(TrainingError):
        run_updates(trainer, tmp_path, ignore, None, 10.0)
    assert checkpoints(tmp_path.parent) == [] or not any(tmp_path.iterdir())


def test_more_updates_go_on_after_an_early_stop(tmp_path: Path) -> None:
    trainer = make_tiny_trainer({"training.patience": "1"})
    trainer.progress.total, trainer.progress.validations_without_progress = 4, 1
    run_updates(trainer, tmp_path, ignore, 6, None)
    assert trainer.progress.update > 0
