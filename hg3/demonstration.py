"""The main job, end to end, without a cohort: simulate, train, generate, verify, evaluate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hg3 import disk
from hg3.errors import RunError
from hg3.release.evaluate import METRICS, evaluate_release
from hg3.release.verify import verify_release
from hg3.release.writer import generate
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.write import write_table
from hg3.training.run import train

SCHEMA = "art-hiv-v2"
COHORT_PATIENTS = 8_916  # as many as the published file; its hold-out part has 2,230
RELEASE_PATIENTS = 1_000
TRAINING_MINUTES = 6.0

Report = Callable[[str, dict[str, Any]], None]


def demo(
    out: str | Path,
    minutes: float = TRAINING_MINUTES,
    cohort_patients: int = COHORT_PATIENTS,
    release_patients: int = RELEASE_PATIENTS,
    updates: int | None = None,
    report: Report = lambda stage, entry: None,
) -> dict[str, Any]:
    """Make a stand-in cohort, a run, a verified release and its report in `out`; return what metrics.json holds.

    Leaves cohort.parquet, run/, release/ and report/. Called again, it goes on where it stood.

    Parameters
    ----------
    minutes, updates : how long to train; `updates`, if given, counts and makes the result reproducible.
    report : called with the stage ("train", "generate", "evaluate") and its numbers.

    Raises
    ------
    RunError
        If `out` holds something else, or a signal stopped the training.
    """
    out = Path(out)
    length: dict[str, Any] = {"minutes": minutes} if updates is None else {"updates": updates}
    _begin(out, {"cohort_patients": cohort_patients, "release_patients": release_patients, **length})
    table, run, release = out / "cohort.parquet", out / "run", out / "release"
    if not table.exists():
        report("simulate", {})
        write_table(simulate(cohort_patients, seed=0), table)
    begun = (run / "split.json").is_file()
    if not train(table, run, SCHEMA, resume=begun, report=lambda e: report("train", e), **length):
        raise RunError(f"training was stopped at a checkpoint; call the demo again with {out} to go on")
    generate(run, release, release_patients, report=lambda e: report("generate", e))
    report("verify", {})
    verify_release(release, recompute=1, run=run)
    if not (out / "report" / METRICS).exists():
        evaluate_release(release, out / "report", run=run, report=report)
    return dict(disk.read_json(out / "report" / METRICS, "a report"))


def _begin(out: Path, plan: dict[str, Any]) -> None:
    """Make the folder and note what the demo is to do, or find the same noted: then it goes on where it stood."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (out / "demo.json").is_file() or disk.read_json(out / "demo.json", "a demo") != plan:
            raise RunError(
                f"{out} is there already and holds something else, or a demo of other settings; remove it or choose "
                "another folder"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    disk.write_json(out / "demo.json", plan)
