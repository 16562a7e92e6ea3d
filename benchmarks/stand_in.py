"""The stand-in cohort, seven columns, ready for either preset: what a speed is measured on needs no training."""

import hashlib
import json
from pathlib import Path

import hg3
from benchmarks.presets import schemas
from hg3 import disk, train
from hg3.config import load_preset
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.split import TRAIN_SHARE
from hg3.table.write import write_table
from hg3.training.run import Prepared, _prepare

PATIENTS = 300  # as many as the published code learns from


def write_cohort(work: Path, patients: int) -> Path:
    """Simulate the cohort into `work` anew, and return its path."""
    work.mkdir(parents=True, exist_ok=True)
    table = work / f"cohort-{patients}.parquet"
    table.unlink(missing_ok=True)
    write_table(simulate(patients, seed=0), table)
    return table


def untrained_run(preset: str, changes: dict[str, str], work: Path, patients: int = PATIENTS) -> Path:
    """Return a run of `preset` after a single update, made in `work` where there is none of the same make."""
    table, schema = write_cohort(work, patients), schemas(work)[preset]
    changes = {"training.batch": str(min(64, int(patients * TRAIN_SHARE))), **changes}
    run = work / f"{preset}-{_make(preset, changes, table)}"
    if not run.exists():
        train(table, run, schema, preset, changes, updates=1)
    return run


def prepare(preset: str, changes: dict[str, str], work: Path, patients: int = PATIENTS) -> Prepared:
    """Return the cohort encoded for `preset`, by the verb train's own function."""
    table, schema = write_cohort(work, patients), schemas(work)[preset]
    return _prepare(table, schema, load_preset(preset, changes), 0, lambda sentence: None)


def _make(preset: str, changes: dict[str, str], table: Path) -> str:
    """Return twelve digits of all that a run is made of: its preset and table, and every file of hg3."""
    package = Path(hg3.__file__).parent
    files = [table, *(path for ending in ("py", "toml") for path in sorted(package.rglob(f"*.{ending}")))]
    made_of = [preset, sorted(changes.items()), [disk.sha256_of(path) for path in files]]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]
