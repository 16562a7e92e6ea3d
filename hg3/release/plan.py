"""The plan of a release: everything that its bytes are a function of."""

import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import torch

from hg3 import __version__
from hg3.errors import ConfigError, ReleaseError
from hg3.release.manifest import FORMAT
from hg3.sampling.generate import BLOCK_PATIENTS
from hg3.sampling.ops import IMPLEMENTATION
from hg3.sampling.solvers import SamplerTable, sampler_table
from hg3.training.checkpoint import Recipe, best_checkpoint, checkpoint_hash, read_recipe, read_tensors
from hg3.training.device import device_model, resolve_precision

PART_BLOCKS = 8  # blocks a Parquet part: 2,048 patients
MOST_PATIENTS = 2**40
ENVIRONMENT = ("versions", "device", "precision", "implementation", "compile")  # what else equal bytes need


@dataclass(frozen=True)
class Source:
    """A checkpoint opened for sampling."""

    checkpoint: Path
    recipe: Recipe
    network: torch.nn.Module
    device: torch.device

    def sampler(self, solver: str, steps: int) -> SamplerTable:
        """Return the sampler's table on the checkpoint's own schedule."""
        return sampler_table(solver, self.recipe.build_schedule(), steps)


def open_source(run: Path, device: torch.device) -> Source:
    """Return the best checkpoint of `run` with its averaged weights, every file checked against its hash."""
    checkpoint = best_checkpoint(run)
    recipe = read_recipe(checkpoint)
    network = recipe.build_network()
    try:
        network.load_state_dict(read_tensors(checkpoint / "ema.safetensors"))
    except RuntimeError:
        raise ReleaseError(f"{checkpoint} holds weights of another network than its config.toml; restore it") from None
    return Source(checkpoint, recipe, network.to(device).eval(), device)


def make_plan(
    source: Source,
    patients: int,
    seed: int,
    solver: str | None,
    steps: int | None,
    block_patients: int = BLOCK_PATIENTS,
    part_blocks: int = PART_BLOCKS,
) -> dict[str, Any]:
    """Return the plan of a release: everything that its bytes are a function of.

    Raises
    ------
    ConfigError
        If the count, the seed, the solver or the steps are not possible.
    """
    if not 1 <= patients <= MOST_PATIENTS:
        raise ConfigError(f"{patients} patients were asked for; a release holds 1 to 2^40")
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed {seed} was given; a seed is a whole number from 0 to 2^63 - 1")
    preset, usual = source.recipe.preset, source.recipe.preset.sampling
    table = source.sampler(usual.solver if solver is None else solver, usual.steps if steps is None else steps)
    return {
        "format": FORMAT,
        "name": source.recipe.schema.name,
        "title": source.recipe.schema.title,
        "step": source.recipe.schema.step,
        "length": source.recipe.schema.length,
        "preset": preset.name,
        "checkpoint": checkpoint_hash(source.checkpoint),
        "patients": patients,
        "seed": seed,
        "sampler": {
            "solver": table.solver,
            "steps": len(table.times),
            "times": table.times.tolist(),
            "rows": table.rows.tolist(),
        },
        "block": block_patients,
        "part_blocks": part_blocks,
        **environment(source),
    }


def environment(source: Source) -> dict[str, Any]:
    """Return what equal bytes need beside the plan: software, device model, precision, implementation."""
    versions = {"hg3": __version__, "torch": torch.__version__, "pyarrow": pyarrow.__version__}
    versions |= {"numpy": numpy.__version__, "scipy": version("scipy")}
    driver = torch.version.cuda if source.device.type == "cuda" else None
    container = os.environ.get("APPTAINER_NAME") or os.environ.get("SINGULARITY_NAME")
    return {
        "versions": versions,
        "device": {
            "type": source.device.type,
            "model": device_model(source.device),
            "cuda": driver,
            "container": container,
        },
        "precision": resolve_precision(source.recipe.preset.training.precision, source.device),
        "implementation": IMPLEMENTATION,
        "compile": "none",
    }


def environment_differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return which entries of the environment differ between two plans, in words."""
    return [f"{key} is {other[key]!r} instead of {one[key]!r}" for key in ENVIRONMENT if one[key] != other[key]]


def n_parts(plan: dict[str, Any]) -> int:
    """Return the number of Parquet parts of a plan."""
    per_part = plan["block"] * plan["part_blocks"]
    return int(-(-plan["patients"] // per_part))


def part_name(part: int) -> str:
    return f"data/part-{part:05d}.parquet"
