"""The choice among seeds, by what validation patients say of a small release of each."""

from collections.abc import Sequence
from pathlib import Path

from hg3 import disk
from hg3.errors import RunError

SCORE = "metrics.json"
TIE = "two-sample AUC, gradient boosting"


def chosen_run(scored: Sequence[dict[str, str]]) -> Path:
    """Return the run of the best report: fewest gates missed; of equals, hardest to tell from real patients.

    Parameters
    ----------
    scored : {"run", "report"} of each seed.

    Raises
    ------
    RunError
        If a seed has no report within 90 s: a choice that leaves one out would be another one later.
    """
    if not disk.appears(lambda: not _unscored(scored)):
        missing = _unscored(scored)
        raise RunError(
            f"{len(missing)} of {len(scored)} seeds are not scored, {missing[0]} among them, nor did a report appear "
            f"within {disk.SLOWEST_S:.0f} s; submit what is missing"
        )
    return Path(min(scored, key=lambda entry: score(Path(entry["report"])))["run"])


def _unscored(scored: Sequence[dict[str, str]]) -> list[str]:
    """Return the runs whose report is not there."""
    return [entry["run"] for entry in scored if not (Path(entry["report"]) / SCORE).is_file()]


def score(report: Path) -> tuple[int, float]:
    """Return what a report is chosen by, lower is better: gates missed, and the AUC of a classifier."""
    content = disk.read_sealed(report / SCORE, "a report of hg3")
    missed = sum(verdict["state"] == "missed" for verdict in content["verdicts"])
    told = [verdict["score"] for verdict in content["verdicts"] if TIE in verdict["measures"]]
    return missed, told[0] if told and told[0] is not None else 1.0
