"""What differential privacy costs: the stand-in cohort, one network, one number of updates, less and less to spend.

python -m benchmarks.private --work runs/private --json benchmarks/results/private.json

Beside the usual training stand private ones: with so large an epsilon that there is no noise to speak of, which shows
what the clipped gradients and an encoder that knows the schema alone cost; then with noise, and then with noise and
more patients.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare import compare_release
from benchmarks.machine import data, machine
from hg3 import disk, generate, train
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.write import write_table
from hg3.training.checkpoint import checkpoints, read_state

SCHEMA = "art-hiv-v2"
SAME = {  # for all of them, as hg3-private has it
    "training.learning_rate": "3e-3",
    "training.warmup": "20",
    "training.ema": "0.99",
    "training.precision": "float32",
}
COMPLETE = {"privacy.complete": "true"}  # as the records of this cohort are
# By name: the preset, what of it is changed, and how many times the cohort of the others is learnt from.
SIDES: dict[str, tuple[str, dict[str, str], int]] = {
    "not private": ("hg3", {}, 1),
    "no noise": ("hg3-private", {"privacy.epsilon": "1e9"} | COMPLETE, 1),
    "epsilon 8": ("hg3-private", {"privacy.epsilon": "8"} | COMPLETE, 1),
    "epsilon 1": ("hg3-private", {"privacy.epsilon": "1"} | COMPLETE, 1),
    "epsilon 8, x4": ("hg3-private", {"privacy.epsilon": "8"} | COMPLETE, 4),
    "epsilon 1, x4": ("hg3-private", {"privacy.epsilon": "1"} | COMPLETE, 4),
}


def measure(
    table: Path, preset: str, changes: dict[str, str], updates: int, patients: int, work: Path
) -> dict[str, Any]:
    """Return distances to the held-out patients, ceilings and seconds of one training and its release."""
    started = time.perf_counter()
    train(table, work / "run", SCHEMA, preset, changes, updates)
    seconds = time.perf_counter() - started
    generate(work / "run", work / "release", patients)
    scores = compare_release(work / "release", work / "run")
    privacy = read_state(checkpoints(work / "run")[-1]).get("privacy", {})
    spent = {key: privacy[key] for key in ("epsilon", "delta", "noise_multiplier", "sample_rate") if privacy}
    return {
        "data": data(table),
        **spent,
        "mean": {key: round(mean(scores[key]), 4) for key in ("tv", "tv_ceiling", "ks", "ks_ceiling")},
        **{key: scores[key] for key in ("tv", "tv_ceiling", "ks", "ks_ceiling", "length_ks", "length_mean")},
        "training_s": round(seconds, 1),
    }


def mean(by_column: dict[str, float]) -> float:
    return float(np.mean(list(by_column.values())))


def print_table(results: dict[str, dict[str, Any]]) -> None:
    print(f"{'training':<16}{'noise':>8}{'mean TV':>9}{'ceiling':>9}{'mean KS':>9}{'ceiling':>9}{'lengths':>9}{'s':>7}")
    for name, result in results.items():
        means = (result["mean"][key] for key in ("tv", "tv_ceiling", "ks", "ks_ceiling"))
        shown = "".join(f"{number:>9.3f}" for number in (*means, result["length_ks"]))
        print(f"{name:<16}{result.get('noise_multiplier', 0):>8.2f}{shown}{result['training_s']:>7.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=int, default=1000)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--patients", type=int, default=250)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    given, before, results = parser.parse_args(), machine(), {}
    given.work.mkdir(parents=True, exist_ok=True)
    sizes = SAME | {"network.width": str(given.width), "training.batch": str(given.batch)}
    for number, (name, (preset, changes, times)) in enumerate(SIDES.items()):
        work = given.work / str(number)
        work.mkdir()
        table = work / "cohort.parquet"
        write_table(simulate(times * given.cohort, seed=0), table)
        results[name] = measure(table, preset, sizes | changes, given.updates, given.patients, work)
    print_table(results)
    asked = {key: getattr(given, key) for key in ("cohort", "width", "batch", "updates", "patients")}
    content = {**asked, "results": results, "machine": before}
    disk.write_text(given.json, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
