"""docs/cluster.md is run: its commands, in its order, on a real SLURM, with smaller numbers."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from hg3.cluster.choice import chosen_run
from hg3.cluster.records import read_record
from hg3.cluster.works import Work, read_work
from hg3.release.verify import verify_release
from hg3.training.checkpoint import best_checkpoint, checkpoint_hash
from tests.cluster.cases import CHANGES, PATIENTS, all_done, is_over, until
from tests.runs import options

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "cluster.md"
SMALLER = {
    "--patients 9000": f"--patients {PATIENTS}",
    "1000000": "3000",
    "20000": "20",
    "0-7": "0-1",
    "0-3": "0-1",
    "seed-3": "seed-1",
    "1-32": "1-2",
    "tasks 32": "tasks 2",
    "tasks = 32": "tasks = 2",
    "patients = 2000 ": "patients = 100 ",
    '{ "network.width" = 96 }': "{ " + ", ".join(f'"{key}" = "{value}"' for key, value in CHANGES.items()) + " }",
    "--partition=gpu --gres=gpu:1": "--partition=main --mem=1G",
}
NAMES = ("cpu", "gpu", "one-node")
# What a node of this cluster has, under the names of the page.
PROFILES = "".join(f'[{name}]\ncpus = 1\nmemory_gb = 1\nsetup = ["export OMP_NUM_THREADS=1"]\n' for name in NAMES)
PROFILES += "[local]\nparallel = 1\n"
OF_SHELL = ("git ", "make ", ". ", "cp ", "export ", "slurm/one-node")  # of a login node, and what brings this one up
FAILS_ITS_GATES = 3  # of certify: 20 updates are no training


def blocks() -> Iterator[str]:
    text = PAGE.read_text(encoding="utf-8")
    for words, smaller in SMALLER.items():
        assert words in text, f"{words!r} is on the page no longer"
        text = text.replace(words, smaller)
    yield from re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands() -> Iterator[list[str]]:
    """Yield the commands of the page in the order in which they stand there."""
    lines = (line for block in blocks() if "[generate]" not in block for line in block.splitlines())
    for line in lines:
        if line and not line.startswith(OF_SHELL):
            words = shlex.split(line, comments=True)
            assert words[0] in ("hg3", "sbatch"), f"{line!r}: no test knows what this is"
            yield [*words, *(options(CHANGES) if {"submit", "train"} <= {*words} or "train.sbatch" in line else [])]


def test_page(slurm: Path, tmp_path: Path) -> None:
    (tmp_path / "slurm").symlink_to(ROOT / "slurm")
    (tmp_path / "profiles.toml").write_text(PROFILES, encoding="utf-8")
    (tmp_path / "pipeline.toml").write_text(next(block for block in blocks() if "[generate]" in block))
    for words in commands():
        run(words, tmp_path)
    check_pipeline(read_work(tmp_path / "art"), tmp_path / "art")
    for release in ("art/release", "releases/art", "releases/sbatch"):
        verify_release(tmp_path / release)
    assert (tmp_path / "releases" / "art" / "certificate.json").is_file()


def run(words: list[str], folder: Path) -> None:
    """Call a command as a reader would, and wait for the jobs that it has started, for the next one builds on them."""
    env = {**os.environ, "HG3_PROFILES": str(folder / "profiles.toml")}
    ended = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    allowed = (0, FAILS_ITS_GATES) if "certify" in words else (0,)
    assert ended.returncode in allowed, (words, ended.stdout, ended.stderr)
    if words[0] == "sbatch":
        until("the array ends", lambda: is_over(ended.stdout.split()[-1]))
    elif "submit" in words and "--dry-run" not in words:
        all_done(read_work(folder / words[words.index("--out") + 1]), 900)


def check_pipeline(work: Work, out: Path) -> None:
    """Each stage began when the one before had ended; the best seed made the release, which has its verdict."""
    stages = [[read_record(work.record(s, i)) for i in range(len(s.calls))] for s in work.stages]
    assert [stage.name for stage in work.stages] == ["train", "score", "generate", "judge"]
    assert [len(records) for records in stages] == [2, 2, 2, 1]
    for before, after in pairwise(stages):
        assert max(record["at"] for record in before) <= min(record["began"] for record in after)
    best = chosen_run(work.stages[2].calls[0]["choice"])
    manifest = json.loads((out / "release" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["checkpoint"] == checkpoint_hash(best_checkpoint(best))
    certificate = json.loads((out / "release" / "certificate.json").read_text(encoding="utf-8"))
    assert certificate["verdicts"] and certificate["about"].get("held", "holdout") == "holdout"
    for seed in ("seed-0", "seed-1"):
        scored = json.loads((out / "scores" / seed / "report" / "metrics.json").read_text(encoding="utf-8"))
        assert scored["about"]["held"] == "validation"
