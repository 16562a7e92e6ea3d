"""Checkpoints: weights in safetensors, the rest TOML and JSON, whole or absent, able to decode on their own."""

import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from hg3 import disk
from hg3.config import Preset, parse_preset
from hg3.diffusion.health_gym_v3 import PublishedUNet
from hg3.diffusion.schedule import Schedule, schedule_of
from hg3.diffusion.unet import UNet
from hg3.errors import Hg3Error, RunError
from hg3.layout import Layout
from hg3.table.encoding import Encoder
from hg3.table.schema import TableSchema, parse_schema
from hg3.training.validation import Validation

FORMAT = 1
TENSOR_FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors")
TEXT_FILES = ("config.toml", "schema.toml", "encoder.json")
LOSSES = ("validation", "best_validation")
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Recipe:
    """What a checkpoint needs beside its weights: preset, schema and encoder."""

    preset: Preset
    schema: TableSchema
    encoder: Encoder

    @property
    def network_length(self) -> int:
        """The times that the network sees: those of the layout, or more where the preset pads."""
        config = self.preset.network
        return config.pad_to if config.kind == "health-gym-v3" else self.encoder.layout.length

    def build_network(self) -> UNet | PublishedUNet:
        """Return the network of this recipe with fresh weights."""
        return make_network(self.encoder.layout, self.preset)

    def build_schedule(self) -> Schedule:
        """Return the noise schedule of this recipe."""
        return schedule_of(self.preset)

    def write(self, folder: Path) -> None:
        """Write config.toml, schema.toml and encoder.json into `folder`."""
        disk.write_text(folder / "config.toml", self.preset.to_toml())
        disk.write_text(folder / "schema.toml", self.schema.to_toml())
        disk.write_json(folder / "encoder.json", self.encoder.to_dict())


def make_network(layout: Layout, preset: Preset) -> UNet | PublishedUNet:
    """Return the network of a preset for a layout, with fresh weights."""
    kind = PublishedUNet if preset.network.kind == "health-gym-v3" else UNet
    return kind(layout, schedule_of(preset), preset.network)


def read_recipe(folder: Path) -> Recipe:
    """Return the recipe in `folder`, a run or a checkpoint.

    Raises
    ------
    Hg3Error
        If a file is missing or does not parse.
    """
    texts = {}
    for name in ("config.toml", "schema.toml"):
        try:
            texts[name] = (folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise RunError(f"{folder} holds no readable {name}, so it is not a run or a checkpoint of hg3") from None
    schema = parse_schema(texts["schema.toml"], str(folder / "schema.toml"))
    try:
        encoder = Encoder.from_dict(disk.read_json(folder / "encoder.json", "a run of hg3"), schema)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, Hg3Error):
            raise
        raise RunError(f"{folder / 'encoder.json'} is altered: it does not fit its schema; restore it") from None
    return Recipe(parse_preset(texts["config.toml"], str(folder / "config.toml"), {}), schema, encoder)


def save_checkpoint(
    folder: Path, recipe: Recipe, model: Tensors, ema: Tensors, optimizer: Tensors, state: dict[str, Any]
) -> Path:
    """Write one checkpoint below `folder`, named after state["update"], and return its path.

    The folder is filled under a temporary name, flushed and renamed. An equal checkpoint already there stays.
    """
    target = folder / f"step-{state['update']:06d}"
    folder.mkdir(exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=disk.TEMPORARY_PREFIX, dir=folder))
    try:
        recipe.write(temporary)
        for name, tensors in zip(TENSOR_FILES, (model, ema, optimizer), strict=True):
            with disk.atomic_path(temporary / name) as path:
                # not save_file: what it raises on a full disk is no OSError
                path.write_bytes(save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}))
        hashes = {name: disk.sha256_of(temporary / name) for name in (*TEXT_FILES, *TENSOR_FILES)}
        losses = {key: None if math.isinf(state[key]) else state[key] for key in LOSSES}
        content = {"format": FORMAT, "files": hashes, **state, **losses}
        disk.write_sealed(temporary / "state.json", content)
        if not (target / "state.json").is_file() or checkpoint_hash(target) != checkpoint_hash(temporary):
            disk.replace_folder(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


class _NewerError(RunError):
    """A checkpoint is of a newer hg3."""


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return state.json of a checkpoint after comparing every file with its recorded hash.

    Raises
    ------
    RunError
        If a file is missing or altered, or the checkpoint was written by a newer hg3.
    """
    path = checkpoint / "state.json"
    state = disk.read_json(path, "a checkpoint of hg3")
    written = state.get("format") if isinstance(state, dict) else None
    if isinstance(written, int) and written > FORMAT:
        raise _NewerError(f"{checkpoint} has format {written} and this hg3 reads up to {FORMAT}; update hg3")
    if not disk.is_sealed(state):
        raise RunError(f"{path} is truncated or altered: its seal does not fit; restore it")
    for name in (*TEXT_FILES, *TENSOR_FILES):
        path = checkpoint / name
        if not path.is_file():
            raise RunError(f"{checkpoint} lacks {name}; restore it or resume from another checkpoint")
        if disk.sha256_of(path) != state["files"].get(name):
            raise RunError(f"{path} is truncated or altered: its SHA-256 is not the recorded one; restore it")
    return {**state, **{key: _number(state.get(key)) for key in LOSSES}}


def _number(loss: float | None) -> float:
    """JSON has no infinity: a loss that was never measured is null there."""
    return math.inf if loss is None else loss


def read_tensors(path: Path) -> Tensors:
    """Return the tensors of a safetensors file.

    Raises
    ------
    RunError
        If it is not one.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} is not a readable safetensors file ({type(error).__name__}); restore it") from None


def checkpoint_hash(checkpoint: Path) -> str:
    """Return the SHA-256 that names a checkpoint: of state.json, which holds the hashes of all its files."""
    return disk.sha256_of(checkpoint / "state.json")


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    found = (p for p in (run / "checkpoints").glob("step-*") if p.is_dir())
    return sorted(found, key=lambda path: (len(path.name), path.name))  # a millionth update has seven digits


def set_damaged_aside(run: Path) -> list[str]:
    """Rename the damaged checkpoints of a run, which then goes on from the last sound one; return a warning of each.

    Nothing is done where none is sound, nor to one of a newer hg3. Only the holder of the folder's lock may call it.
    """
    damage = {path: problem for path in checkpoints(run) if (problem := _damage(path))}
    sound = [path for path in checkpoints(run) if path not in damage]
    if not sound:
        return []
    for path in damage:
        disk.replace_folder(path, path.with_name(f"damaged-{path.name}"))
    return [
        f"{problem.partition(';')[0]}; {path.name} is now called damaged-{path.name}, and the run goes on from "
        f"{sound[-1].name}"
        for path, problem in damage.items()
    ]


def _damage(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint, None if it is sound or this hg3 is too old to say."""
    try:
        read_state(checkpoint)
    except _NewerError:
        return None
    except RunError as error:
        return str(error)
    return None


def check_is_run(run: Path) -> None:
    """Refuse a folder that is no run.

    Raises
    ------
    RunError
        If it holds no config.toml.
    """
    if not (run / "config.toml").is_file():
        raise RunError(f"{run} is not a run of hg3: it holds no config.toml; give the folder that hg3 train made")


def best_checkpoint(run: Path) -> Path:
    """Return the checkpoint of `run` that validation ranks best, or the last, if the preset keeps that.

    Raises
    ------
    RunError
        If the folder is no run, or has no checkpoint yet.
    """
    check_is_run(run)
    found = checkpoints(run)
    if not found:
        raise RunError(f"{run} has no checkpoint yet; train it first (hg3 train TABLE --out {run} --resume)")
    if read_recipe(found[-1]).preset.keeps_last:
        read_state(found[-1])
        return found[-1]
    return min(found, key=_rank)  # of equals, the oldest


def _rank(checkpoint: Path) -> tuple[bool, float]:
    state = read_state(checkpoint)
    limit = state.get("attack_limit")  # an older hg3 attacked nobody
    return Validation(state["validation"], state.get("attack", 0.5), 1.0 if limit is None else limit).rank
