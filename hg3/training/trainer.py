"""One training: network, weights' average, optimiser, patients; an update, a validation, a checkpoint of it.

The randomness of update u is a function of (seed, u), so that a checkpoint needs no generator states.
"""

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from hg3.diffusion.health_gym_v3 import published_draw, published_losses
from hg3.diffusion.loss import (
    Batch,
    CellLosses,
    denoising_cells,
    denoising_loss,
    draw,
    draw_at,
    draw_uniform,
    mean_of_columns,
    mean_of_patients,
)
from hg3.errors import RunError, TrainingError
from hg3.training.checkpoint import Recipe, read_state, read_tensors, save_checkpoint
from hg3.training.device import autocast, resolve_precision
from hg3.training.distributed import Processes
from hg3.training.validation import (
    DRAWS,
    Validation,
    attack_auc,
    largest_rise,
    n_draws,
    spread,
    updates_between,
)

MOST_SKIPPED = 20
FINAL_LEARNING_RATE = 0.01  # of the highest, at the end of the cosine decay


@dataclass
class Progress:
    """Where a training stands; everything of state.json but the tensors."""

    update: int = 0
    total: int | None = None
    skipped: int = 0
    skipped_in_a_row: int = 0
    validation: float = math.inf
    attack: float = 0.5
    attack_limit: float | None = None  # is known after the first validation
    best_validation: float = math.inf
    validations_without_progress: int = 0

    def found(self) -> Validation:
        """Return what the last validation said."""
        return Validation(self.validation, self.attack, 1.0 if self.attack_limit is None else self.attack_limit)


@dataclass
class Trainer:
    """One training: network, weights' average, optimiser, and the encoded patients it learns from.

    Parameters
    ----------
    train, validation : encoded patients, on `device` if they fit.
    """

    recipe: Recipe
    train: Batch
    validation: Batch
    seed: int
    device: torch.device
    progress: Progress = field(default_factory=Progress)
    processes: Processes = field(default_factory=Processes)
    validates: ClassVar[bool] = True  # whether a validation loss decides when to stop and which weights are kept

    def __post_init__(self) -> None:
        config, private = self.recipe.preset.training, self.recipe.preset.privacy is not None
        torch.manual_seed(self.seed)
        self.model = self.recipe.build_network().to(self.device)
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.precision = resolve_precision("float32" if private else config.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "float16")
        self.schedule = self.recipe.build_schedule()

    def step(self) -> dict[str, float]:
        """Make one update and return its loss, gradient norm and learning rate; skip it if the loss is not finite."""
        update, config = self.progress.update, self.recipe.preset.training
        batch = self.train.select(self._batch_index(update), self.device)
        rate = self._set_learning_rate()
        loss = self._loss(self.model, batch, generator_for(self.device, self.seed, update))
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        loss = self.processes.sum_gradients(self.model.parameters(), loss)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        loss_value, norm_value = torch.stack([loss.detach(), norm]).tolist()  # both in one wait for the device
        finite = math.isfinite(loss_value) and math.isfinite(norm_value)
        if finite:
            self.scaler.step(self.optimizer)
            self._average(update)
        self.scaler.update()
        self._count(finite)
        return {"loss": loss_value, "gradient_norm": norm_value, "learning_rate": rate}

    @property
    def attacks(self) -> bool:
        """Whether validation attacks the weights; the published loss is of a batch and of no patient alone."""
        return self.recipe.preset.loss.kind != "health-gym-v3"

    @property
    def largest_rise(self) -> float:
        """How far the attack's AUC may rise above that of the first validation."""
        return largest_rise(len(spread(len(self.train))), len(self.validation))

    @property
    def validate_every(self) -> int:
        """After how many updates to validate."""
        config = self.recipe.preset.training
        return updates_between(config.validate_every, len(self.train), config.batch)

    def validate(self) -> Validation:
        """Return what the averaged weights do on validation patients, at times and noise that never change."""
        with torch.inference_mode():
            found = self._validate() if self.attacks else self._validate_published()
        return Validation(*map(self.processes.of_leader, found))

    def _validate(self) -> Validation:
        own, n = self.train.select(spread(len(self.train)), self.device), n_draws(len(self.validation))
        cap = self.recipe.preset.loss.column_cap
        held = [self._cells(self.validation, number, n) for number in range(n)]
        loss = sum(float(mean_of_columns(cells, cap)) for cells in held) / n
        of_own = torch.stack([mean_of_patients(self._cells(own, number, n)) for number in range(n)])
        of_others = torch.stack([mean_of_patients(cells) for cells in held])
        return Validation(loss, attack_auc(of_own.mean(dim=0), of_others.mean(dim=0)))

    def _validate_published(self) -> Validation:
        generators = (generator_for(self.device, 0, number) for number in range(DRAWS))
        losses = [float(self._loss(self.ema, self.validation, generator)) for generator in generators]
        return Validation(sum(losses) / DRAWS)

    def save(self, folder: Path) -> Path:
        """Write a checkpoint of this moment."""
        state = {
            **vars(self.progress),
            "seed": self.seed,
            "threads": torch.get_num_threads(),
            "precision": self.precision,
            "torch": torch.__version__,
            "scaler": self.scaler.state_dict(),
            **self._more_state(),
        }
        model, ema = self.model.state_dict(), self.ema.state_dict()
        return save_checkpoint(folder, self.recipe, model, ema, self._optimizer_tensors(), state)

    def save_if_sound(self, folder: Path, ends: bool = False) -> None:
        """Write a checkpoint, unless a weight is not finite, or the last update was skipped: it might not go on.

        A training that `ends` here need not go on. Of several processes the first one writes, and the
        others wait for nothing: all have the same weights.
        """
        if not self.processes.leads:
            return
        finite = all(bool(torch.isfinite(p).all()) for p in self.model.parameters())
        if finite and (ends or self.progress.skipped_in_a_row == 0):
            self.save(folder)

    def restore(self, checkpoint: Path) -> list[str]:
        """Take weights and progress from `checkpoint`; return warnings about what makes the bits differ."""
        state = read_state(checkpoint)
        self.progress = Progress(**{key: state.get(key, value) for key, value in vars(Progress()).items()})
        try:
            self.model.load_state_dict(read_tensors(checkpoint / "model.safetensors"))
            self.ema.load_state_dict(read_tensors(checkpoint / "ema.safetensors"))
            self._load_optimizer(read_tensors(checkpoint / "optimizer.safetensors"))
        except (RuntimeError, KeyError):
            raise RunError(f"{checkpoint} holds weights of another network; resume with the run's own preset") from None
        if state["scaler"]:  # empty where nothing was scaled
            self.scaler.load_state_dict(state["scaler"])
        now = {"threads": torch.get_num_threads(), "precision": self.precision, "torch": torch.__version__}
        return [
            f"the run was made with {key} {state[key]} and goes on with {value}: weights may differ in the last bits"
            for key, value in now.items()
            if state[key] != value
        ]

    def _more_state(self) -> dict[str, Any]:
        """Return what else a checkpoint says of a training of another kind."""
        return {}

    def _loss(self, network: torch.nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        model = self.processes.shared(network)
        preset, layout, schedule = self.recipe.preset, self.recipe.encoder.layout, self.schedule
        with autocast(self.precision, self.device):
            if preset.loss.kind == "health-gym-v3":
                noise = published_draw(batch, schedule.T, generator)
                blend = torch.rand(batch.x_dynamic.shape, generator=generator, device=self.device)
                difference, reconstruction = published_losses(model, batch, noise, blend, schedule, layout.length)
                return difference + reconstruction
            noise = draw(batch, schedule.T, generator, preset.training.condition)
            uniform, cap = draw_uniform(batch, generator), preset.loss.column_cap
            return denoising_loss(model, batch, noise, uniform, schedule, layout, preset.heads, cap)

    def _cells(self, batch: Batch, number: int, n: int) -> list[CellLosses]:
        """Return the averaged weights' losses of all cells in draw `number` of `n`, each at a time of its own."""
        preset, generator = self.recipe.preset, generator_for(self.device, 0, number)
        noise = draw_at(batch, int((number + 0.5) / n * self.schedule.T), generator)
        given = (noise, draw_uniform(batch, generator), self.schedule, self.recipe.encoder.layout, preset.heads)
        with autocast(self.precision, self.device):
            return denoising_cells(self.processes.shared(self.ema), batch, *given)

    def _batch_index(self, update: int) -> Tensor:
        """Return the patients of update `update`: each epoch is one shuffle, its remainder is left out."""
        n, size = len(self.train), self.recipe.preset.training.batch
        epoch, place = divmod(update, n // size)
        order = np.random.default_rng([self.seed, epoch]).permutation(n)
        return torch.from_numpy(order[place * size : (place + 1) * size])

    def _set_learning_rate(self) -> float:
        """Give the optimiser the rate of this update, and return it."""
        config = self.recipe.preset.training
        total = self.progress.total if config.decay == "cosine" else None
        rate = learning_rate(self.progress.update, config.learning_rate, config.warmup, total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _average(self, update: int) -> None:
        decay = min(self.recipe.preset.training.ema, (1 + update) / (10 + update))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), 1.0 - decay)

    def _count(self, finite: bool) -> None:
        self.progress.update += 1
        self.progress.skipped += not finite
        self.progress.skipped_in_a_row = 0 if finite else self.progress.skipped_in_a_row + 1
        if self.progress.skipped_in_a_row >= MOST_SKIPPED:
            raise TrainingError(
                f"the loss was not finite in {MOST_SKIPPED} updates in a row, up to update {self.progress.update}; the "
                "last good checkpoint, if there is one, is intact: go on with a lower rate "
                "(--set training.learning_rate=1e-4) or in full precision (--set training.precision=float32)"
            )

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        states = self.optimizer.state_dict()["state"]
        return {f"{i}.{key}": torch.as_tensor(value) for i, state in states.items() for key, value in state.items()}

    def _load_optimizer(self, tensors: dict[str, Tensor]) -> None:
        content = self.optimizer.state_dict()
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            number, _, key = name.partition(".")
            states.setdefault(int(number), {})[key] = value
        self.optimizer.load_state_dict({**content, "state": states})


def generator_for(device: torch.device, seed: int, update: int) -> torch.Generator:
    """Return the generator of update `update`, a pure function of the arguments."""
    mixed = int(np.random.SeedSequence([seed, update]).generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator(device).manual_seed(mixed)


def learning_rate(update: int, highest: float, warmup: int, total: int | None) -> float:
    """Return the rate at `update`: linear warm-up, then cosine decay to a hundredth at `total`, if that is known."""
    if update < warmup or total is None:
        return highest * min(1.0, (update + 1) / max(warmup, 1))
    share = (update - warmup) / max(total - warmup, 1)
    low = FINAL_LEARNING_RATE
    return highest * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))
