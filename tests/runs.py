"""Runs and releases for tests, made in code: a tiny network that has trained for a moment."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from hg3 import disk
from hg3.cli.app import main
from hg3.release.card import card, dictionary_rows
from hg3.release.croissant import croissant
from hg3.release.manifest import UNSUMMED
from hg3.release.writer import generate, write_sums
from hg3.table.schema import load_schema
from hg3.training.run import train
from tests.table.cases import make_schema, make_table, tiny_columns

TINY = {
    "network.width": "16",
    "network.levels": "1",
    "training.batch": "8",
    "training.warmup": "2",
    "training.learning_rate": "1e-2",
    "training.ema": "0.9",
    "training.precision": "float32",
    "schedule.steps": "20",
}
ENOUGH = 150  # updates after which a release has lengths, gaps and missing cells as its table has
SIZES: dict[str, Any] = {"steps": 3, "block_patients": 16, "part_blocks": 2}  # of a release: parts of 32 patients


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute on one thread: on tiny tensors others only wait, up to fifty times longer than the work takes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Ended:
    """What a command line left: exit status, standard output and standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run `hg3 ARGUMENTS` in this process."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["hg3", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err)

    return run


def options(changes: dict[str, str] = TINY) -> list[str]:
    """Return `changes` as the command line takes them."""
    return [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]


def write_cohort(folder: Path, n_patients: int = 40) -> Path:
    """Write table.parquet and schema.toml of the tiny columns into `folder`; return the table's path."""
    (folder / "schema.toml").write_text(make_schema(tiny_columns(), name="tiny").to_toml(), encoding="utf-8")
    make_table(n_patients).to_parquet(folder / "table.parquet")
    return folder / "table.parquet"


def make_run(folder: Path, updates: int = 3, seed: int = 0) -> Path:
    """Return a run in `folder`, which holds its table and schema as well."""
    table = write_cohort(folder)
    train(table, folder / "run", folder / "schema.toml", changes=TINY, updates=updates, seed=seed)
    return folder / "run"


def make_release(run: Path, out: Path, patients: int, **changes: Any) -> Path:
    """Return a complete release of small blocks in `out`."""
    assert generate(run, out, patients, **{**SIZES, **changes})
    return out


def file_bytes(folder: Path) -> dict[str, bytes]:
    """Return all files of a release but provenance.json, the one that two makings may write differently."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    del found["provenance.json"]
    return found


def manifest_of(release: Path) -> dict[str, Any]:
    return dict(json.loads((release / "manifest.json").read_text(encoding="utf-8")))


def seal(release: Path, **changes: Any) -> None:
    """Rewrite manifest (with `changes`), texts and sums so that they agree with the parts, as a forger would."""
    manifest = {**manifest_of(release), **changes}
    for entry in manifest["parts"]:
        if (release / entry["file"]).is_file():
            entry["sha256"] = disk.sha256_of(release / entry["file"])
    disk.write_json(release / "manifest.json", manifest)
    schema = load_schema(release / "schema.toml")
    disk.write_text(release / "dictionary.csv", dictionary_rows(schema))
    disk.write_text(release / "CARD.md", card(schema, manifest))
    disk.write_json(release / "croissant.json", croissant(schema, manifest))
    sum_anew(release)


def sum_anew(release: Path) -> None:
    """Write SHA256SUMS of all files that are there, as a forger would."""
    names = (str(path.relative_to(release)) for path in release.rglob("*") if path.is_file())
    write_sums(release, sorted(name for name in names if name not in UNSUMMED))


def run_python(script: str, *arguments: object) -> str:
    """Return what `script` prints in a fresh interpreter of one thread; fail with its errors if it does."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
