"""The verb evaluate: a release, or any other table, beside real patients; the report and its numbers in a folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hg3 import disk
from hg3.errors import ConfigError, RunError
from hg3.evaluation.cohorts import Compared, compared_cohorts, given_cohorts
from hg3.evaluation.draws import Measured
from hg3.evaluation.evaluate import Report, evaluate, panels_of
from hg3.evaluation.gates import load_gates
from hg3.evaluation.report import write_report
from hg3.evaluation.results import Evaluation, Section
from hg3.release.load import load
from hg3.release.reading import open_release
from hg3.table.read import read_table
from hg3.table.schema import TableSchema, load_schema

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

    Raises
    ------
    ConfigError
        If neither a run nor two tables are given, or both are.
    RunError
        If `out` is there and holds something else than a report.
    """
    release, out = Path(release), Path(out)
    _check_out(out)
    thresholds = load_gates(None if gates is None else Path(gates))
    if (run is None) == (train is None or holdout is None) or (run is not None and (train or holdout)):
        raise ConfigError("an evaluation takes --run, or --train and --holdout with --schema; give one of the two")
    real = None if train is None or holdout is None else (Path(train), Path(holdout))
    compared, about, further = _compared(release, None if run is None else Path(run), real, schema)
    panels = panels_of(compared)
    found = evaluate(panels, thresholds, utility, seed, about, further, report)
    out.parent.mkdir(parents=True, exist_ok=True)
    with disk.atomic_folder(out.with_name(f"{out.name}.new")) as folder:
        content = found.content()
        disk.write_json(folder / METRICS, {**content, "seal": disk.seal_of(content)})
        write_report(found, panels, folder)
    disk.replace_folder(out.with_name(f"{out.name}.new"), out)
    return found


def _check_out(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / METRICS).is_file())):
        raise RunError(f"{out} is there already and is not a report; remove it or choose another folder")


def _compared(
    release: Path, run: Path | None, real: tuple[Path, Path] | None, schema: str | Path | None
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
        condition = {key: opened.manifest[key] for key in ("where", "balance")}
        return compared_cohorts(load(release), opened.schema, run, **condition), about, further
    assert real is not None
    loaded = opened.schema if schema is None else load_schema(schema)
    return given_cohorts((load(release), *_tables(real, loaded)), loaded), about, further


def _of_tables(
    table: Path, real: tuple[Path, Path] | None, schema: str | Path | None
) -> tuple[Compared, dict[str, Any]]:
    if real is None or schema is None:
        raise ConfigError(f"{table} is no release folder; a table is evaluated with --train, --holdout and --schema")
    loaded = load_schema(schema)
    about = {"title": loaded.title or loaded.name, "schema": loaded.name}
    return given_cohorts(_tables((table, *real), loaded), loaded), about


def _tables(paths: tuple[Path, ...], schema: TableSchema) -> list[pd.DataFrame]:
    return [read_table(path, schema).drop(columns=list(schema.ignore), errors="ignore") for path in paths]


def _of_manifest(manifest: dict[str, Any]) -> Section:
    """Return what the guardrail counted while the release was made."""
    guardrail = manifest["guardrail"]
    rejected = guardrail["rejected"] / max(guardrail["attempts"], 1)
    measured = Measured("patients rejected", "", np.array([rejected]), np.zeros(1))
    return Section("making", "fidelity", (measured,))
