"""What the CUDA compiler says of the kernels: registers, stack and spills, for each architecture. It needs no GPU.

python -m benchmarks.ptxas --json benchmarks/results/ptxas.json
"""

import argparse
import json
import os
import re
import runpy
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.machine import machine
from hg3 import disk

ROOT = Path(__file__).parents[1]
KERNEL = ROOT / "csrc" / "reverse_step_cuda.cu"
ARCHITECTURES = ("sm_80", "sm_90")
TYPES = {"If": "float32", "I13__nv_bfloat16": "bfloat16", "I6__half": "float16"}  # of raw, as a kernel's name has it
FIGURES = ("stack_bytes", "spill_store_bytes", "spill_load_bytes", "registers")
REPORT = re.compile(
    r"entry function '\w*kernel(?P<type>I\w+?)E\w*'.*?"
    r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers",
    re.DOTALL,
)


def nvcc(*words: object) -> str:
    """Return what nvcc says; C++20 is what torch's build gives it."""
    done = subprocess.run(["nvcc", "-std=c++20", *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"hg3: nvcc ended with status {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def nvcc_version() -> str:
    """Return the last line of what nvcc says of itself, which tells one build from another."""
    return nvcc("--version").splitlines()[-1]


def flags() -> list[str]:
    """Return what setup.py gives nvcc; nothing is built."""
    with patch.dict(os.environ, HG3_BUILD="none"), patch("setuptools.setup"):
        return list(runpy.run_path(str(ROOT / "setup.py"))["NVCC_FLAGS"])


def report(architecture: str) -> list[dict[str, Any]]:
    """Return a row a kernel: its architecture, the type of the network's output, and the compiler's figures."""
    with tempfile.TemporaryDirectory() as folder:
        said = nvcc(*flags(), f"-arch={architecture}", "-Xptxas", "-v", "-cubin", KERNEL, "-o", f"{folder}/cubin")
    return [
        {"architecture": architecture, "raw": TYPES[name], **dict(zip(FIGURES, map(int, figures), strict=True))}
        for name, *figures in REPORT.findall(said)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    rows = [row for architecture in ARCHITECTURES for row in report(architecture)]
    print("".join(f"{key:>18}" for key in rows[0]))
    for row in rows:
        print("".join(f"{value:>18}" for value in row.values()))
    content = {"kernels": rows, "nvcc": nvcc_version(), "flags": flags(), "machine": machine()}
    disk.write_text(given.json, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
