"""The training loop: resumable at any update, the same weights for the same seed and thread count."""

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hg3 import disk
from hg3.errors import TrainingError
from hg3.training.checkpoint import best_checkpoint, checkpoints
from hg3.training.trainer import Progress, Trainer

TIMED_UPDATES = 50  # with --minutes: their speed fixes the total
UNTIMED_UPDATES = 5  # the first ones allocate and choose kernels
LOG_EVERY = 10

Report = Callable[[dict[str, Any]], None]


def run_updates(
    trainer: Trainer,
    folder: Path,
    report: Report,
    updates: int | None,
    minutes: float | None,
    should_stop: Callable[[], bool] = lambda: False,
    before_saving: Callable[[], None] = lambda: None,
) -> bool:
    """Train until the total is reached or validation stops improving; return False if `should_stop` ended it.

    Parameters
    ----------
    folder : where checkpoints go.
    report : called after each update with its numbers, before a checkpoint of it is written: a resume from there would
        never tell them.
    updates, minutes : how long, one of them for a fresh run. `minutes` times the first updates and fixes the total from
        them; a total that a checkpoint holds is kept, unless `updates` sets another.
    before_saving : called before each checkpoint, to secure what became of the reports.
    """
    progress, config = trainer.progress, trainer.recipe.preset.training
    if updates is not None:
        if progress.total is not None and updates > progress.total:
            progress.validations_without_progress = 0  # more was asked for, after an early stop too
        progress.total = updates
    first, started, stepping = progress.update, time.perf_counter(), 0.0

    def save(ends: bool = False) -> None:
        before_saving()
        trainer.save_if_sound(folder, ends)

    while not _is_done(progress, config.patience):
        if trainer.processes.any(should_stop()):
            save()
            return False
        if progress.total is None and minutes is not None and progress.update == first + TIMED_UPDATES:
            progress.total = _total_for(trainer, minutes, started, stepping)
            save()  # with the total, which a resume after a kill keeps
        before = time.perf_counter()
        entry = trainer.step()
        stepping += time.perf_counter() - before if progress.update > first + UNTIMED_UPDATES else 0.0
        is_last = progress.update == progress.total
        validates = trainer.validates and (is_last or progress.update % trainer.validate_every == 0)
        if validates:
            entry |= _validate(trainer)
        report({"update": progress.update, "total": progress.total, "skipped": progress.skipped, **entry})
        if validates or is_last or progress.update % config.checkpoint_every == 0:
            if not validates or math.isfinite(progress.validation):
                save(is_last)
            _prune_if_leading(trainer, folder)
    if trainer.validates and not math.isfinite(progress.best_validation):
        raise TrainingError(
            f"no validation loss was finite in {progress.update} updates, so nothing was learnt; "
            "train with a lower training.learning_rate or in float32"
        )
    return True


def _is_done(progress: Progress, patience: int) -> bool:
    """Whether the total is reached, or so many validations in a row brought no progress."""
    reached = progress.total is not None and progress.update >= progress.total
    return reached or progress.validations_without_progress >= patience


def _total_for(trainer: Trainer, minutes: float, started: float, stepping: float) -> int:
    """Return the update at which `minutes` from `started` will be over, validations included.

    stepping : seconds that the timed updates took, without what was between them.
    """
    now = time.perf_counter()
    per_update = stepping / (TIMED_UPDATES - UNTIMED_UPDATES)
    trainer.validate()
    per_update += (time.perf_counter() - now) / trainer.validate_every
    left = minutes * 60 - (time.perf_counter() - started)
    return trainer.progress.update + int(trainer.processes.of_leader(max(int(left / per_update), 1)))


def _validate(trainer: Trainer) -> dict[str, float]:
    """Validate and note what was found in the progress; return what is told of it."""
    progress = trainer.progress
    found = trainer.validate()
    finite = math.isfinite(found.loss)
    if finite and progress.attack_limit is None:
        progress.attack_limit = found.attack + trainer.largest_rise
    progress.validation, progress.attack = (found.loss, found.attack) if finite else (math.inf, 0.5)
    gives_away, loss = progress.found().rank
    better = loss < progress.best_validation and not gives_away
    if better:
        progress.best_validation = loss
    progress.validations_without_progress = 0 if better else progress.validations_without_progress + 1
    told = {"validation": progress.validation}
    if trainer.attacks and progress.attack_limit is not None:
        told |= {"attack": progress.attack, "attack_limit": progress.attack_limit}
    return told


def _prune_if_leading(trainer: Trainer, folder: Path) -> None:
    if trainer.processes.leads:
        prune(folder.parent)


def prune(run: Path) -> None:
    """Remove all checkpoints of `run` but the last and the best one."""
    found = checkpoints(run)
    kept = (best_checkpoint(run), found[-1]) if found else ()
    for path in found:
        if path not in kept:
            doomed = path.with_name(f"{disk.TEMPORARY_PREFIX}{path.name}")  # a kill leaves no half checkpoint
            path.rename(doomed)
            shutil.rmtree(doomed)
