"""Tiny trainings for tests: a second or less each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from hg3.config import load_preset
from hg3.disk import sha256_of
from hg3.table.checks import checked_cohort
from hg3.table.encoding import encode, fit_encoder
from hg3.table.schema import TableSchema
from hg3.table.schema_encoding import encoder_of_schema
from hg3.table.split import split_patients
from hg3.training.budget import Budget
from hg3.training.checkpoint import TENSOR_FILES, Recipe
from hg3.training.private import PrivateTrainer
from hg3.training.run import Prepared, make_trainer, train
from hg3.training.trainer import Trainer
from tests.table.cases import make_schema, make_table, tiny_columns

CPU = torch.device("cpu")
N_PATIENTS = 40  # 24 train, 6 validate, 10 are held out
UPDATES = 30
TINY = {
    "schedule.steps": "20",
    "network.width": "8",
    "network.heads": "2",
    "network.levels": "1",
    "training.batch": "8",
    "training.warmup": "6",
    "training.validate_every": "10",
    "training.precision": "float32",
}


@dataclass(frozen=True)
class Inputs:
    """A table and its schema, as files."""

    table: Path
    schema: Path


def make_inputs(folder: Path, table: pd.DataFrame | None = None, schema: TableSchema | None = None) -> Inputs:
    """Write the tiny table and its schema, or the given ones, into `folder`."""
    inputs = Inputs(folder / "table.csv", folder / "schema.toml")
    (make_table(N_PATIENTS) if table is None else table).to_csv(inputs.table, index=False)
    inputs.schema.write_text((schema or make_schema(tiny_columns(), name="tiny")).to_toml(), encoding="utf-8")
    return inputs


def tiny_train(
    inputs: Inputs,
    out: Path,
    updates: int | None = UPDATES,
    changes: dict[str, str] | None = None,
    **arguments: Any,
) -> bool:
    """Train a fresh tiny run for `updates`."""
    changes = TINY | (changes or {})
    return train(inputs.table, out, inputs.schema, changes=changes, updates=updates, **arguments)


def make_tiny_trainer(changes: dict[str, str] | None = None, seed: int = 0, device: torch.device = CPU) -> Trainer:
    """Return a trainer on the tiny table, split with seed 0, without a run folder."""
    cohort, _ = checked_cohort(make_table(N_PATIENTS), make_schema(tiny_columns(), name="tiny"))
    split = split_patients(cohort.n_patients, 0)
    encoder, _ = fit_encoder(cohort, split.train)
    recipe = Recipe(load_preset("hg3", TINY | (changes or {})), cohort.schema, encoder)
    prepared = Prepared(recipe, split, {}, cohort, encode(cohort, encoder))
    return make_trainer(prepared, seed, device)


def private_columns() -> list[dict[str, Any]]:
    """Return the tiny columns with the bounds that a private training wants of all reals."""
    return [column | ({"bounds": [100.0, 220.0]} if column["name"] == "height" else {}) for column in tiny_columns()]


def make_private_inputs(folder: Path, seed: int = 0) -> Inputs:
    """Write a tiny table of that seed, and its schema with bounds, into `folder`."""
    folder.mkdir(exist_ok=True)
    return make_inputs(folder, make_table(N_PATIENTS, seed=seed), make_schema(private_columns(), name="tiny"))


def make_private_trainer(changes: dict[str, str] | None = None, seed: int = 0, **budget: Any) -> PrivateTrainer:
    """Return a private trainer on the tiny table without a run folder; its budget needs no accountant.

    budget : what to change of it.
    """
    schema = make_schema(private_columns(), name="tiny")
    cohort, _ = checked_cohort(make_table(N_PATIENTS), schema)
    split = split_patients(cohort.n_patients, 0)
    encoder, _ = encoder_of_schema(schema)
    recipe = Recipe(load_preset("hg3", TINY | {"privacy.epsilon": "8"} | (changes or {})), schema, encoder)
    prepared = Prepared(recipe, split, {}, cohort, encode(cohort, encoder))
    plan: dict[str, Any] = {"asked": 8.0, "delta": 1e-3, "clip": 1.0, "noise_multiplier": 1.0, "batch": 8}
    plan |= {"sample_rate": 8 / 24, "updates": UPDATES, "patients": 24}
    made = make_trainer(prepared, seed, torch.device("cpu"), Budget(**plan | budget))
    assert isinstance(made, PrivateTrainer)
    return made


def make_run_folder(trainer: Trainer, run: Path) -> Path:
    """Make `run` with the trainer's recipe and return the folder of its checkpoints."""
    run.mkdir()
    trainer.recipe.write(run)
    return run / "checkpoints"


def weight_hashes(checkpoint: Path) -> dict[str, str]:
    """Return the SHA-256 of weights, their average and the optimiser's state."""
    return {name: sha256_of(checkpoint / name) for name in TENSOR_FILES}


def at_update(number: int, act: Callable[[], None]) -> Callable[[dict[str, Any]], None]:
    """Return a report that acts once update `number` is made."""

    def report(entry: dict[str, Any]) -> None:
        if entry["update"] == number:
            act()

    return report
