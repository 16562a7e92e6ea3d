"""Everything that needs a GPU, in one go: build, tests, benchmarks, sanitizers; one table last, all in one folder.

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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from hg3 import disk

ROOT = Path(__file__).parents[1]
SUMMARY = "gpu-check.json"
TOTAL_S = 9 * 60
LEAST_S = 5  # a step with less time left than this is not begun
PYTHON = (sys.executable, "-m")
KERNEL_TESTS = "tests/csrc/test_kernel_cuda.py"
PYTEST = (*PYTHON, "pytest", "-q", "-p", "no:cacheprovider", "-k", "on_gpu")
TESTS = (*PYTEST, KERNEL_TESTS, "tests/csrc/test_operator_cuda.py", "tests/test_devices.py")
# Sanitizers slow everything down: every branch of the kernel, and none of what torch does around it.
FEW_TESTS = (*PYTEST, KERNEL_TESTS)
SANITIZER = ("compute-sanitizer", "--error-exitcode", "9", "--tool")
# PATH: where the build finds ninja. Without torch's cache of memory, memcheck sees where each tensor ends.
ENVIRONMENT = {
    "HG3_BUILD": "cuda",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
}
UNCACHED = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


@dataclass(frozen=True)
class Step:
    """One program: {json} and {work} in its words become places in the output folder.

    kept_s : seconds that no step before it may use; it has them, and what those before it leave.
    """

    name: str
    command: tuple[str, ...]
    kept_s: int
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a step; targets are those in a benchmark's JSON: what, figure, target, met."""

    step: str
    result: str
    seconds: float
    targets: list[dict[str, Any]] = field(default_factory=list)


def benchmark(name: str, kept_s: int, *words: str, module: str | None = None) -> Step:
    return Step(name, (*PYTHON, f"benchmarks.{module or name}", "--json", "{json}", *words), kept_s)


# What the rest stands on first; last what has figures to show wherever it is stopped.
STEPS = (
    Step("build", (sys.executable, "setup.py", "build_ext", "--inplace"), 150),
    Step("tests", TESTS, 70),
    benchmark("reverse_step", 25),
    benchmark("reverse_step_larger", 25, "--patients", "131072", module="reverse_step"),
    benchmark("generate", 90, "--compile", "--work", "{work}"),
    benchmark("train", 40, "--work", "{work}"),
    Step("memcheck", (*SANITIZER, "memcheck", *FEW_TESTS), 30, tuple(UNCACHED.items())),
    Step("racecheck", (*SANITIZER, "racecheck", *FEW_TESTS), 30),
    benchmark("scale", 80, "--work", "{work}", "--sizes", "10000", "30000", "100000", "1000000"),
)


def run_step(step: Step, out: Path, limit_s: float) -> Outcome:
    """Run a step for so long at most; its words go to NAME.log, its figures to NAME.json."""
    if shutil.which(step.command[0]) is None:
        return Outcome(step.name, f"not run: {step.command[0]} is not on PATH", 0.0)
    if limit_s < LEAST_S:
        return Outcome(step.name, "not run: no time left", 0.0)
    places = {"{json}": str(out / f"{step.name}.json"), "{work}": str(out / "work" / step.name)}
    command = [places.get(word, word) for word in step.command]
    start = time.monotonic()
    with (out / f"{step.name}.log").open("wb") as log:
        result = run_command(command, {**ENVIRONMENT, **dict(step.environment)}, limit_s, log.fileno())
    return Outcome(step.name, result, round(time.monotonic() - start, 1), targets_in(out / f"{step.name}.json"))


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


def targets_in(path: Path) -> list[dict[str, Any]]:
    """Return the targets in a benchmark's JSON; none where the step writes none, or did not come so far."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["targets"]
        return [{key: target[key] for key in ("what", "figure", "target", "met")} for target in found]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def print_table(outcomes: list[Outcome]) -> None:
    """Print what became of each step, and under a benchmark its figures beside their targets."""
    print(f"{'step':<44}{'figure':>10}{'target':>10}{'met':>6}{'seconds':>10}  result")
    for outcome in outcomes:
        print(f"{outcome.step:<44}{'':>26}{outcome.seconds:>10.1f}  {outcome.result}")
        for target in outcome.targets:
            figures = "".join(f"{shown(target[key]):>10}" for key in ("figure", "target"))
            print(f"  {target['what']:<42}{figures}{'yes' if target['met'] else 'no':>6}")


def shown(figure: object) -> str:
    return f"{figure:.4g}" if isinstance(figure, int | float) else str(figure)


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
    for number, step in enumerate(steps):
        print(f"{step.name} ...", flush=True)
        kept = sum(later.kept_s for later in steps[number + 1 :])
        outcomes.append(run_step(step, out, end - time.monotonic() - kept))
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
