"""The plan of a release: everything that its bytes are a function of."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import torch

from hg3 import __version__
from hg3.errors import ConfigError, ReleaseError
from hg3.extension import implementation
from hg3.release.conditions import Value, check_balance, resolve_where
from hg3.release.manifest import FORMAT
from hg3.sampling.compiled import check_choice, compile_network, compiler
from hg3.sampling.generate import BLOCK_PATIENTS, Sampler
from hg3.sampling.solvers import SamplerTable, sampler_table
from hg3.training.budget import privacy_statement
from hg3.training.checkpoint import (
    Recipe,
    best_checkpoint,
    checkpoint_hash,
    read_recipe,
    read_state,
    read_tensors,
)
from hg3.training.device import device_model, resolve_precision

PART_BLOCKS = 8  # blocks a Parquet part: 2,048 patients
MOST_PATIENTS = 2**40
ENVIRONMENT = ("versions", "device", "precision", "implementation", "compile")  # what else equal bytes need


@dataclass(frozen=True)
class Source:
    """A checkpoint opened for sampling; `compile` says how its network is compiled, with what, or is "none".

    privacy : what a private training says of itself, see `hg3.training.budget.Budget.statement`; None of any other.
    """

    checkpoint: Path
    recipe: Recipe
    network: torch.nn.Module
    device: torch.device
    compile: str = "none"
    privacy: dict[str, Any] | None = None

    def table(self, solver: str, steps: int, eta: float | None) -> SamplerTable:
        """Return the sampler's table on the checkpoint's own schedule."""
        return sampler_table(solver, self.recipe.build_schedule(), steps, eta)

    def sampler(self, plan: Mapping[str, Any]) -> Sampler:
        """Return how the patients of `plan` are made."""
        asked, preset, encoder = plan["sampler"], self.recipe.preset, self.recipe.encoder
        table = self.table(asked["solver"], asked["steps"], asked["eta"])
        length = self.recipe.network_length
        return Sampler(encoder.layout, preset.heads, preset.sampling, table, length, plan["seed"], self.device)


@dataclass(frozen=True)
class Request:
    """What is asked of a run: so many patients, of a seed; where None, solver and steps are the preset's.

    where : static values that all patients have; balance : a static category whose codes get equal shares.
    """

    patients: int
    seed: int = 0
    solver: str | None = None
    steps: int | None = None
    eta: float | None = None
    where: Mapping[str, Value] = field(default_factory=dict)
    balance: str | None = None
    block_patients: int = BLOCK_PATIENTS
    part_blocks: int = PART_BLOCKS


def open_source(run: Path, device: torch.device, compile: str = "none") -> Source:
    """Return the best checkpoint of `run` with its averaged weights, every file checked against its hash.

    With `compile` "default", its network is compiled when it is first called.

    Raises
    ------
    Hg3Error
        If the run cannot be read, or its network cannot be compiled.
    """
    checkpoint = best_checkpoint(run)
    recipe = read_recipe(checkpoint)
    network = recipe.build_network()
    try:
        network.load_state_dict(read_tensors(checkpoint / "ema.safetensors"))
    except RuntimeError:
        raise ReleaseError(f"{checkpoint} holds weights of another network than its config.toml; restore it") from None
    network = network.to(device).eval()
    check_choice(compile, recipe.preset.sampling.range_filter)
    privacy = privacy_statement(read_state(checkpoint), recipe.preset)
    if compile == "none":
        return Source(checkpoint, recipe, network, device, privacy=privacy)
    return Source(checkpoint, recipe, compile_network(network), device, f"{compile}, {compiler(device)}", privacy)


def make_plan(source: Source, asked: Request) -> dict[str, Any]:
    """Return the plan of a release: everything that its bytes are a function of.

    Raises
    ------
    ConfigError
        If the count, the seed, the sampler or the condition is not possible.
    """
    if not 1 <= asked.patients <= MOST_PATIENTS:
        raise ConfigError(f"{asked.patients} patients were asked for; a release holds 1 to 2^40")
    if not 0 <= asked.seed < 2**63:
        raise ConfigError(f"seed {asked.seed} was given; a seed is a whole number from 0 to 2^63 - 1")
    preset, usual = source.recipe.preset, source.recipe.preset.sampling
    table = source.table(
        usual.solver if asked.solver is None else asked.solver,
        usual.steps if asked.steps is None else asked.steps,
        asked.eta,
    )
    where = resolve_where(asked.where, source.recipe.encoder)
    if asked.balance is not None:
        check_balance(asked.balance, where, source.recipe.encoder)
    if (where or asked.balance is not None) and not preset.training.condition:
        raise ConfigError("the run was trained with training.condition = 0, so its network cannot be given anything")
    return {
        "format": FORMAT,
        "name": source.recipe.schema.name,
        "title": source.recipe.schema.title,
        "step": source.recipe.schema.step,
        "length": source.recipe.schema.length,
        "preset": preset.name,
        "checkpoint": checkpoint_hash(source.checkpoint),
        "patients": asked.patients,
        "seed": asked.seed,
        "where": where,
        "balance": asked.balance,
        "sampler": {
            "solver": table.solver,
            "steps": len(table.times),
            "eta": asked.eta,
            "times": table.times.tolist(),
            "rows": table.rows.tolist(),
            **({} if usual.decode == "argmax" else {"decode": usual.decode}),
        },
        "block": asked.block_patients,
        "part_blocks": asked.part_blocks,
        **({} if source.privacy is None else {"privacy": source.privacy}),
        **environment(source),
    }


def environment(source: Source) -> dict[str, Any]:
    """Return what equal bytes need beside the plan: software, device model, precision, implementation, compilation."""
    versions = {"hg3": __version__, "torch": torch.__version__, "pyarrow": pyarrow.__version__}
    versions |= {"numpy": numpy.__version__, "scipy": version("scipy")}
    driver = _driver_version() if source.device.type == "cuda" else None
    container = os.environ.get("APPTAINER_NAME") or os.environ.get("SINGULARITY_NAME")
    return {
        "versions": versions,
        "device": {
            "type": source.device.type,
            "model": device_model(source.device),
            "driver": driver,
            "container": container,
        },
        "precision": resolve_precision(source.recipe.preset.training.precision, source.device),
        "implementation": _implementation(source.device),
        "compile": source.compile,
    }


def _implementation(device: torch.device) -> str:
    """Return which implementation makes a release: of the steps on `device`, and of the decoding on the host."""
    step, decode = implementation("reverse_step", device), implementation("decode", torch.device("cpu"))
    return step if step == decode else f"{step}, decode by {decode}"


def _driver_version() -> str | None:
    """Return the version line of the NVIDIA kernel driver, which torch does not tell."""
    try:
        return Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return None


def environment_differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return which entries of the environment differ between two plans, in words."""
    return [f"{key} is {other[key]!r} instead of {one[key]!r}" for key in ENVIRONMENT if one[key] != other[key]]


def n_parts(plan: dict[str, Any]) -> int:
    """Return the number of Parquet parts of a plan."""
    per_part = plan["block"] * plan["part_blocks"]
    return int(-(-plan["patients"] // per_part))


def part_name(part: int) -> str:
    return f"data/part-{part:05d}.parquet"
