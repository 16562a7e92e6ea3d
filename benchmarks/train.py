"""Patients a second through an update: hg3's loop beside the published one, at one width, on the stand-in cohort.

python -m benchmarks.train --work runs/speed --json benchmarks/results/train.json

Every lever is a row: hg3's update with it and without it, all else as it is.
"""

import argparse
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.arithmetic import megaflop, print_rates, rates
from benchmarks.levers import CHAINS, CHANNELS_LAST, PADDED, plain_convolutions, without_chains
from benchmarks.machine import machine
from benchmarks.published import make_update
from benchmarks.stand_in import prepare
from benchmarks.targets import at_least, print_targets
from benchmarks.timing import Parts, Timed, in_turns, lever, print_levers
from hg3 import disk
from hg3.diffusion.health_gym_v3 import PublishedUNet
from hg3.table.split import TRAIN_SHARE
from hg3.training.device import default_device, resolve_precision
from hg3.training.run import Prepared, make_trainer
from hg3.training.trainer import Trainer

PUBLISHED_BATCH = 128
BATCHES = (64, 128, 256)
TARGETS = {"cpu": 3, "cuda": 8}
Side = Callable[[], Any]


def published_side(width: int, batch: int, patients: int, work: Path, device: torch.device) -> Side:
    """Return the published update on one batch of padded records, resident on `device`."""
    prepared = prepare("health-gym-v3", {"network.width": str(width), "training.batch": str(batch)}, work, patients)
    trainer = make_trainer(prepared, 0, device)
    network = prepared.recipe.build_network().to(device)
    assert isinstance(network, PublishedUNet)
    update = make_update(network, trainer.schedule, prepared.recipe.encoder.layout.length)
    return partial(update, trainer.train.x_dynamic[:batch].to(device))


def our_trainer(prepared: Prepared, device: torch.device) -> Trainer:
    trainer = make_trainer(prepared, 0, device)
    trainer.progress.total = 10**6  # the learning rate's decay costs what it costs in a training
    return trainer


def changed(prepared: Prepared, **training: Any) -> Prepared:
    """Return `prepared` with other settings of training."""
    preset = prepared.recipe.preset
    preset = preset.model_copy(update={"training": preset.training.model_copy(update=training)})
    return replace(prepared, recipe=replace(prepared.recipe, preset=preset))


def plain_adam(trainer: Trainer) -> Trainer:
    """Take the optimiser's one kernel for all weights from `trainer`."""
    trainer.optimizer = torch.optim.AdamW(trainer.model.parameters(), lr=1e-3, weight_decay=0.0)
    return trainer


def without_average(trainer: Trainer) -> Trainer:
    """Take the weights' running average from `trainer`."""
    trainer._average = lambda update: None  # type: ignore[method-assign]
    return trainer


def untold(trainer: Trainer) -> Trainer:
    """Take from `trainer` what its network is told of how categories go on."""
    for network in (trainer.model, trainer.ema):
        without_chains(network)
    return trainer


def compiled(trainer: Trainer) -> Trainer:
    """Compile the network of `trainer`, forwards and backwards."""
    trainer.model.compile(fullgraph=True, dynamic=False)
    return trainer


def padded(prepared: Prepared) -> Prepared:
    """Return `prepared` with records of 100 times, those past their end without values."""
    encoder, encoded = prepared.recipe.encoder, prepared.encoded
    past = ((0, 0), (0, 0), (0, PADDED - encoder.layout.length))
    encoder = replace(encoder, layout=replace(encoder.layout, length=PADDED))
    longer = {name: np.pad(getattr(encoded, name), past) for name in ("x_dynamic", "observed_dynamic")}
    return replace(prepared, recipe=replace(prepared.recipe, encoder=encoder), encoded=replace(encoded, **longer))


def our_sides(prepared: Prepared, device: torch.device) -> dict[str, tuple[Side, bool]]:
    """Return the update with each lever, or without it, by the lever's name; true where it is with it."""
    make = partial(our_trainer, device=device)
    sides = {
        "fused Adam": (plain_adam(make(prepared)).step, False),
        CHANNELS_LAST: (plain_convolutions(make(prepared).step), False),
        "no padding to 100 times": (make(padded(prepared)).step, False),
        "compiled network (hg3 trains without)": (compiled(make(prepared)).step, True),
        "running average (a cost)": (without_average(make(prepared)).step, False),
        CHAINS: (untold(make(prepared)).step, False),
    }
    if resolve_precision("auto", device) == "bfloat16":
        sides["bfloat16"] = (make(changed(prepared, precision="float32")).step, False)
    return sides


def measure(width: int, patients: int, repeats: int, work: Path, changes: dict[str, str]) -> dict[str, Any]:
    """Return the two sides, their ratio, the levers, and where the time goes."""
    device, batch = default_device(), min(PUBLISHED_BATCH, int(patients * TRAIN_SHARE))
    prepared = prepare("hg3", {"network.width": str(width), "training.batch": str(batch), **changes}, work, patients)
    layout, others = prepared.recipe.encoder.layout, our_sides(prepared, device)
    sides: dict[str, Side] = {
        "published": published_side(width, batch, patients, work, device),
        "hg3": our_trainer(prepared, device).step,
    }
    timed = in_turns({**sides, **{name: side for name, (side, _) in others.items()}}, repeats)
    dtype, found = getattr(torch, resolve_precision("auto", device)), speeds(sides, timed, batch)
    goal = at_least("training, times the published loop", found["ratio"], TARGETS[device.type])
    return {
        **found,
        "width": width,
        "batch": batch,
        "chains": len(layout.chains) + len(layout.static_chains),
        "rates": rates((batch, width, layout.length), device, dtype, repeats),
        "parts_of_an_update": update_parts(our_trainer(prepared, device), repeats),
        "levers": [
            lever(name, *((timed["hg3"], timed[name]) if has else (timed[name], timed["hg3"])))
            for name, (_, has) in others.items()
        ],
        "patients_per_s_by_batch": by_batch(prepared, device, repeats),
        "first_update_s": {name: round(t.first, 2) for name, t in timed.items()},
        "data": {"sha256": prepared.table["sha256"]},
        "targets": [goal],
    }


def speeds(sides: dict[str, Side], timed: dict[str, Timed], batch: int) -> dict[str, Any]:
    """Return patients a second of both sides, their ratio, and the arithmetic that they do."""
    per_s = {name: round(batch / timed[name].seconds, 2) for name in sides}
    mflop = {name: round(megaflop(side) / batch, 1) for name, side in sides.items()}
    return {
        "ratio": round(per_s["hg3"] / per_s["published"], 2),
        **per_s,
        "mflop": mflop,
        "gflop_per_s": {name: round(mflop[name] * per_s[name] / 1e3, 1) for name in sides},
    }


def by_batch(prepared: Prepared, device: torch.device, repeats: int) -> dict[str, float]:
    """Return patients a second of hg3's update by the size of its batch."""
    sizes = [size for size in BATCHES if size <= prepared.n_train]
    timed = in_turns({str(n): our_trainer(changed(prepared, batch=n), device).step for n in sizes}, repeats)
    return {str(n): round(n / timed[str(n)].seconds, 2) for n in sizes}


def update_parts(trainer: Trainer, repeats: int) -> dict[str, float]:
    """Return the share of each part of an update in its time."""
    parts = Parts()
    step = parts.function("the rest", trainer.step)
    with ExitStack() as patched:
        for place, name, part in (
            (trainer, "_loss", "forwards, with the loss"),
            (torch.Tensor, "backward", "backwards"),
            (torch.nn.utils, "clip_grad_norm_", "cutting the gradient"),
            (trainer.scaler, "step", "Adam"),
            (trainer, "_average", "running average"),
        ):
            patched.enter_context(patch.object(place, name, parts.function(part, getattr(place, name))))
        step()
        parts.seconds.clear()  # of the first update, which warms up
        for _ in range(repeats):
            step()
    return parts.shares()


def print_table(result: dict[str, Any]) -> None:
    print(f"{'width ' + str(result['width']):<28}{'patients/s':>12}{'ratio':>8}{'GFLOP/s':>9}")
    for name, ratio in (("published", 1.0), ("hg3", result["ratio"])):
        shown = f"{result[name]:>12.2f}{ratio:>8.2f}{result['gflop_per_s'][name]:>9.1f}"
        print(f"{name + ', batch ' + str(result['batch']):<28}{shown}")
    for batch, speed in result["patients_per_s_by_batch"].items():
        print(f"{'hg3, batch ' + batch:<28}{speed:>12.2f}{speed / result['published']:>8.2f}")
    print_targets(result["targets"])
    print_rates(result["rates"])
    for part, share in result["parts_of_an_update"].items():
        print(f"{part + ', share of an update':<60}{share:>8.1%}")
    print_levers(result["levers"])
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
    disk.write_text(given.json, json.dumps({**result, "machine": before}, indent=2) + "\n")


if __name__ == "__main__":
    main()
