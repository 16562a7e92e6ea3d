"""Health Gym v3 as published beside hg3, on the stand-in cohort: seven columns, width 256 for both, equal updates.

python -m benchmarks.presets --json benchmarks/results/presets.json

Each training can be stopped with Ctrl-C and goes on when the same command is given again.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.compare import compare_release
from benchmarks.machine import data, machine
from hg3 import disk, generate, train
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.schema import load_schema
from hg3.table.write import write_table
from hg3.training.checkpoint import checkpoints, read_state

SAME = {"network.width": "256", "training.patience": "1000000"}  # as many updates for both: none stops early
PERSONAL = ("Gender", "Ethnic")  # what v3 declares monthly, and what no patient changes


def schemas(work: Path) -> dict[str, Path]:
    """Write the seven columns twice: monthly sex and ethnicity for v3, static for hg3; return path by preset."""
    monthly = load_schema("art-hiv-v3-demo")
    columns = tuple(c.model_copy(update={"static": c.name in PERSONAL}) for c in monthly.columns)
    static = monthly.model_copy(update={"columns": columns})
    paths = {"health-gym-v3": work / "monthly.toml", "hg3": work / "static.toml"}
    for path, schema in zip(paths.values(), (monthly, static), strict=True):
        path.write_text(schema.to_toml(), encoding="utf-8")
    return paths


def measure(
    preset: str, table: Path, schema: Path, updates: int, patients: int, work: Path, changes: dict[str, str] = SAME
) -> dict[str, Any]:
    """Return updates made, distances, ceilings, changing patients, acceptance and speed of one preset."""
    run, release = work / preset / "run", work / preset / "release"
    run.parent.mkdir(exist_ok=True)
    given = None if run.exists() else changes
    if not train(table, run, schema, preset, given, updates, resume=run.exists(), report=_tell):
        raise SystemExit("stopped at a checkpoint; the same command goes on")
    shutil.rmtree(release, ignore_errors=True)  # of an earlier call: a speed is that of a release made now
    started = time.perf_counter()
    generate(run, release, patients, block_patients=patients)  # one block: the rest of a last one would be made too
    seconds = time.perf_counter() - started
    scores = compare_release(release, run)
    guardrail = disk.read_json(release / "manifest.json", "a release")["guardrail"]
    return {
        "preset": preset,
        "updates": read_state(checkpoints(run)[-1])["update"],
        **{key: scores[key] for key in ("tv", "tv_ceiling", "ks", "ks_ceiling", "changing")},
        "acceptance": round(patients / guardrail["attempts"], 4),
        "patients_per_s": round(patients / seconds, 3),
    }


def _tell(entry: dict[str, Any]) -> None:
    if entry["update"] % 100 == 0:
        print(f"update {entry['update']} of {entry['total']}, loss {entry['loss']:.4f}", flush=True)


def print_table(results: list[dict[str, Any]]) -> None:
    print(f"{'':<28}" + "".join(f"{result['preset']:>16}" for result in results) + f"{'ceiling':>10}")
    for key in ("tv", "ks"):
        for column in results[0][key]:
            values = "".join(f"{result[key][column]:>16.4f}" for result in results)
            print(f"{key.upper()} {column:<25}{values}{results[-1][f'{key}_ceiling'][column]:>10.4f}")
    for name in PERSONAL:
        print(f"{name + ' changes':<28}" + "".join(f"{result['changing'][name]:>16.1%}" for result in results))
    for key in ("acceptance", "patients_per_s", "updates"):
        print(f"{key:<28}" + "".join(f"{result[key]:>16.3f}" for result in results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=6000)
    parser.add_argument("--cohort", type=int, default=8_916)
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--work", type=Path, default=Path("runs/presets"))
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    table = given.work / "cohort.parquet"
    if not table.exists():
        write_table(simulate(given.cohort, seed=0), table)
    results = [
        measure(preset, table, schema, given.updates, given.patients, given.work)
        for preset, schema in schemas(given.work).items()
    ]
    print_table(results)
    content = {"data": data(table), "patients": given.patients, "results": results}
    disk.write_text(given.json, json.dumps({**content, "machine": machine()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
