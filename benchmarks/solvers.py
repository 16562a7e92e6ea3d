"""Fidelity and speed against steps for each solver: releases of one run, compared with its held-out patients.

python -m benchmarks.solvers runs/demo/run --patients 512 --work runs/solvers --json benchmarks/results/solvers.json \
    --figure docs/solvers.png
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.compare import compare_release
from benchmarks.machine import machine, trained
from hg3 import disk, generate
from hg3.sampling.solvers import SOLVERS

STEPS = (5, 10, 15, 20, 50, 100)
PANELS = {"tv": "categories: mean TV", "ks": "reals: mean KS", "patients_per_s": "patients a second"}
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377")


def measure(run: Path, solver: str, steps: int, patients: int, work: Path) -> dict[str, Any]:
    """Return the mean distances of a release, beside the mean of their ceilings (95th percentiles)."""
    release = work / f"{solver}-{steps}"
    started = time.perf_counter()
    generate(run, release, patients, solver=solver, steps=steps)
    seconds = time.perf_counter() - started
    scores = compare_release(release, run)
    means = {key: _mean(scores[key]) for key in ("tv", "tv_ceiling", "ks", "ks_ceiling")}
    return {"solver": solver, "steps": steps, **means, "patients_per_s": round(patients / seconds, 2)}


def _mean(by_column: dict[str, float]) -> float:
    return round(sum(by_column.values()) / len(by_column), 4)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the mean TV, the mean KS and the speed against the steps, a line a solver, the ceilings dashed."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for solver, colour in zip(SOLVERS, COLOURS, strict=True):
            line = [(row["steps"], row[key]) for row in rows if row["solver"] == solver]
            axes.plot(*zip(*line, strict=True), marker="o", markersize=4, color=colour, label=solver)
        if f"{key}_ceiling" in rows[0]:
            axes.axhline(rows[0][f"{key}_ceiling"], color="grey", linestyle="--", label="real patients (95%)")
            named = axes.get_legend_handles_labels()
        axes.set(title=title, xlabel="network calls a patient", xscale="log", ylim=(0, None))
        axes.set_xticks(STEPS, [str(steps) for steps in STEPS])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*named, loc="outside right center", frameon=False)
    with disk.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--patients", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--figure", type=Path, required=True)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for solver in SOLVERS:
        for steps in STEPS:
            rows.append(measure(given.run, solver, steps, given.patients, given.work))
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    content = {**trained(given.run), "patients": given.patients, "rows": rows, "machine": machine()}
    disk.write_text(given.json, json.dumps(content, indent=2) + "\n")
    draw(rows, given.figure)


if __name__ == "__main__":
    main()
