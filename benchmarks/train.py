"""Patients a second through an update: hg3's loop beside the published one, at one width, on the stand-in cohort.

python -m benchmarks.train --work runs/speed --json benchmarks/results/train.json

Every lever is a row: hg3's update with it and without it, all else as it is.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine
from benchmarks.published import make_update
from benchmarks.stand_in import prepare
from benchmarks.timing import Timed, in_turns
from hg3 import disk
from hg3.diffusion.health_gym_v3 import PublishedUNet
from hg3.table.split import TRAIN_SHARE
from hg3.training.device import default_device
from hg3.training.run import make_trainer
from hg3.training.trainer import Trainer

PUBLISHED_BATCH = 128
BATCHES = (64, 128, 256)
TARGETS = {"cpu": 3, "cuda": 8}


def published_side(width: int, batch: int, patients: int, work: Path, device: torch.device) -> Callable[[], Any]:
    """Return the published update on one batch of padded records, resident on `device`."""
    prepared = prepare("health-gym-v3", {"network.width": str(width), "training.batch": str(batch)}, work, patients)
    trainer = make_trainer(prepared, 0, device)
    network = prepared.recipe.build_network().to(device)
    assert isinstance(network, PublishedUNet)
    update = make_update(network, trainer.schedule, prepared.recipe.encoder.layout.length)
    return partial(update, trainer.train.x_dynamic[:batch].to(device))


def our_trainer(changes: dict[str, str], patients: int, work: Path, device: torch.device) -> Trainer:
    trainer = make_trainer(prepare("hg3", changes, work, patients), 0, device)
    trainer.progress.total = 10**6  # the learning rate's decay costs what it costs in a training
    return trainer


def plain_adam(trainer: Trainer) -> Trainer:
    """Take the optimiser's one kernel for all weights from `trainer`."""
    trainer.optimizer = torch.optim.AdamW(trainer.model.parameters(), lr=1e-3, weight_decay=0.0)
    return trainer


def without_average(trainer: Trainer) -> Trainer:
    """Take the weights' running average from `trainer`."""
    trainer._average = lambda update: None  # type: ignore[method-assign]
    return trainer


def measure(width: int, patients: int, repeats: int, work: Path, changes: dict[str, str]) -> dict[str, Any]:
    """Return the two sides, their ratio, and the levers, in patients a second."""
    device, batch = default_device(), min(PUBLISHED_BATCH, int(patients * TRAIN_SHARE))
    common = {"network.width": str(width), "training.batch": str(batch), **changes}
    make = partial(our_trainer, patients=patients, work=work, device=device)
    sides: dict[str, Callable[[], Any]] = {"published": published_side(width, batch, patients, work, device)}
    sides["hg3"] = make(common).step
    sides["without fused Adam"] = plain_adam(make(common)).step
    sides["without the running average"] = without_average(make(common)).step
    timed = in_turns(sides, repeats)
    sizes = [size for size in BATCHES if size <= int(patients * TRAIN_SHARE)]
    by_batch = in_turns({str(n): make({**common, "training.batch": str(n)}).step for n in sizes}, repeats)
    per_s = {name: round(batch / t.seconds, 2) for name, t in timed.items()}
    return {
        "width": width,
        "batch": batch,
        "published": per_s["published"],
        "hg3": per_s["hg3"],
        "ratio": round(per_s["hg3"] / per_s["published"], 2),
        "levers": {
            "fused Adam": _lever(timed["without fused Adam"], timed["hg3"]),
            "running average (a cost)": _lever(timed["without the running average"], timed["hg3"]),
        },
        "patients_per_s_by_batch": {n: round(int(n) / t.seconds, 2) for n, t in by_batch.items()},
        "first_update_s": {name: round(t.first, 2) for name, t in timed.items()},
    }


def _lever(without: Timed, with_it: Timed) -> float:
    return round(without.seconds / with_it.seconds, 3)


def print_table(result: dict[str, Any]) -> None:
    print(f"{'width ' + str(result['width']):<28}{'patients/s':>12}{'ratio':>8}")
    print(f"{'published, batch ' + str(result['batch']):<28}{result['published']:>12.2f}{1:>8}")
    print(f"{'hg3, batch ' + str(result['batch']):<28}{result['hg3']:>12.2f}{result['ratio']:>8.2f}")
    for batch, speed in result["patients_per_s_by_batch"].items():
        print(f"{'hg3, batch ' + batch:<28}{speed:>12.2f}{speed / result['published']:>8.2f}")
    for name, times in result["levers"].items():
        print(f"{name:<40}{times:>8.3f}")
    print("first updates, left out above: " + ", ".join(f"{k} {v} s" for k, v in result["first_update_s"].items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--cohort", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    given, before = parser.parse_args(), machine()
    result = measure(given.width, given.cohort, given.repeats, given.work, {})
    print_table(result)
    goal = TARGETS[default_device().type]
    print(f"target of the ratio: {goal}")
    disk.write_text(given.json, json.dumps({**result, "target": goal, "machine": before}, indent=2) + "\n")


if __name__ == "__main__":
    main()
