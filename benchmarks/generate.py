"""Accepted patients a second, from noise to decoded columns: hg3 beside Health Gym v3 as published, at one width.

python -m benchmarks.generate --work runs/speed --json benchmarks/results/generate.json

The published side is the plain loop of benchmarks/published.py, measured over a few of its 500 steps and scaled. Speed
needs no training, so both networks are fresh; --run gives a trained run of preset hg3, at whose width both are then
measured, and whose fidelity stands beside the speed. Of what the published code samples it accepts a share, of which
there are two figures: that of its own notebook, which makes the smaller ratio, and that of our training of it.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import levers, published, solvers
from benchmarks.arithmetic import network_megaflop, print_rates, rates
from benchmarks.levers import block_side
from benchmarks.machine import machine, trained
from benchmarks.stand_in import untrained_run
from benchmarks.targets import at_least, print_targets
from benchmarks.timing import Timed, in_turns, print_levers
from hg3 import disk
from hg3.diffusion.health_gym_v3 import PublishedUNet
from hg3.release.plan import Source, open_source
from hg3.sampling.generate import BLOCK_PATIENTS
from hg3.table.decoding import decode
from hg3.training.checkpoint import best_checkpoint, checkpoint_hash, read_recipe
from hg3.training.device import default_device, resolve_precision

TARGETS = {"cpu": {20: 150, 15: 200}, "cuda": {20: 1000}}  # ratios by steps; a CPU's are for one with bfloat16
ACCEPTED = 0.693  # of what the published code samples after 3,000 epochs, by its own notebook
TRAINED = Path(__file__).parent / "results" / "presets.json"  # our training of it, which says what it accepts
FIDELITY = ("tv", "tv_ceiling", "ks", "ks_ceiling")


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


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Return both sides, ratios, levers and parts; seconds are the least of the repeats, all sides in turns."""
    device = default_device()
    ours = given.run or untrained_run("hg3", {"network.width": str(given.width)}, given.work, given.cohort)
    width = read_recipe(best_checkpoint(ours)).preset.network.width
    theirs = untrained_run("health-gym-v3", {"network.width": str(width)}, given.work, given.cohort)
    eager, peer = open_source(ours, device), open_source(theirs, device)
    source = open_source(ours, device, "default") if given.compile else eager
    sides = published_side(peer, given.batch, given.published_steps)
    sides |= {f"hg3, {steps} steps": block_side(source, steps, given.block) for steps in given.steps}
    timed = in_turns(sides, given.repeats)
    mflop = {"published": network_megaflop(peer), "hg3": network_megaflop(eager)}
    raw, theirs_found = _published_row(peer, timed, mflop["published"], given)
    rows = [_row(steps, timed[f"hg3, {steps} steps"], raw, mflop["hg3"], given) for steps in given.steps]
    for row in rows if given.run else ():
        row |= fidelity(given.run, row["steps"], given.fidelity_patients, given.work)
    layout, precision = eager.recipe.encoder.layout, resolve_precision("auto", device)
    shape = (given.batch, width, layout.length)
    return {
        "ratio": rows[0]["ratio"],
        "width": [peer.recipe.preset.network.width, width],
        "chains": len(layout.chains) + len(layout.static_chains),
        "published": theirs_found,
        "hg3": rows,
        "mflop": mflop,
        "rates": rates(shape, device, getattr(torch, precision), given.repeats),
        "hg3_compile": source.compile,
        "hg3_weights": "trained" if given.run else "fresh",
        "parts_of_a_block": levers.block_parts(eager, given.lever_steps, given.block, given.repeats),
        "levers": [
            *_by_count(theirs_found, given),
            *levers.measure(eager, given.block, given.repeats, given.lever_steps, given.compile),
        ],
        "first_call_s": {name: round(t.first, 2) for name, t in timed.items()},
        **trained(ours),
        "published_run": trained(theirs)["run"],
        "targets": targets(rows, device.type, precision),
    }


def _published_row(
    peer: Source, timed: dict[str, Timed], mflop: float, given: argparse.Namespace
) -> tuple[float, dict[str, Any]]:
    """Return the published sampler's patients a second, of all its steps, and what to say of it."""
    n_steps, seconds = peer.recipe.preset.sampling.steps, timed["published steps"].seconds
    a_step = seconds / given.published_steps
    raw = given.batch / (n_steps * a_step + timed["published decoding"].seconds)
    ours = trained_acceptance()
    return raw, {
        "steps": n_steps,
        "steps_measured": given.published_steps,
        "batch": given.batch,
        "seconds_a_step": round(a_step, 4),
        "gflop_per_s": round(mflop * given.batch / a_step / 1e3, 1),
        "patients_per_s": round(raw, 4),
        "acceptance": given.acceptance,
        "accepted_per_s": round(raw * given.acceptance, 4),
        "acceptance_as_we_trained_it": ours,
        "accepted_per_s_as_we_trained_it": round(raw * ours["acceptance"], 4),
    }


def _row(steps: int, timed: Timed, raw: float, mflop: float, given: argparse.Namespace) -> dict[str, Any]:
    """Return the speed of hg3 at `steps`, and how many times it is the published one."""
    speed, ours = given.block / timed.seconds, trained_acceptance()["acceptance"]
    return {
        "steps": steps,
        "accepted_per_s": round(speed, 3),
        "ratio": round(speed / (raw * given.acceptance), 1),
        "ratio_as_we_trained_it": round(speed / (raw * ours), 1),
        "ratio_without_acceptance": round(speed / raw, 1),
        "gflop_per_s": round(speed * steps * mflop / 1e3, 1),
    }


def trained_acceptance() -> dict[str, Any]:
    """Return which share our training of the published preset accepts, and of what that was measured."""
    content = json.loads(TRAINED.read_text(encoding="utf-8"))
    row = next(row for row in content["results"] if row["preset"] == "health-gym-v3")
    return {
        "acceptance": row["acceptance"],
        "patients": content["patients"],
        "updates": row["updates"],
        "from": TRAINED.name,
    }


def fidelity(run: Path, steps: int, patients: int, work: Path) -> dict[str, Any]:
    """Return the mean distances of a release in `steps` steps to held-out patients, and their ceilings."""
    checkpoint = best_checkpoint(run)
    folder = work / f"fidelity-{checkpoint_hash(checkpoint)[:12]}-{patients}"
    folder.mkdir(parents=True, exist_ok=True)
    scores = solvers.measure(run, read_recipe(checkpoint).preset.sampling.solver, steps, patients, folder)
    return {"fidelity_patients": patients, **{key: scores[key] for key in FIDELITY}}


def _by_count(peer: dict[str, Any], given: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the levers that are counted, not measured."""
    fewest = peer["steps"] / given.steps[0]
    accepted = {"": peer["acceptance"], ", as we trained it": peer["acceptance_as_we_trained_it"]["acceptance"]}
    return [
        {"lever": f"{given.steps[0]} steps, not {peer['steps']}, by count", "times": round(fewest, 3)},
        *(
            {"lever": f"nothing rejected, by count{words}", "times": round(1 / share, 3)}
            for words, share in accepted.items()
        ),
    ]


def targets(rows: list[dict[str, Any]], device_type: str, precision: str) -> list[dict[str, Any]]:
    """Return what the ratios were to reach on such a device; a CPU without bfloat16 has no target."""
    goals = TARGETS[device_type] if device_type == "cuda" or precision == "bfloat16" else {}
    found = {row["steps"]: row["ratio"] for row in rows}
    return [
        at_least(f"accepted/s, times the published, {steps} steps", found[steps], goal)
        for steps, goal in goals.items()
        if steps in found
    ]


def print_table(result: dict[str, Any]) -> None:
    peer, ours = result["published"], result["published"]["acceptance_as_we_trained_it"]
    ratios = ("ratio", "ratio_as_we_trained_it", "ratio_without_acceptance")
    heads = {
        "accepted/s": 12,
        "ratio": 9,
        "as trained": 12,
        "raw ratio": 11,
        "GFLOP/s": 9,
        "mean TV": 10,
        "mean KS": 10,
    }
    print(" " * 24 + "".join(f"{head:>{wide}}" for head, wide in heads.items()))
    print(f"{'published, ' + str(peer['steps']) + ' steps':<24}{peer['accepted_per_s']:>12.3f}{1:>9}{1:>12}{1:>11}")
    for row in result["hg3"]:
        shown = "".join(f"{row[key]:>{wide}.1f}" for key, wide in zip(ratios, (9, 12, 11), strict=True))
        scores = "".join(f"{row[key]:>10.4f}" if key in row else f"{'-':>10}" for key in ("tv", "ks"))
        name = f"hg3, {row['steps']} steps"
        print(f"{name:<24}{row['accepted_per_s']:>12.3f}{shown}{row['gflop_per_s']:>9.1f}{scores}")
    print(f"accepted: {peer['acceptance']:.1%}; as we trained it ({ours['from']}) {ours['acceptance']:.1%}")
    print_targets(result["targets"])
    print("MFLOP a patient and step: " + ", ".join(f"{name} {count}" for name, count in result["mflop"].items()))
    print(f"the published network runs at {peer['gflop_per_s']} GFLOP/s; the machine at")
    print_rates(result["rates"])
    for part, share in result["parts_of_a_block"].items():
        print(f"{part + ', share of a block, eager':<60}{share:>8.1%}")
    print_levers(result["levers"])
    print("first calls, left out above: " + ", ".join(f"{k} {v} s" for k, v in result["first_call_s"].items()))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a trained run of preset hg3; fresh weights if absent")
    parser.add_argument("--fidelity-patients", type=int, default=512)
    parser.add_argument("--width", type=int, default=256, help="of both, where no run is given")
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
    result = measure(given)
    print_table(result)
    disk.write_text(given.json, json.dumps({**result, "machine": before}, indent=2) + "\n")


if __name__ == "__main__":
    main()
