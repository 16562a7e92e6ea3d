"""Seconds and memory of a whole evaluation: 1,000 against 1,000 patients of the stand-in cohort, all 13 columns.

python -m benchmarks.evaluate --work runs/evaluate --json benchmarks/results/evaluate.json

From three tables on disk to the report. The "release" is simulated as the real patients are: whose patients they are
does not change how long it takes. --utility trains policies and hazard models too; --made asks for another number of
synthetic patients, of whom every one is searched for copies.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import data, machine
from benchmarks.scale import peak_kib
from hg3 import disk
from hg3.evaluation.results import Evaluation
from hg3.release.evaluate import evaluate_release
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.schema import load_schema
from hg3.table.write import write_table

SCHEMA = "art-hiv-v2"
GOALS = {"seconds": 300.0, "peak_mib": 4096.0}  # for 1,000 against 1,000, without --utility


def tables(work: Path, made: int, real: int) -> dict[str, Path]:
    """Write the tables of the release, of training and of held-out patients, who share none; return their paths."""
    work.mkdir(parents=True, exist_ok=True)
    schema = load_schema(SCHEMA)
    names = [schema.patient, schema.time, *(column.name for column in schema.columns)]
    paths = {}
    for number, (part, size) in enumerate({"made": made, "train": real, "holdout": real}.items()):
        table = simulate(size, seed=number)[names]
        paths[part] = work / f"{part}.parquet"
        write_table(table.assign(**{schema.patient: table[schema.patient] + number * 10_000_000}), paths[part])
    return paths


def measure(paths: dict[str, Path], out: Path, utility: bool) -> dict[str, Any]:
    """Return seconds, by section too, and the peak memory of this process, that of writing the tables included."""
    before, started = peak_kib(), time.perf_counter()
    made, train, holdout = (paths[part] for part in ("made", "train", "holdout"))
    found = evaluate_release(made, out, train=train, holdout=holdout, schema=SCHEMA, utility=utility, report=_tell)
    return {
        "patients": vars(found.patients),
        "utility": utility,
        "seconds": round(time.perf_counter() - started, 1),
        "peak_mib": round(peak_kib() / 1024, 1),
        "peak_before_mib": round(before / 1024, 1),
        "seconds_by_section": {name: round(seconds, 1) for name, seconds in found.seconds.items()},
        "measures": n_measures(found),
    }


def n_measures(found: Evaluation) -> int:
    return sum(len(section.measures) for section in found.sections)


def _tell(stage: str, entry: dict[str, Any]) -> None:
    print(f"{stage}: {entry['done']} of {entry['of']} {entry['section']}", flush=True)


def print_table(result: dict[str, Any]) -> None:
    for name, seconds in result["seconds_by_section"].items():
        print(f"{name:<28}{seconds:>9.1f} s")
    print(f"{'whole, with reading, report':<28}{result['seconds']:>9.1f} s   goal {GOALS['seconds']:.0f}")
    print(f"{'peak memory':<28}{result['peak_mib']:>9.1f} MiB goal {GOALS['peak_mib']:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--made", type=int, default=1000, help="synthetic patients")
    parser.add_argument("--real", type=int, default=1000, help="training patients, and as many held out")
    parser.add_argument("--utility", action="store_true")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    given, before = parser.parse_args(), machine()
    paths = tables(given.work, given.made, given.real)
    result = measure(paths, given.work / "report", given.utility)
    print_table(result)
    content = {**result, "goals": GOALS, "data": {part: data(path) for part, path in paths.items()}, "machine": before}
    disk.write_text(given.json, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
