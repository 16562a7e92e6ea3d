"""The verb evaluate: a release, or any other table, beside real patients; the report and its numbers in a folder."""

import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from hg3 import __version__, disk
from hg3.errors import ConfigError, RunError, TableError
from hg3.evaluation.cohorts import Compared, compared_cohorts, given_cohorts
from hg3.evaluation.draws import Measured
from hg3.evaluation.evaluate import Report, evaluate, panels_of
from hg3.evaluation.gates import load_gates
from hg3.evaluation.report import write_report
from hg3.evaluation.results import Evaluation, Section
from hg3.evaluation.suppression import FEWEST_PATIENTS
from hg3.release.load import load
from hg3.release.reading import open_release
from hg3.table.read import read_table
from hg3.table.schema import TableSchema, load_schema
from hg3.training.checkpoint import best_checkpoint, checkpoint_hash

METRICS = "metrics.json"


def evaluate_release(
    release: str | Path,
    out: str | Path,
    run: str | Path | None = None,
    train: str | Path | None = None,
    holdout: str | Path | None = None,
    schema: str | Path | None = None,
    utility: bool = False,
    gates: str | Path | None = None,
    seed: int = 0,
    report: Report = lambda stage, entry: None,
    held: Literal["holdout", "validation"] = "holdout",
) -> Evaluation:
    """Measure `release` beside real patients; write report.html, metrics.json and figures/ into `out`.

    Parameters
    ----------
    release : a release folder, or a table that another program made.
    run : the run that the release was made from, whose split says who was trained on and who was held out.
    train, holdout, schema : in place of `run`: two tables of real patients, and the schema of all (by default the
        release's own).
    utility : whether to train policies and hazard models too, which takes minutes.
    gates : a TOML file of thresholds; hg3's own if absent.
    held : with `run`, the patients compared with; those of validation serve the choice among seeds and certify nothing.

    Raises
    ------
    ConfigError
        If neither a run nor two tables are given, or both are.
    RunError
        If `out` is there and holds something else than a report.
    """
    release, out = Path(release), Path(out).resolve()
    _check_out(out)
    thresholds = load_gates(None if gates is None else Path(gates))
    if (run is None) == (train is None or holdout is None) or (run is not None and (train or holdout)):
        raise ConfigError("an evaluation takes --run, or --train and --holdout with --schema; give one of the two")
    real = None if train is None or holdout is None else (Path(train), Path(holdout))
    compared, about, further = _compared(release, None if run is None else Path(run), real, schema, held)
    _check_patients(compared)
    about = {**about, "hg3": __version__, "seed": seed}
    panels = panels_of(compared)
    found = evaluate(panels, thresholds, utility, seed, about, further, report)
    out.parent.mkdir(parents=True, exist_ok=True)
    new = out.with_name(f".{out.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # of a call that was killed between its last two steps
    with disk.atomic_folder(new) as folder:
        content = found.content()
        disk.write_sealed(folder / METRICS, content)
        write_report(found, panels, folder)
    disk.replace_folder(new, out)
    return found


def _check_out(out: Path) -> None:
    """Refuse a place that holds anything but a report, which is replaced."""
    if out.is_dir() and (not any(out.iterdir()) or _is_report(out)):
        return
    if out.exists() or not out.name:
        raise RunError(f"{out} is there already and is not a report; remove it or choose another folder")


def _is_report(out: Path) -> bool:
    if {path.name for path in out.iterdir()} - {METRICS, "report.html", "figures"}:
        return False
    try:
        disk.read_sealed(out / METRICS, "a report")
    except RunError:
        return False
    return True


def _check_patients(compared: Compared) -> None:
    """Refuse groups that nobody could be hidden in, and patients who are in both.

    Raises
    ------
    TableError
        If there are fewer than ten of a group of real patients, or the same patients in both.
    """
    for name, cohort in (("training", compared.train), ("held-out", compared.holdout)):
        if cohort.n_patients < FEWEST_PATIENTS:
            raise TableError(
                f"there are {cohort.n_patients} {name} patients, and a report of fewer than {FEWEST_PATIENTS} would "
                "tell of each of them; hold out more, or give larger tables"
            )
    shared = np.intersect1d(compared.train.patients.astype(str), compared.holdout.patients.astype(str))
    if len(shared):
        raise TableError(
            f"{len(shared)} patients are among the training patients and the held-out ones; give tables that share none"
        )


def _compared(
    release: Path, run: Path | None, real: tuple[Path, Path] | None, schema: str | Path | None, held: str
) -> tuple[Compared, dict[str, Any], list[Section]]:
    """Return the three cohorts, what is told about them, and what the release's manifest tells."""
    if not release.is_dir():
        return (*_of_tables(release, real, schema), [])
    opened = open_release(release)
    manifest_sum = disk.sha256_of(release / "manifest.json")
    about = {"title": opened.schema.title or opened.schema.name, "schema": opened.schema.name}
    about |= {"manifest_sha256": manifest_sum}
    further = [_of_manifest(opened.manifest)]
    if run is not None:
        if checkpoint_hash(best_checkpoint(run)) != opened.manifest["checkpoint"]:
            raise RunError(
                f"{run} is not the run that made {release}, or it was trained on since; give the one that did"
            )
        about |= {"real": "the run's split", "split_sha256": disk.sha256_of(run / "split.json")}
        about |= {} if held == "holdout" else {"held": held}
        condition = {key: opened.manifest[key] for key in ("where", "balance")}
        return compared_cohorts(load(release), opened.schema, run, held=held, **condition), about, further
    assert real is not None
    loaded = opened.schema if schema is None else load_schema(schema)
    about |= _of_files(real)
    return given_cohorts((load(release), *_tables(real, loaded)), loaded), about, further


def _of_tables(
    table: Path, real: tuple[Path, Path] | None, schema: str | Path | None
) -> tuple[Compared, dict[str, Any]]:
    if real is None or schema is None:
        raise ConfigError(f"{table} is no release folder; a table is evaluated with --train, --holdout and --schema")
    loaded = load_schema(schema)
    about = {"title": loaded.title or loaded.name, "schema": loaded.name, **_of_files(real)}
    return given_cohorts(_tables((table, *real), loaded), loaded), about


def _of_files(real: tuple[Path, Path]) -> dict[str, str]:
    """Return what tells a reader that whoever evaluated chose the real patients, and which files they were."""
    sums = {f"{part}_sha256": disk.sha256_of(path) for part, path in zip(("train", "holdout"), real, strict=True)}
    return {"real": "tables given by hand", **sums}


def _tables(paths: tuple[Path, ...], schema: TableSchema) -> list[pd.DataFrame]:
    return [read_table(path, schema).drop(columns=list(schema.ignore), errors="ignore") for path in paths]


def _of_manifest(manifest: dict[str, Any]) -> Section:
    """Return what the guardrail counted while the release was made."""
    guardrail = manifest["guardrail"]
    rejected = guardrail["rejected"] / max(guardrail["attempts"], 1)
    measured = Measured("patients rejected", "", np.array([rejected]), np.zeros(1))
    return Section("making", "fidelity", (measured,))
