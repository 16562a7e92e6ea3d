"""Releases of growing size: steady patients a second, fixed cost, peak memory, and what decoding and writing take.

python -m benchmarks.scale --sizes 10000 30000 100000 --work runs/scale --json benchmarks/results/scale.json

Each size is a release made by the verb itself in a fresh process, whose peak memory is its own. The network is fresh,
of preset hg3 at the width and steps given (stated in the JSON); --run gives a trained one. With --cluster, a release
of the first size is made by 1, 2 and 4 tasks of SLURM instead, for example on the one of slurm/one-node-up.sh.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from benchmarks.machine import machine, trained
from benchmarks.scale_cluster import one_release
from benchmarks.stand_in import untrained_run
from benchmarks.targets import at_least, at_most, print_targets
from benchmarks.timing import Parts
from hg3 import disk, generate
from hg3.cluster.profiles import load_profile
from hg3.release import writer
from hg3.training.device import default_device

WARM_BLOCKS = 1  # of a release: what the first block takes beyond the others is part of the fixed cost
SMALLEST = 512  # two blocks
SIZES = {"cpu": (10_000, 30_000, 100_000), "cuda": (10_000, 30_000, 100_000, 1_000_000)}
TARGETS = {"ratio": 0.9, "memory_ratio": 1.05, "writing": 1.0}  # memory is flat but for what an allocator keeps


def one_size(run: Path, release: Path, patients: int, steps: int, compile: str) -> dict[str, Any]:
    """Make one release in this process and return its speed, memory and shares of wall time."""
    parts, blocks = Parts(), []

    def report(entry: dict[str, Any]) -> None:
        blocks.append((time.perf_counter(), entry["patients"]))

    for module, name, stage in (
        (writer, "sample_patients", "network"),
        (writer, "decode_counted", "decoding"),
        (pq.ParquetWriter, "write_table", "writing"),
    ):
        setattr(module, name, parts.function(stage, getattr(module, name)))
    started = time.perf_counter()
    generate(run, release, patients, steps=steps, compile=compile, report=report)
    wall = time.perf_counter() - started
    (first, before), (last, made) = blocks[min(WARM_BLOCKS, len(blocks) - 2)], blocks[-1]
    steady = (made - before) / (last - first)
    return {
        "patients": patients,
        "generate_s": round(wall, 3),
        "steady_per_s": round(steady, 2),
        "peak_mib": round(peak_kib() / 1024, 1),
        "share": {stage: round(seconds / wall, 4) for stage, seconds in parts.seconds.items()},
        **_device_peak(),
    }


def peak_kib() -> int:
    """Return this process's largest resident memory; getrusage would tell that of the one that started it as well."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def _device_peak() -> dict[str, float]:
    """Return a GPU's largest allocated memory, where there is one."""
    if not torch.cuda.is_available():
        return {}
    return {"peak_device_mib": round(torch.cuda.max_memory_allocated() / 2**20, 1)}


def in_fresh_process(run: Path, patients: int, given: argparse.Namespace) -> dict[str, Any]:
    """Return `one_size` of a process of its own, and its fixed cost: start, imports, checkpoint, compilation."""
    release = given.work / f"release-{patients}"
    shutil.rmtree(release, ignore_errors=True)
    asked = ["--one", str(patients), "--run", str(run), "--steps", str(given.steps), "--work", str(given.work)]
    asked += ["--json", str(given.work / "one.json"), *(["--compile"] if given.compile else [])]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "benchmarks.scale", *asked], check=True)
    seconds = time.perf_counter() - started
    shutil.rmtree(release)
    row: dict[str, Any] = disk.read_json(given.work / "one.json", "a measurement")
    return {**row, "seconds": round(seconds, 3), "fixed_s": round(seconds - patients / row["steady_per_s"], 3)}


def print_table(rows: list[dict[str, Any]]) -> None:
    keys = ("patients", "seconds", "steady_per_s", "fixed_s", "peak_mib")
    print("".join(f"{key:>14}" for key in (*keys, *rows[0]["share"])))
    for row in rows:
        shares = "".join(f"{share:>14.1%}" for share in row["share"].values())
        print("".join(f"{row[key]:>14}" for key in keys) + shares)


def by_size(run: Path, given: argparse.Namespace, before: dict[str, Any]) -> dict[str, Any]:
    """Measure all sizes, and write after each what was found so far: a later one may be killed."""
    rows: list[dict[str, Any]] = []
    about = {**_about(run, given), "machine": before}
    for patients in given.sizes:
        rows.append(in_fresh_process(run, patients, given))
        content = {**summary(rows), **about}
        disk.write_text(given.json, json.dumps(content, indent=2) + "\n")
    return content


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the sizes say together; `ratio`, of the slowest steady speed to the fastest, takes several."""
    speeds, peaks = [row["steady_per_s"] for row in rows], [row["peak_mib"] for row in rows]
    speed = memory = None
    writing = round(max(row["share"]["writing"] / row["share"]["network"] for row in rows), 4)
    met = [at_most("writing's time beside the network's", writing, TARGETS["writing"])]
    if len(rows) > 1:
        speed, memory = round(min(speeds) / max(speeds), 4), round(max(peaks) / min(peaks), 4)
        met += [
            at_least("slowest steady speed beside the fastest", speed, TARGETS["ratio"]),
            at_most("largest peak memory beside the smallest", memory, TARGETS["memory_ratio"]),
        ]
    return {"ratio": speed, "memory_ratio": memory, "sizes": rows, "targets": met}


def _about(run: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Return what releases were made of."""
    width = None if given.run else given.width
    return {"width": width, "steps": given.steps, "weights": "trained" if given.run else "fresh", **trained(run)}


def by_tasks(run: Path, given: argparse.Namespace, before: dict[str, Any]) -> None:
    """Measure releases of the first size, made by tasks of a cluster, and write what was found."""
    profile = load_profile(given.profile)
    rows = [
        one_release(run.absolute(), given.work / f"tasks-{n}", given.sizes[0], given.steps, n, profile)
        for n in given.tasks
    ]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    content = {**_about(run, given), "rows": rows, "machine": before}
    disk.write_text(given.json, json.dumps(content, indent=2) + "\n")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", help="1e4, 3e4, 1e5 if absent, 1e6 too on a GPU")
    parser.add_argument("--run", type=Path, help="a trained run; fresh weights if absent")
    parser.add_argument("--width", type=int, default=32, help="of the fresh network")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cohort", type=int, default=300)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--cluster", action="store_true", help="by tasks of SLURM")
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 2, 4], help="with --cluster")
    parser.add_argument("--profile", default="one-node", help="with --cluster")
    parser.add_argument("--one", type=int, help="one size, in this process")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    return parser


def check_sizes(sizes: Sequence[int]) -> None:
    if min(sizes) < SMALLEST:
        raise SystemExit(f"--sizes {min(sizes)} was given; a steady speed takes {SMALLEST} patients or more")


def main() -> None:
    given, before = arguments().parse_args(), machine()
    given.sizes = given.sizes or SIZES[default_device().type]
    check_sizes(given.sizes)
    given.work.mkdir(parents=True, exist_ok=True)
    if given.one is not None:
        mode = "default" if given.compile else "none"
        row = one_size(given.run, given.work / f"release-{given.one}", given.one, given.steps, mode)
        disk.write_text(given.json, json.dumps(row))
        return
    run = given.run or untrained_run("hg3", {"network.width": str(given.width)}, given.work, given.cohort)
    if given.cluster:
        by_tasks(run, given, before)
        return
    content = by_size(run, given, before)
    print_table(content["sizes"])
    print_targets(content["targets"])


if __name__ == "__main__":
    main()
