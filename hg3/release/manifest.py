"""What made a release: the plan, which fixes every byte of it, and the manifest, which adds what came out."""

import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy
import pyarrow
import torch
from pydantic import BaseModel, Field, ValidationError

from hg3 import __version__, disk
from hg3.errors import ConfigError, ReleaseError, RunError
from hg3.sampling.generate import BLOCK_PATIENTS
from hg3.sampling.ops import IMPLEMENTATION
from hg3.sampling.solvers import SamplerTable, sampler_table
from hg3.training.checkpoint import Recipe, best_checkpoint, checkpoint_hash, read_recipe, read_tensors
from hg3.training.device import device_model, resolve_precision

FORMAT = 1
PART_BLOCKS = 8  # blocks a Parquet part: 2,048 patients
MOST_PATIENTS = 2**40
SUMS = "SHA256SUMS"
TEXTS = ("CARD.md", "croissant.json", "dictionary.csv", "manifest.json", "schema.toml")  # beside the parts
UNSUMMED = (SUMS, "provenance.json", "certificate.json")  # they vary between makings, or seal themselves
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


def read_manifest(release: Path) -> dict[str, Any]:
    """Return the manifest of a complete release.

    Raises
    ------
    ReleaseError
        If the folder is no release, is not complete, or has a newer format.
    """
    if (release / "incomplete").exists():
        raise ReleaseError(f"{release} is not complete; call hg3 generate again with the same arguments to go on")
    if not (release / "manifest.json").is_file():
        raise ReleaseError(f"{release} is not a release of hg3: it holds no manifest.json")
    try:
        manifest = disk.read_json(release / "manifest.json", "a release of hg3")
    except RunError as error:
        raise ReleaseError(str(error)) from None
    written = manifest.get("format") if isinstance(manifest, dict) else None
    if isinstance(written, int) and written > FORMAT:
        raise ReleaseError(f"{release} has format {written} and this hg3 reads up to {FORMAT}; update hg3")
    try:
        _Manifest.model_validate(manifest, strict=True)
    except ValidationError:
        raise ReleaseError(
            f"{release / 'manifest.json'} is altered: it is not a manifest of hg3; get the release anew"
        ) from None
    return manifest


class _Part(BaseModel):
    """What a manifest says of a part, as far as it is read."""

    file: str
    sha256: str
    first_patient: int
    patients: int = Field(ge=1)
    rows: int = Field(ge=1)


class _Sampler(BaseModel):
    solver: str
    steps: int
    times: list[int]
    rows: list[list[float]]


class _Manifest(BaseModel):
    """A manifest, as far as it is read; whether it speaks the truth is for verify to find out."""

    format: int
    checkpoint: str
    patients: int
    rows: int
    seed: int = Field(ge=0, lt=2**63)
    sampler: _Sampler
    block: int = Field(ge=1)
    part_blocks: int = Field(ge=1)
    versions: dict[str, str]
    device: dict[str, str | None]
    precision: Literal["float32", "bfloat16", "float16"]
    implementation: str
    compile: str
    mixed: list[dict[str, Any]]
    parts: list[_Part] = Field(min_length=1)
