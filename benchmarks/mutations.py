"""Every way in which the fuzz tests spoil a file, how often each was tried, and what it got.

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

from hg3 import disk

SHOWN_SENTENCES = 3
FOLDER = re.compile(r"/[^ ]*/pytest-[^/]+/[^/]+/")  # of the tests: another one in each run


def tried() -> list[dict[str, Any]]:
    """Run the fuzz tests; return each mutation that they tried and what it got."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "mutations.jsonl"
        command = [sys.executable, "-m", "pytest", "-q", "tests/test_fuzz.py"]
        subprocess.run(command, check=True, env={**os.environ, "HG3_MUTATIONS": str(log)})
        return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def summary(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row a kind of file and mutation: how often tried, refused and accepted, and some sentences."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        groups[entry.get("verb", "check"), entry["file"], entry["mutation"]].append(entry)
    rows = []
    for (verb, file, mutation), group in sorted(groups.items()):
        sentences = sorted({FOLDER.sub("", entry["got"]) for entry in group if entry["status"] == 2}, key=len)
        refused = sum(entry["status"] == 2 for entry in group)
        counts = {"tried": len(group), "refused": refused, "accepted": len(group) - refused}
        rows.append({"verb": verb, "file": file, "mutation": mutation, **counts, "said": sentences[:SHOWN_SENTENCES]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    rows = summary(tried())
    for row in rows:
        print(f"{row['verb']:<8}{row['file']:<26}{row['mutation']:<26}{row['refused']:>4} of {row['tried']:<4} refused")
    disk.write_text(given.json, json.dumps({"mutations": sum(r["tried"] for r in rows), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
