"""The stand-in cohort, seven columns, ready for either preset: what a speed is measured on needs no training."""

from pathlib import Path

from benchmarks.presets import schemas
from hg3 import train
from hg3.config import load_preset
from hg3.table.checks import checked_cohort
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.encoding import encode, fit_encoder
from hg3.table.schema import load_schema
from hg3.table.split import TRAIN_SHARE, split_patients
from hg3.table.write import write_table
from hg3.training.checkpoint import Recipe
from hg3.training.run import Prepared

PATIENTS = 300  # as many as the published code learns from


def untrained_run(preset: str, changes: dict[str, str], work: Path, patients: int = PATIENTS) -> Path:
    """Return a run of `preset` after a single update, made in `work` where it is not there yet."""
    work.mkdir(parents=True, exist_ok=True)
    run, table = work / preset, work / "cohort.parquet"
    if not table.exists():
        write_table(simulate(patients, seed=0), table)
    if not run.exists():
        batch = {"training.batch": str(min(64, int(patients * TRAIN_SHARE)))}
        train(table, run, schemas(work)[preset], preset, {**batch, **changes}, updates=1)
    return run


def prepare(preset: str, changes: dict[str, str], work: Path, patients: int = PATIENTS) -> Prepared:
    """Return the cohort encoded for `preset`, as the verb train prepares it."""
    work.mkdir(parents=True, exist_ok=True)
    schema, loaded = load_schema(schemas(work)[preset]), load_preset(preset, changes)
    cohort, _ = checked_cohort(simulate(patients, seed=0), schema)
    split = split_patients(cohort.n_patients, seed=0)
    encoder, _ = fit_encoder(cohort, split.train, loaded.encoding.scaling)
    return Prepared(Recipe(loaded, schema, encoder), split, {}, cohort, encode(cohort, encoder))
