"""Everything that needs a GPU, in one go: build, tests, sanitizers, benchmarks; one table last, all in one folder.

make gpu-check, or python -m benchmarks.gpu_check --out runs/gpu-check
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from hg3 import disk

ROOT = Path(__file__).parents[1]
SUMMARY = "gpu-check.json"
TOTAL_S = 9 * 60
LEAST_S = 5  # a step with less time left than this is not begun
PYTHON = (sys.executable, "-m")
TESTS = (*PYTHON, "pytest", "-q", "-p", "no:cacheprovider", "tests/csrc/test_reverse_step_cuda.py")
# Sanitizers slow everything down: every branch of the kernel, and none of what torch does around it.
FEW_TESTS = (*TESTS, "-k", "shapes_and_rows or memory or in_place or refuses")
SANITIZER = ("compute-sanitizer", "--error-exitcode", "9", "--tool")
# PATH: where the build finds ninja. Without torch's cache of memory, memcheck sees where each tensor ends.
ENVIRONMENT = {
    "HG3_BUILD": "cuda",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
}
UNCACHED = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


@dataclass(frozen=True)
class Step:
    """One program: {json} and {work} in its words become places in the output folder."""

    name: str
    command: tuple[str, ...]
    limit_s: int
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a step; ratio is the headline figure of a benchmark's JSON."""

    step: str
    result: str
    seconds: float
    ratio: float | None = None


def benchmark(name: str, limit_s: int, *words: str, module: str | None = None) -> Step:
    return Step(name, (*PYTHON, f"benchmarks.{module or name}", "--json", "{json}", *words), limit_s)


# What the rest stands on first; what takes long and can be done without last.
STEPS = (
    Step("build", (sys.executable, "setup.py", "build_ext", "--inplace"), 180),
    Step("tests", TESTS, 90),
    benchmark("reverse_step", 60),
    Step("memcheck", (*SANITIZER, "memcheck", *FEW_TESTS), 60, tuple(UNCACHED.items())),
    Step("racecheck", (*SANITIZER, "racecheck", *FEW_TESTS), 60),
    benchmark("generate", 120, "--work", "{work}"),
    benchmark("train", 90, "--work", "{work}"),
    benchmark("scale", 90, "--work", "{work}"),
    benchmark("scale_million", 90, "--work", "{work}", "--sizes", "1000000", module="scale"),
)


def run_step(step: Step, out: Path, left_s: float) -> Outcome:
    """Run a step for as long as it may; its words go to NAME.log, its figures to NAME.json."""
    if shutil.which(step.command[0]) is None:
        return Outcome(step.name, f"not run: {step.command[0]} is not on PATH", 0.0)
    if left_s < LEAST_S:
        return Outcome(step.name, "not run: no time left", 0.0)
    places = {"{json}": str(out / f"{step.name}.json"), "{work}": str(out / "work" / step.name)}
    command = [places.get(word, word) for word in step.command]
    limit_s, start = min(step.limit_s, left_s), time.monotonic()
    with (out / f"{step.name}.log").open("wb") as log:
        result = run_command(command, {**ENVIRONMENT, **dict(step.environment)}, limit_s, log.fileno())
    return Outcome(step.name, result, round(time.monotonic() - start, 1), ratio_in(out / f"{step.name}.json"))


def run_command(command: list[str], environment: dict[str, str], limit_s: float, log: int) -> str:
    """Return how a command ended; at its limit it is killed with whatever it started."""
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
    )
    try:
        status = process.wait(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"stopped after {limit_s:.0f} s"
    return "passed" if status == 0 else f"failed with status {status}"


def ratio_in(path: Path) -> float | None:
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["ratio"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the step has none, or did not come so far


def print_table(outcomes: list[Outcome]) -> None:
    print(f"{'step':<16}{'seconds':>8}{'ratio':>10}  result")
    for outcome in outcomes:
        ratio = "" if outcome.ratio is None else f"{outcome.ratio:.4g}"
        print(f"{outcome.step:<16}{outcome.seconds:>8.1f}{ratio:>10}  {outcome.result}")


def clear(out: Path) -> None:
    """Empty the folder of an earlier check, whose figures would stand as this one's; no other folder."""
    if out.exists() and not (out / SUMMARY).exists() and any(out.iterdir()):
        raise SystemExit(f"hg3: {out} holds something else than an earlier make gpu-check: name another folder.")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    disk.write_text(out / SUMMARY, '{"outcomes": []}\n')


def check(out: Path, steps: tuple[Step, ...] = STEPS, total_s: float = TOTAL_S) -> list[Outcome]:
    """Run all steps, also after one that fails; write what became of them to `out`/gpu-check.json, and print it."""
    clear(out)
    outcomes: list[Outcome] = []
    end = time.monotonic() + total_s
    for step in steps:
        print(f"{step.name} ...", flush=True)
        outcomes.append(run_step(step, out, end - time.monotonic()))
        content = {"outcomes": [asdict(outcome) for outcome in outcomes]}
        disk.write_text(out / SUMMARY, json.dumps(content, indent=2) + "\n")
    print_table(outcomes)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "runs" / "gpu-check", help="emptied first if a check made it"
    )
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stderr.write(
            f"hg3: torch {torch.__version__} sees no CUDA device here: run make gpu-check where there is a GPU, with a "
            "CUDA build of torch.\n"
        )
        raise SystemExit(2)
    outcomes = check(given.out.resolve())
    raise SystemExit(any(outcome.result != "passed" for outcome in outcomes))


if __name__ == "__main__":
    main()
