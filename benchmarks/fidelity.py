"""What releases are worth: hg3, Health Gym v3 and SDV's PAR on the stand-in cohort and on real tables.

python -m benchmarks.fidelity --real TABLES --work runs/fidelity --results benchmarks/results/fidelity

TABLES is a folder with icu_48h.csv.gz, renal_monthly.csv.gz and pbc2.csv; without it, the stand-in cohort alone. A row
is a table, a generator and a seed. Each leaves a JSON file with every measure beside its ceiling, judged by
benchmarks/goals.toml; a row whose file is there, of the measures as they are, is not made again, and one that was
interrupted goes on. --only chooses rows: --only art:hg3:0 pbc2:hg3. --set changes the preset, and --name says what the
generator is then called: an ablation, which is compared with validation patients, for it chooses a default. --sheet
writes the table of all rows that are there and makes none.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import data, machine
from hg3 import disk, generate, train
from hg3.cli.options import pairs
from hg3.release.evaluate import evaluate_release
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.read import read_table
from hg3.table.schema import load_schema
from hg3.table.write import write_table
from hg3.training.checkpoint import best_checkpoint, checkpoints, read_state

MINUTES = 6.0
GOALS = Path("benchmarks/goals.toml")
PUBLISHED = ("health-gym-v3", "hg3-256")  # trained by benchmarks.presets, 6,000 updates each


@dataclass(frozen=True)
class Source:
    """A table to learn from: its file, its schema, and how many patients a release of it has."""

    file: str
    schema: str
    patients: int


SOURCES = {
    "art": Source("", "art-hiv-v2", 1_000),
    "icu_48h": Source("icu_48h.csv.gz", "benchmarks/schemas/icu_48h.toml", 1_000),
    "renal_monthly": Source("renal_monthly.csv.gz", "benchmarks/schemas/renal_monthly.toml", 407),
    "pbc2": Source("pbc2.csv", "benchmarks/schemas/pbc2.toml", 312),
}


@dataclass(frozen=True)
class Row:
    table: str
    generator: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.table}-{self.generator}-{self.seed}"


def rows(given: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows in order: hg3 first, three seeds a table, then what it is compared with."""
    tables = [name for name, source in SOURCES.items() if not source.file or given.real]
    every = [Row(table, given.name, seed) for seed in given.seeds for table in tables]
    every += [Row("art7", generator, 0) for generator in PUBLISHED if given.presets]
    every += [Row(table, "par", 0) for table in tables if given.par]
    wanted = given.only or [""]
    return (row for row in every if any(f"{row.table}:{row.generator}:{row.seed}".startswith(w) for w in wanted))


def run_of(row: Row, given: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Train the row's run if it is not there yet; return it and what is to be told of its training."""
    source, run = SOURCES[row.table], given.work / row.table / row.name / "run"
    run.parent.mkdir(parents=True, exist_ok=True)
    settings = {
        "changes": None if run.exists() else pairs(given.set),
        "seed": row.seed,
        "minutes": given.minutes,
        "resume": run.exists(),
        "report": _tell,
    }
    if not train(table_of(row.table, given), run, source.schema, **settings):
        raise SystemExit("stopped at a checkpoint; the same command goes on")
    return run, {"minutes": given.minutes, **told_of(run)}


def table_of(name: str, given: argparse.Namespace) -> Path:
    """Return the path of a table; the stand-in cohort is simulated the first time."""
    if SOURCES[name].file:
        return given.real / SOURCES[name].file
    path = given.work / "art.parquet"
    if not path.exists():
        given.work.mkdir(parents=True, exist_ok=True)
        write_table(simulate(8_916, seed=0), path)
    return path


def told_of(run: Path) -> dict[str, Any]:
    """Return how long a run was trained, and of the weights that generate their update and what validation says."""
    best = read_state(best_checkpoint(run))
    kept = {"update": best["update"], **{key: best.get(key) for key in ("validation", "attack", "attack_limit")}}
    return {"updates": read_state(checkpoints(run)[-1])["update"], "generates": kept}


def made_by_hg3(row: Row, given: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Return the row's report and what is to be told of it."""
    folder = given.work / row.table / row.name
    if row.generator in PUBLISHED:  # benchmarks.presets has made its release, too
        made = given.presets / row.generator.removesuffix("-256")
        run, release, told = made / "run", made / "release", told_of(made / "run")
    else:
        (run, told), release = run_of(row, given), folder / "release"
        generate(run, release, SOURCES[row.table].patients, seed=row.seed)
    folder.mkdir(parents=True, exist_ok=True)
    how = {"gates": GOALS, "held": held_of(row), "utility": given.utility, "report": _tell_section}
    evaluate_release(release, folder / "report", run=run, **how)
    return folder / "report", told


def held_of(row: Row) -> str:
    """Return the patients that a row is compared with: an ablation chooses a default, which the hold-out must not."""
    return "holdout" if row.generator in ("hg3", "par", *PUBLISHED) else "validation"


def made_by_par(row: Row, given: argparse.Namespace) -> tuple[Path | None, dict[str, Any]]:
    """Return the report of PAR trained on the same patients, None if it did not finish, and what is to be told."""
    run, _ = run_of(Row(row.table, given.name, 0), given)  # for its split
    source, folder = SOURCES[row.table], given.work / row.table / row.name
    folder.mkdir(parents=True, exist_ok=True)
    schema = load_schema(source.schema)
    split = disk.read_json(run / "split.json", "a run")["patients"]
    frame = read_table(table_of(row.table, given), schema).drop(columns=list(schema.ignore), errors="ignore")
    for part in ("train", "holdout"):
        frame[frame[schema.patient].isin(split[part])].to_parquet(folder / f"{part}.parquet")
    (folder / "schema.json").write_text(schema.model_dump_json())
    command = [given.par, "benchmarks/par.py", folder / "train.parquet", folder / "schema.json"]
    command += ["--patients", source.patients, "--minutes", given.minutes, "--out", folder / "made.parquet"]
    limit = 60 * (2 * given.minutes) + 120  # as long again to sample, and two minutes to start
    try:
        subprocess.run(
            [*map(str, command), "--json", str(folder / "told.json")], check=True, timeout=limit, capture_output=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        told = json.loads((folder / "told.json").read_text()) if (folder / "told.json").exists() else {}
        return None, {**told, "did_not_finish": type(error).__name__, "limit_seconds": limit}
    real = {part: folder / f"{part}.parquet" for part in ("train", "holdout")}
    report = folder / "report"
    how = {"schema": source.schema, "gates": GOALS, "utility": given.utility}
    evaluate_release(folder / "made.parquet", report, **real, **how)
    return report, json.loads((folder / "told.json").read_text())


def result(row: Row, given: argparse.Namespace) -> dict[str, Any]:
    report, told = made_by_par(row, given) if row.generator == "par" else made_by_hg3(row, given)
    table = given.presets / "cohort.parquet" if row.generator in PUBLISHED else table_of(row.table, given)
    content = {**vars(row), "held": held_of(row), "changes": given.set, "data": data(table)}
    content |= {"training": told, "measures_sha256": measures_sum(), "machine": machine()}
    if report is None:
        return content
    if row.seed == 0 and content["held"] == "holdout":
        shutil.copy(report / "report.html", given.results / f"{row.name}.html")
    metrics = disk.read_json(report / "metrics.json", "a report")
    for measured in metrics["measures"]:
        del measured["draws"]  # a thousand numbers of which the interval is what matters
    return {**content, **{key: metrics[key] for key in metrics if key not in ("format", "about", "seal")}}


def measures_sum() -> str:
    """Return one SHA-256 of all that measures and of the goals: a row of other measures is evaluated anew."""
    files = [path for path in Path("hg3/evaluation").rglob("*.py") if "report" not in path.parts]
    texts = [f"{path}\n{disk.sha256_of(path)}\n" for path in sorted([*files, GOALS])]
    return hashlib.sha256("".join(texts).encode()).hexdigest()


def is_there(path: Path) -> bool:
    """Whether a row was made with the measures as they are now."""
    return path.exists() and json.loads(path.read_text()).get("measures_sha256") == measures_sum()


def sheet(results: Path) -> str:
    """Return the verdicts of all rows as a Markdown table: means over seeds, each beside its ceiling."""
    found = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    columns: dict[str, list[dict[str, Any]]] = {}
    for content in found:
        among = ", validation" if content.get("held") == "validation" else ""
        columns.setdefault(f"{content['table']}, {content['generator']}{among}", []).append(content)
    gates = list(dict.fromkeys(v["name"] for content in found for v in content.get("verdicts", ())))
    lines = ["| what | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for gate in gates:
        lines.append(f"| {gate} | " + " | ".join(_cell(gate, contents) for contents in columns.values()) + " |")
    return "\n".join(lines) + "\n"


def _cell(gate: str, contents: list[dict[str, Any]]) -> str:
    found = [v for content in contents for v in content.get("verdicts", ()) if v["name"] == gate]
    if not found:
        return "did not finish" if any("did_not_finish" in c["training"] for c in contents) else "-"
    known = [v for v in found if v["score"] is not None]
    if not known:
        return "not estimable"
    score, ceiling = (np.mean([v[key] for v in known]) for key in ("score", "ceiling"))
    states = "/".join(v["state"] for v in found)
    return f"{score:.3f} ({ceiling:.3f}) {states if len(set(states.split('/'))) > 1 else found[0]['state']}"


def _tell(entry: dict[str, Any]) -> None:
    if "validation" in entry:
        print(f"update {entry['update']} of {entry['total']}, validation loss {entry['validation']:.4f}", flush=True)


def _tell_section(stage: str, entry: dict[str, Any]) -> None:
    print(f"{stage}: {entry['done']} of {entry['of']} {entry['section']}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="the folder of the real tables")
    parser.add_argument("--presets", type=Path, help="the work folder of benchmarks.presets")
    parser.add_argument("--par", help="the Python of an environment that has sdv")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--name", default="hg3")
    parser.add_argument("--utility", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="TABLE[:GENERATOR[:SEED]]")
    parser.add_argument("--sheet", action="store_true", help="write the table of the rows that are there")
    parser.add_argument("--work", type=Path, default=Path("runs/fidelity"))
    parser.add_argument("--results", type=Path, required=True)
    given = parser.parse_args()
    given.results.mkdir(parents=True, exist_ok=True)
    for row in () if given.sheet else rows(given):
        path = given.results / f"{row.name}.json"
        if not is_there(path):
            print(row.name, flush=True)
            disk.write_text(path, json.dumps(result(row, given), indent=1) + "\n")
    disk.write_text(given.results / "table.md", sheet(given.results))
    print(sheet(given.results))


if __name__ == "__main__":
    main()
