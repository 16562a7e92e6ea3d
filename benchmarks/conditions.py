"""Conditional releases of one run beside the same subgroup of its held-out patients.

python -m benchmarks.conditions runs/demo/run --patients 512 --work runs/conditions \
    --json benchmarks/results/conditions.json
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.compare import compare_release
from benchmarks.machine import machine, trained
from hg3 import disk, generate

CONDITIONS: dict[str, dict[str, Any]] = {
    "everybody": {},
    "Gender=Female": {"where": {"Gender": "Female"}},
    "Gender=Female,Ethnic=African": {"where": {"Gender": "Female", "Ethnic": "African"}},
    "balance Gender": {"balance": "Gender"},
}


def measure(run: Path, condition: dict[str, Any], patients: int, work: Path) -> dict[str, Any]:
    """Return the distances of a release under `condition` to that subgroup of the hold-out, and the ceilings."""
    generate(run, work / "release", patients, **condition)
    scores = compare_release(work / "release", run)
    kept = ("tv", "tv_ceiling", "ks", "ks_ceiling", "patients", "holdout_patients")
    return {key: scores[key] for key in kept}


def print_table(results: dict[str, dict[str, Any]]) -> None:
    for name, result in results.items():
        print(f"{name}: {result['patients']} patients beside {result['holdout_patients']} held out")
        for measure_name in ("tv", "ks"):
            for column, distance in result[measure_name].items():
                ceiling = result[f"{measure_name}_ceiling"][column]
                print(f"  {measure_name.upper()} {column:<14}{distance:>8.4f}{ceiling:>10.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--patients", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    results = {}
    for number, (name, condition) in enumerate(CONDITIONS.items()):
        work = given.work / str(number)
        work.mkdir(parents=True, exist_ok=True)
        results[name] = measure(given.run, condition, given.patients, work)
    print_table(results)
    content = {**trained(given.run), "results": results, "machine": machine()}
    disk.write_text(given.json, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
