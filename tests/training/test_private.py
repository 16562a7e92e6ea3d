"""A private training: who is sampled, what is added, what it keeps to itself, and that its accounting goes on."""

import json
import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from hg3 import disk
from hg3.errors import ConfigError, SchemaError, TableError
from hg3.table.schema import CONTINUES
from hg3.training.checkpoint import TEXT_FILES, best_checkpoint, checkpoints, read_state, read_tensors
from hg3.training.private import independent_draw
from hg3.training.run import train
from hg3.training.trainer import Trainer
from tests.table.cases import make_schema, make_table
from tests.training.cases import (
    N_PATIENTS,
    TINY,
    Inputs,
    at_update,
    make_inputs,
    make_private_inputs,
    make_private_trainer,
    private_columns,
    tiny_train,
    weight_hashes,
)

pytest.importorskip("opacus")
PRIVATE = {"encoding.scaling": "standard", "privacy.epsilon": "8", "training.checkpoint_every": "5"}
UPDATES = 20


@pytest.fixture(scope="module")
def private_inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_private_inputs(tmp_path_factory.mktemp("private"))


@pytest.fixture(scope="module")
def private_run(one_thread: None, private_inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished private run of 20 updates, not to be changed."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert tiny_train(private_inputs, out, UPDATES, PRIVATE)
    return out


# One update.


def test_each_patient_is_sampled_on_their_own() -> None:
    trainer, n, rate, draws = make_private_trainer(), 24, 8 / 24, 3000
    counts, sizes = np.zeros(n), np.zeros(draws)
    for number in range(draws):
        chosen = trainer._sampled().numpy()
        counts[chosen] += 1
        sizes[number] = len(chosen)
    # Binomial counts and sizes, six deviations: the sampling has no seed to choose.
    assert np.abs(counts - draws * rate).max() < 6 * math.sqrt(draws * rate * (1 - rate))
    variance = n * rate * (1 - rate)
    assert abs(sizes.mean() - n * rate) < 6 * math.sqrt(variance / draws)
    assert sizes.var() == pytest.approx(variance, rel=0.2)  # a batch of fixed size has none
    observed = np.bincount(sizes.astype(int), minlength=n + 1)
    expected = stats.binom(n, rate).pmf(np.arange(n + 1)) * draws
    usual = expected > 5
    assert stats.chisquare(observed[usual], expected[usual] * observed[usual].sum() / expected[usual].sum())[1] > 1e-6


@pytest.mark.parametrize(("noise_multiplier", "clip"), [(1.0, 1.0), (3.0, 0.25)])
def test_the_noise_has_the_stated_deviation(noise_multiplier: float, clip: float) -> None:
    trainer = make_private_trainer(noise_multiplier=noise_multiplier, clip=clip)
    total = torch.arange(40_000, dtype=torch.float32).reshape(200, 200)
    added = (trainer._noised(total) * 8 - total).double()  # the expected size of a sample is 8
    assert float(added.std()) == pytest.approx(noise_multiplier * clip, rel=0.03)
    assert abs(float(added.mean())) < 6 * noise_multiplier * clip / 200
    assert not torch.equal(trainer._noised(total), trainer._noised(total))


def test_an_update_is_made_of_the_clipped_sum_and_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise it is the sum of at most `clip` a patient over the expected size of a sample."""
    trainer = make_private_trainer(noise_multiplier=1e-9, clip=0.01)
    monkeypatch.setattr(trainer, "_sampled", lambda: torch.arange(12))
    given: list[float] = []
    monkeypatch.setattr(trainer.optimizer, "step", lambda: given.append(gradient_norm(trainer)))
    trainer.step()
    assert 0 < given[0] <= 12 * 0.01 / 8 * (1 + 1e-4)
    monkeypatch.setattr(trainer, "_sampled", lambda: torch.arange(0))
    trainer.step()
    assert given[1] < 1e-6 and trainer.progress.update == 2  # an update, though nobody was in it


def gradient_norm(trainer: Trainer) -> float:
    return float(torch.cat([w.grad.flatten() for w in trainer.model.parameters() if w.grad is not None]).norm())


def test_all_weights_get_noise() -> None:
    trainer = make_private_trainer()
    trainer.step()
    for name, weight in trainer.model.named_parameters():
        assert weight.grad is not None and bool((weight.grad != 0).all()), name


def test_times_are_drawn_for_each_patient_alone() -> None:
    """The usual ones are spread over the batch, so that a patient's own depends on how many there are."""
    trainer = make_private_trainer()
    batch = trainer.train.select(torch.zeros(6000).long(), torch.device("cpu"))
    noise, uniform = independent_draw(batch, 20, 0.2)
    counts = torch.bincount(noise.t, minlength=20).numpy()
    assert stats.chisquare(counts).pvalue > 1e-6 and counts.std() > 4  # spread times have a deviation below 1
    assert len(counts) == 20
    for eps in (noise.eps_static, noise.eps_dynamic):
        assert abs(float(eps.mean())) < 0.05 and float(eps.std()) == pytest.approx(1.0, abs=0.02)
    observed = batch.observed_static
    assert not (noise.given & ~observed).any()
    assert float(noise.given[observed].float().mean()) == pytest.approx(0.1, abs=0.02)  # 1/2 of a share of 0.2
    assert all(float(part.min()) >= 0 and float(part.max()) <= 1 for part in uniform)


def test_a_seed_makes_the_first_weights_and_nothing_after_them() -> None:
    one, other = make_private_trainer(seed=5), make_private_trainer(seed=5)
    first = {name: weight.clone() for name, weight in one.model.state_dict().items()}
    for name, weight in other.model.state_dict().items():
        assert torch.equal(weight, first[name])
    for trainer in (one, other):
        trainer.progress.total = 10
        trainer.step()
    for name, weight in one.model.named_parameters():
        gradient = other.model.get_parameter(name).grad
        assert weight.grad is not None and gradient is not None and not torch.equal(weight.grad, gradient), name


def test_there_are_no_validation_patients_to_decide_anything() -> None:
    trainer = make_private_trainer()
    assert len(trainer.train) == 24 and len(trainer.validation) == 0 and not trainer.validates


def test_a_private_preset_is_never_trained_without_a_budget() -> None:
    from hg3.training.run import Prepared, make_trainer

    recipe = make_private_trainer().recipe
    with pytest.raises(AssertionError):
        make_trainer(Prepared(recipe, None, {}, None, None), 0, torch.device("cpu"))  # type: ignore[arg-type]


# A run.


def test_what_a_private_run_holds(private_run: Path) -> None:
    names = {path.name for path in private_run.iterdir()} - {".lock"}
    assert names == {*TEXT_FILES, "checkpoints", "metrics.jsonl", "private.json", "split.json"}
    listed = disk.read_json(private_run / "private.json", "a run")
    assert listed.keys() == {"split.json", "checkpoints/"}
    for line in (private_run / "metrics.jsonl").read_text().splitlines():
        assert json.loads(line).keys() == {"update", "total", "skipped", "learning_rate", "epsilon"}
    assert [path.name for path in checkpoints(private_run)] == ["step-000020"]


def test_what_is_reported_is_what_the_accountant_says(private_run: Path) -> None:
    from opacus.accountants import RDPAccountant

    state = read_state(best_checkpoint(private_run))
    said = state["privacy"]
    assert (said["patients"], said["batch"], said["sample_rate"], said["made_updates"]) == (24, 8, 8 / 24, UPDATES)
    accountant = RDPAccountant()
    for _ in range(UPDATES):
        accountant.step(noise_multiplier=said["noise_multiplier"], sample_rate=said["sample_rate"])
    assert said["epsilon"] == pytest.approx(accountant.get_epsilon(said["delta"]), rel=2e-2)
    assert 7.98 < said["epsilon"] <= said["asked"] == 8.0
    assert said["delta"] <= 1 / 24
    assert math.isinf(state["validation"]) and math.isinf(state["best_validation"])
    assert state["precision"] == "float32"
    lines = (private_run / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["epsilon"] == said["epsilon"]


def test_the_private_weights_learn_something(private_run: Path) -> None:
    tensors = read_tensors(best_checkpoint(private_run) / "ema.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
    assert tensors["down_blocks.0.conv_out.weight"].any()  # which begin as zeros


def test_files_of_two_tables_of_one_schema_are_equal(private_run: Path, tmp_path: Path) -> None:
    """Whatever is in them: other values, codes, gaps, lengths; nothing of a table is in anything but the weights."""
    other = make_table(N_PATIENTS, seed=9)
    other = other[other["month"] < 4]
    other = other.assign(VL=np.nan, drug=3, height=101.5)
    inputs = make_inputs(tmp_path, other, make_schema(private_columns(), name="tiny"))
    tiny_train(inputs, tmp_path / "run", UPDATES, PRIVATE)
    for folder in (Path(), Path("checkpoints/step-000020")):
        for name in TEXT_FILES:
            assert (tmp_path / "run" / folder / name).read_bytes() == (private_run / folder / name).read_bytes(), name
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (private_run / "metrics.jsonl").read_bytes()
    one, two = (read_state(best_checkpoint(run)) for run in (tmp_path / "run", private_run))
    assert {key for key in one if one[key] != two[key]} == {"files", "seal"}
    tensors = ("ema.safetensors", "model.safetensors", "optimizer.safetensors")
    assert {name for name in one["files"] if one["files"][name] != two["files"][name]} == set(tensors)


def test_nothing_of_the_table_is_said(tmp_path: Path) -> None:
    table = make_table(N_PATIENTS)
    table.loc[3, "CD4"] = 9999.0  # outside the bounds: clipped, of which the usual training tells the count
    columns = [c | ({"out_of_bounds": "clip"} if c["name"] == "CD4" else {}) for c in private_columns()]
    inputs = make_inputs(tmp_path, table, make_schema(columns, name="tiny"))
    said: list[str] = []
    entries: list[dict[str, Any]] = []
    tiny_train(inputs, tmp_path / "usual", updates=1, warn=said.append)
    assert any("CD4" in sentence for sentence in said)
    said.clear()
    tiny_train(inputs, tmp_path / "run", 1, PRIVATE, warn=said.append, report=entries.append)
    assert said == []
    assert entries[0].keys() == {"update", "total", "skipped", "learning_rate", "epsilon"}


CANARIES = {"VL": 8_765_432.25, "CD4": 4321.0, "height": 217.3}


def test_a_canary_is_nowhere_in_a_run(tmp_path: Path) -> None:
    """The extremes of their columns, inside the bounds, in one training patient."""
    table = make_table(N_PATIENTS)
    inputs = make_inputs(tmp_path, table, make_schema(private_columns(), name="tiny"))
    tiny_train(inputs, tmp_path / "first", 1)
    patient = disk.read_json(tmp_path / "first" / "split.json", "a run")["patients"]["train"][2]
    rows = table.index[table["id"] == int(patient)]
    for name, value in CANARIES.items():
        table.loc[rows if name == "height" else rows[:1], name] = value
    inputs = make_inputs(tmp_path, table, make_schema(private_columns(), name="tiny"))
    tiny_train(inputs, tmp_path / "run", UPDATES, PRIVATE)
    spelt = [f"{value:.{digits}f}" for value in CANARIES.values() for digits in (1, 2)] + ["4321", "8765432", "217.3"]
    binary = [np.array(value, kind).tobytes() for value in CANARIES.values() for kind in ("<f4", "<f8")]
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [text for text in spelt if text.encode() in content], path.name
            assert not [word for word in binary if word in content], path.name


# Stopping and going on.


def test_accounting_goes_on_after_a_stop(private_inputs: Inputs, private_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stop = at_update(7, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert not tiny_train(private_inputs, out, UPDATES, PRIVATE, report=stop)
    before = read_state(best_checkpoint(out))
    assert before["update"] == before["privacy"]["made_updates"] == 7
    assert 0 < before["privacy"]["epsilon"] < 8.0
    entries: list[dict[str, Any]] = []
    assert train(private_inputs.table, out, resume=True, report=entries.append)
    assert [entry["update"] for entry in entries] == list(range(8, UPDATES + 1))
    spent = [before["privacy"]["epsilon"], *(entry["epsilon"] for entry in entries)]
    assert spent == sorted(spent) and len(set(spent)) == len(spent)
    after, whole = read_state(best_checkpoint(out))["privacy"], read_state(best_checkpoint(private_run))["privacy"]
    assert after == whole  # stopping costs nothing, and gives nothing back
    assert weight_hashes(best_checkpoint(out)) != weight_hashes(best_checkpoint(private_run))
    assert train(private_inputs.table, out, resume=True)  # it is at its end
    assert read_state(best_checkpoint(out))["privacy"] == after


def test_noise_is_not_used_again_after_a_resume(private_inputs: Inputs, tmp_path: Path) -> None:
    out, ended = tmp_path / "run", list[dict[str, str]]()
    stop = at_update(5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert not tiny_train(private_inputs, out, UPDATES, PRIVATE, report=stop)
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    for run in (out, copy):
        train(private_inputs.table, run, resume=True)
        ended.append(weight_hashes(best_checkpoint(run)))
    assert ended[0] != ended[1]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"updates": 40}, "noise was made for 20 updates and 40 were asked for"),
        ({"updates": 10}, "noise was made for 20 updates and 10 were asked for"),
        ({"changes": {"training.batch": "4"}}, r"noise was made for training\.batch 8, not 4"),
        ({"changes": {"privacy.epsilon": "9"}}, r"a resumed run keeps its own privacy\.epsilon"),
        ({"changes": {"privacy.clip": "2"}}, r"a resumed run keeps its own privacy\.clip"),
        ({"changes": {"training.precision": "bfloat16"}}, "a private training computes in float32"),
    ],
)
def test_a_resume_cannot_spend_otherwise(
    private_inputs: Inputs, private_run: Path, given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        train(private_inputs.table, private_run, resume=True, **given)


# What is refused, with nothing left behind.


@pytest.mark.parametrize(
    ("changes", "given", "sentence"),
    [
        ({}, {"updates": None, "minutes": 1.0}, "needs its length in updates beforehand"),
        ({"privacy.delta": "0.05"}, {}, r"privacy\.delta is 0\.05 and there are 24 training patients"),
        ({"training.precision": "float16"}, {}, "computes in float32"),
        ({"privacy.epsilon": "inf"}, {}, r"privacy\.epsilon: Input should be a finite number"),
        ({"privacy.clip": "0"}, {}, r"privacy\.clip: Input should be greater than 0"),
    ],
)
def test_what_cannot_be_private_is_refused(
    private_inputs: Inputs, tmp_path: Path, changes: dict[str, str], given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        tiny_train(private_inputs, tmp_path / "run", changes=PRIVATE | changes, **{"updates": 3, **given})
    assert list(tmp_path.iterdir()) == []


def test_the_published_network_is_refused(private_inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"privacy is for network\.kind hg3, and it is health-gym-v3"):
        train(
            private_inputs.table,
            tmp_path / "run",
            private_inputs.schema,
            "health-gym-v3",
            {"encoding.scaling": "standard", "privacy.epsilon": "8"},
            updates=1,
        )


def test_a_schema_that_leaves_something_to_the_data_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(
        SchemaError, match="schema alone, and in 'tiny' column 'height' has no finite bounds; state them"
    ):
        tiny_train(inputs, tmp_path / "run", 3, PRIVATE)
    assert list(tmp_path.iterdir()) == []


def test_a_column_without_a_value_is_no_reason_to_refuse(tmp_path: Path) -> None:
    """For that would tell of the one patient who has one."""
    table = make_table(N_PATIENTS).assign(VL=np.nan)
    inputs = make_inputs(tmp_path, table, make_schema(private_columns(), name="tiny"))
    with pytest.raises(TableError, match="column 'VL' has no usable cell"):
        tiny_train(inputs, tmp_path / "usual", 2)
    assert tiny_train(inputs, tmp_path / "run", 1, PRIVATE)


def test_records_may_be_known_to_be_complete(private_inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"privacy\.complete says that every record has a row at each of the 6 times"):
        tiny_train(private_inputs, tmp_path / "run", 1, {**PRIVATE, "privacy.complete": "true"})
    table = pd.concat([make_table(1, seed=seed).assign(id=seed) for seed in range(N_PATIENTS)])
    inputs = make_inputs(tmp_path, table, make_schema(private_columns(), name="tiny"))
    tiny_train(inputs, tmp_path / "run", 1, {**PRIVATE, "privacy.complete": "true"})
    assert CONTINUES not in (tmp_path / "run" / "encoder.json").read_text()
    train(inputs.table, tmp_path / "run", resume=True)


def test_the_shipped_preset_is_private(tmp_path: Path) -> None:
    inputs = make_private_inputs(tmp_path / "inputs")
    small = {key: TINY[key] for key in ("schedule.steps", "network.width", "network.heads", "training.batch")}
    train(inputs.table, tmp_path / "run", inputs.schema, "hg3-private", small, updates=1)
    assert read_state(best_checkpoint(tmp_path / "run"))["privacy"]["asked"] == 8.0
