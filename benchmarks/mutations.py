"""Every mutation by which the fuzz tests spoil a file, and what it got.

python -m benchmarks.mutations --json benchmarks/results/mutations.json
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from hg3 import disk

FOLDER = re.compile(r"/[^ ]*/pytest-[^/]+/[^/]+/")  # of the tests: another one in each run


def tried() -> list[dict[str, Any]]:
    """Run the fuzz tests; return each mutation that they tried and what it got."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "mutations.jsonl"
        command = [sys.executable, "-m", "pytest", "-q", "tests/test_fuzz.py"]
        subprocess.run(command, check=True, env={**os.environ, "HG3_MUTATIONS": str(log)})
        return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def content_of(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the list: each mutation with the verb that met it and what that said, and how many mutations these are."""
    listed = [{**entry, "got": FOLDER.sub("", entry["got"])} for entry in entries]
    distinct = {tuple(entry[key] for key in ("kind", "file", "mutation", "seed")) for entry in listed}
    return {"mutations": len(distinct), "refused": sum(e["status"] == 2 for e in listed), "tried": listed}


def print_counts(entries: list[dict[str, Any]]) -> None:
    """Print one line a verb, kind of file and mutation: how often tried and refused."""
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for entry in entries:
        groups[entry["verb"], entry["file"], entry["mutation"]].append(entry["status"])
    for (verb, file, mutation), ends in sorted(groups.items()):
        print(f"{verb:<28}{file:<46}{mutation:<26}{sum(end == 2 for end in ends):>4} of {len(ends):<4} refused")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    content = content_of(tried())
    print_counts(content["tried"])
    disk.write_text(given.json, json.dumps({**content, "machine": machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
