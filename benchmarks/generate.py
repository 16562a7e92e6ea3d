"""Accepted patients a second, from noise to decoded columns: hg3 beside Health Gym v3 as published, at one width.

python -m benchmarks.generate --work runs/speed --json benchmarks/results/generate.json

The published side is the plain loop of benchmarks/published.py, measured over a few of its 500 steps and scaled. Speed
needs no training, so both networks are fresh; --run gives a trained run of preset hg3, whose fidelity then stands
beside the speed. Every lever is a row: hg3 with it and without it, all else as it is.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import levers, published, solvers
from benchmarks.levers import block_side
from benchmarks.machine import machine
from benchmarks.stand_in import untrained_run
from benchmarks.timing import Timed, in_turns
from hg3 import disk
from hg3.diffusion.health_gym_v3 import PublishedUNet
from hg3.release.plan import Source, open_source
from hg3.sampling.generate import BLOCK_PATIENTS
from hg3.table.decoding import decode
from hg3.training.device import default_device

TARGETS = {"cpu": {"20": 150, "15": 200}, "cuda": {"20": 1000}}  # ratios by steps; a CPU's are for one with bfloat16
ACCEPTED = 0.693  # of what the published code samples after 3,000 epochs, by its own notebook


def published_side(source: Source, batch: int, steps: int) -> dict[str, Callable[[], Any]]:
    """Return the first `steps` of the published sampler's steps for a batch, and its filter and decoding."""
    network, encoder, length = source.network, source.recipe.encoder, source.recipe.network_length
    assert isinstance(network, PublishedUNet)
    x = torch.randn(batch, encoder.layout.n_dynamic, length, device=source.device)
    schedule = source.recipe.build_schedule()

    def finish() -> None:
        months = x[:, :, : encoder.layout.length]
        published.in_range(months)
        numbers = torch.arange(batch).numpy()
        decode(torch.zeros(batch, 0).numpy(), months.clamp(-1, 1).cpu().numpy(), numbers, encoder)

    return {
        "published steps": lambda: published.noise_and_reverse(network, schedule, x, steps),
        "published decoding": finish,
    }


def measure(given: argparse.Namespace, changes: dict[str, str]) -> dict[str, Any]:
    """Return both sides, ratios and levers; seconds are the least of the repeats, all sides in turns."""
    device = default_device()
    ours = given.run or untrained_run("hg3", changes, given.work, given.cohort)
    theirs = untrained_run("health-gym-v3", changes, given.work, given.cohort)
    eager = open_source(ours, device)
    source = open_source(ours, device, "default") if given.compile else eager
    peer = open_source(theirs, device)
    sides = published_side(peer, given.batch, given.published_steps)
    sides |= {f"hg3, {steps} steps": block_side(source, steps, given.block) for steps in given.steps}
    timed = in_turns(sides, given.repeats)
    n_steps = peer.recipe.preset.sampling.steps
    a_step = timed["published steps"].seconds / given.published_steps
    raw = given.batch / (n_steps * a_step + timed["published decoding"].seconds)
    rows = [_row(steps, timed[f"hg3, {steps} steps"], raw, given) for steps in given.steps]
    for row in rows if given.run else ():
        scores = solvers.measure(given.run, "dpm++", row["steps"], given.fidelity_patients, given.work)
        row |= {key: scores[key] for key in ("tv", "tv_ceiling", "ks", "ks_ceiling")}
    width = source.recipe.preset.network.width
    found = levers.measure(eager, given.block, given.repeats, given.lever_steps, given.compile)
    return {
        "ratio": rows[0]["ratio"],
        "width": [peer.recipe.preset.network.width, width],
        "published": {
            "steps": n_steps,
            "steps_measured": given.published_steps,
            "batch": given.batch,
            "seconds_a_step": round(a_step, 4),
            "acceptance": given.acceptance,
            "patients_per_s": round(raw, 4),
            "accepted_per_s": round(raw * given.acceptance, 4),
        },
        "hg3": rows,
        "mflop": {"published": mflop(peer), "hg3": mflop(eager)},
        "hg3_compile": source.compile,
        "hg3_weights": "trained" if given.run else "fresh",
        "levers": [
            {"lever": "nothing rejected", "times": round(1 / given.acceptance, 3)},
            {"lever": f"{given.steps[0]} steps, not {n_steps}, by count", "times": round(n_steps / given.steps[0], 3)},
            *found,
        ],
        "first_call_s": {name: round(t.first, 2) for name, t in timed.items()},
    }


def mflop(source: Source) -> float:
    """Return the million floating-point operations of the network a patient and step, as torch counts them."""
    layout, device = source.recipe.encoder.layout, source.device
    x_static, x_dynamic = (
        torch.zeros(1, n, *rest, device=device)
        for n, *rest in ((layout.n_static,), (layout.n_dynamic, source.recipe.network_length))
    )
    given = torch.zeros(1, len(layout.static), dtype=torch.bool, device=device)
    with FlopCounterMode(display=False) as counter:
        source.network(x_static, x_dynamic, torch.zeros(1, dtype=torch.int64, device=device), given)
    return round(counter.get_total_flops() / 1e6, 1)


def _row(steps: int, timed: Timed, raw: float, given: argparse.Namespace) -> dict[str, Any]:
    """Return the speed of hg3 at `steps`, and how many times it is the published one."""
    speed = given.block / timed.seconds
    return {
        "steps": steps,
        "accepted_per_s": round(speed, 3),
        "ratio": round(speed / (raw * given.acceptance), 1),
        "ratio_without_acceptance": round(speed / raw, 1),
    }


def print_table(result: dict[str, Any]) -> None:
    theirs = result["published"]
    print(f"{'':<24}{'accepted/s':>12}{'ratio':>9}{'raw ratio':>11}{'mean TV':>10}{'mean KS':>10}")
    print(f"{'published, ' + str(theirs['steps']) + ' steps':<24}{theirs['accepted_per_s']:>12.3f}{1:>9}{1:>11}")
    for row in result["hg3"]:
        fidelity = "".join(f"{row[key]:>10.4f}" if key in row else f"{'-':>10}" for key in ("tv", "ks"))
        ratios = f"{row['ratio']:>9.1f}{row['ratio_without_acceptance']:>11.1f}"
        print(f"{'hg3, ' + str(row['steps']) + ' steps':<24}{row['accepted_per_s']:>12.3f}{ratios}{fidelity}")
    print("targets of the ratio: " + ", ".join(f"{goal} at {steps} steps" for steps, goal in result["targets"].items()))
    print("MFLOP a patient and step: " + ", ".join(f"{name} {count}" for name, count in result["mflop"].items()))
    print(f"{'lever':<44}{'times':>8}")
    for lever in result["levers"]:
        print(f"{lever['lever']:<44}{lever.get('times', lever.get('skipped')):>8}")
    print("first calls, left out above: " + ", ".join(f"{k} {v} s" for k, v in result["first_call_s"].items()))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a trained run of preset hg3; fresh weights if absent")
    parser.add_argument("--fidelity-patients", type=int, default=512)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 15])
    parser.add_argument("--block", type=int, default=BLOCK_PATIENTS)
    parser.add_argument("--batch", type=int, default=published.BATCH, help="of the published sampler")
    parser.add_argument("--published-steps", type=int, default=10, help="how many of its steps are measured")
    parser.add_argument("--acceptance", type=float, default=ACCEPTED, help="share that the published filter keeps")
    parser.add_argument("--compile", action="store_true", help="compile hg3's network, and measure what it brings")
    parser.add_argument("--lever-steps", type=int, default=3, help="steps of a block that a lever is measured on")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cohort", type=int, default=300)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    return parser


def main() -> None:
    given, before = arguments().parse_args(), machine()
    result = {**measure(given, {"network.width": str(given.width)}), "targets": TARGETS[default_device().type]}
    print_table(result)
    disk.write_text(given.json, json.dumps({**result, "machine": before}, indent=2) + "\n")


if __name__ == "__main__":
    main()
