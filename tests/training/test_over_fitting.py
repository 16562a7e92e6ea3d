"""A network that memorises, for real: what the attack sees of it, when training stops, and which weights generate."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hg3.table.split import split_patients
from hg3.training.checkpoint import best_checkpoint, checkpoints, read_state
from tests.table.cases import make_table
from tests.training.cases import Inputs, make_inputs, tiny_train

pytestmark = pytest.mark.slow
N_PATIENTS = 60  # 36 train, 9 validate: few enough to be known by heart
MANY = 1500
ABLE = {"network.width": "32", "training.batch": "16", "training.learning_rate": "3e-3", "training.ema": "0.99"}
DEAF = {"training.patience": "1000"}  # to validation, so that it goes on until everybody is known by heart


def entries(run: Path) -> list[dict[str, Any]]:
    """Return what the run's validations said, in order."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry for entry in map(json.loads, lines) if "validation" in entry]


@pytest.fixture(scope="module")
def inputs_of_noise(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Columns of which nothing is to be learnt but who has which."""
    return make_inputs(tmp_path_factory.mktemp("noise"), make_table(N_PATIENTS))


@pytest.fixture(scope="module")
def memorised(one_thread: None, inputs_of_noise: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("memorised") / "run"
    assert tiny_train(inputs_of_noise, run, updates=MANY, changes=ABLE | DEAF)
    return run


def test_training_stops_by_itself(one_thread: None, inputs_of_noise: Inputs, tmp_path: Path) -> None:
    assert tiny_train(inputs_of_noise, tmp_path / "run", updates=MANY, changes=ABLE)
    stopped = read_state(checkpoints(tmp_path / "run")[-1])
    assert stopped["update"] < MANY == stopped["total"]
    assert read_state(best_checkpoint(tmp_path / "run"))["update"] < stopped["update"]


def test_the_attack_tells_who_was_trained_on(memorised: Path) -> None:
    found = entries(memorised)
    assert found[0]["attack"] < 0.7 and found[-1]["attack"] > 0.9
    assert found[-1]["attack"] > found[-1]["attack_limit"]


def test_weights_from_before_generate(memorised: Path) -> None:
    best, last = read_state(best_checkpoint(memorised)), read_state(checkpoints(memorised)[-1])
    assert best["update"] < last["update"]
    assert best["attack"] <= best["attack_limit"] < last["attack"]
    allowed = [entry["validation"] for entry in entries(memorised) if entry["attack"] <= entry["attack_limit"]]
    assert best["validation"] == min(allowed)


def twice(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the table with the records of its training patients given to all others, too: nothing tells them apart."""
    ids = table["id"].unique()
    split = split_patients(len(ids), seed)
    records = {patient: rows for patient, rows in table.groupby("id")}
    own = [records[patient] for patient in ids[split.train]]
    others = [own[number % len(own)].assign(id=patient) for number, patient in enumerate(ids[~split.train])]
    return pd.concat([*own, *others], ignore_index=True).sort_values(["id", "month"])


@pytest.mark.parametrize("seed", range(3))
def test_the_attack_finds_nobody_among_people_who_are_alike(seed: int, tmp_path: Path) -> None:
    inputs: Inputs = make_inputs(tmp_path, twice(make_table(N_PATIENTS, seed=seed), seed))
    assert tiny_train(inputs, tmp_path / "run", updates=300, changes=ABLE, seed=seed)
    found = entries(tmp_path / "run")
    assert all(entry["attack"] <= entry["attack_limit"] for entry in found)
