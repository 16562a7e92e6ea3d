"""Train, generate, verify on one table, and compare with its held-out patients.

python -m benchmarks.real_table TABLE --schema SCHEMA --updates 1500 --work runs/bench --json benchmarks/results/x.json
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.compare import compare_release
from benchmarks.machine import data, machine, trained
from hg3 import disk, generate, train, verify_release


def measure(
    table: Path, schema: str, changes: dict[str, str], updates: int, patients: int, work: Path
) -> dict[str, Any]:
    """Return the comparison of a release of `patients` patients after `updates` updates, with its seconds."""
    run, release = work / "run", work / "release"
    seconds = {}
    started = time.perf_counter()
    if not train(table, run, schema, changes=changes, updates=updates, resume=run.exists(), report=_tell):
        raise SystemExit("stopped at a checkpoint; the same command goes on")
    seconds["train"] = time.perf_counter() - started
    started = time.perf_counter()
    generate(run, release, patients)
    seconds["generate"] = time.perf_counter() - started
    verified = verify_release(release, recompute=1, run=run)
    scores = compare_release(release, run)
    return {
        "data": data(table),
        "schema": Path(schema).name,
        "run": trained(run)["run"],
        "updates": updates,
        "changes": changes,
        "rows": verified.rows,
        "seconds": {key: round(value, 1) for key, value in seconds.items()},
        **scores,
        "worst": worst(scores),
        "machine": machine(),
    }


def _tell(entry: dict[str, Any]) -> None:
    if "validation" in entry:
        print(f"update {entry['update']} of {entry['total']}, validation loss {entry['validation']:.4f}", flush=True)


def print_table(result: dict[str, Any]) -> None:
    """Print one line a column: its distance and the ceiling, and its missing rate where cells may be missing."""
    print(f"{'column':<18}{'measure':<9}{'synthetic':>10}{'ceiling':>10}{'missing':>10}{'real':>8}")
    for measure in ("tv", "ks"):
        for column, distance in result[measure].items():
            made, real = (result[key].get(column) for key in ("missing", "missing_real"))
            shown = "" if made is None else f"{made:>10.3f}{real:>8.3f}"
            print(f"{column:<18}{measure:<9}{distance:>10.4f}{result[f'{measure}_ceiling'][column]:>10.4f}{shown}")
    print(
        f"record length: KS {result['length_ks']:.4f} (ceiling {result['length_ks_ceiling']:.4f}), mean "
        f"{result['length_mean']:.1f} (real {result['length_mean_real']:.1f})"
    )
    for rule in result["rules"]:
        shares = (f"{rule[f'violations_{when}'] / max(rule['eligible'], 1):.4f}" for when in ("before", "after"))
        print(f"{rule['rule']}: broken in {' of its rows before, '.join(shares)} after")
    print(f"times without a row: {result['gap_share']:.4f} (real {result['gap_share_real']:.4f})")
    print("worst three, by what is above the ceiling: " + "; ".join(worst(result)))


def worst(result: dict[str, Any], n: int = 3) -> list[str]:
    """Return the columns, or the record length, that are farthest above their ceilings, with both numbers."""
    found = {"record length": (result["length_ks"], result["length_ks_ceiling"])}
    for measure in ("tv", "ks"):
        found |= {name: (far, result[f"{measure}_ceiling"][name]) for name, far in result[measure].items()}
    ordered = sorted(found.items(), key=lambda item: item[1][1] - item[1][0])
    return [f"{name} {far:.3f} ({ceiling:.3f})" for name, (far, ceiling) in ordered[:n]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--schema", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--updates", type=int, required=True)
    parser.add_argument("--patients", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    changes = dict(change.split("=", 1) for change in given.set)
    result = measure(given.table, given.schema, changes, given.updates, given.patients, given.work)
    print_table(result)
    disk.write_text(given.json, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
