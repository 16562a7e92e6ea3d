"""The verb release certify: what a release must reach, whether it does, in a sealed certificate beside its sums."""

from pathlib import Path
from typing import Any

from hg3 import __version__, disk
from hg3.errors import ReleaseError, RunError
from hg3.evaluation.gates import Gates, Verdict, judge, load_gates
from hg3.evaluation.results import measured_of
from hg3.release.certificate import CERTIFICATE, FORMAT, manifest_sum
from hg3.release.evaluate import METRICS
from hg3.release.verify import verify_release


def certify_release(
    release: str | Path, report: str | Path, gates: str | Path | None = None, force: bool = False
) -> dict[str, Any]:
    """Verify `release`, judge it by the numbers in the folder `report`, write certificate.json and return it.

    A release that fails a gate gets a certificate that says so.

    Parameters
    ----------
    gates : a TOML file of thresholds; hg3's own if absent.
    force : replace a certificate that is there.

    Raises
    ------
    ReleaseError
        If the release does not verify, has a certificate, or the report is of another release.
    RunError
        If the report's numbers cannot be read.
    """
    release, metrics = Path(release), Path(report) / METRICS
    if (release / CERTIFICATE).exists() and not force:
        raise ReleaseError(f"{release} has a certificate already; look at it, and give --force to replace it")
    verify_release(release, certified=False)
    content = disk.read_sealed(metrics, "a report of hg3 evaluate")
    thresholds, of_release = load_gates(None if gates is None else Path(gates)), manifest_sum(release)
    verdicts = _judged(content, thresholds, of_release, metrics)
    certificate = {
        "format": FORMAT,
        "hg3": __version__,
        "manifest_sha256": of_release,
        "metrics_sha256": disk.sha256_of(metrics),
        "about": content["about"],
        "patients": content["patients"],
        "patients_in_a_draw": content["patients_in_a_draw"],
        "own_thresholds": gates is None,
        "thresholds": thresholds.model_dump(mode="json", exclude_none=True),
        "verdicts": [verdict.content() for verdict in verdicts],
        "not_judged": not_judged(thresholds, verdicts),
        "passed": passed(verdicts),
    }
    disk.write_sealed(release / CERTIFICATE, certificate)
    return certificate


def _judged(content: dict[str, Any], gates: Gates, of_release: str, metrics: Path) -> list[Verdict]:
    try:
        measures = [measured_of(entry) for entry in content["measures"]]
        measured_sum = content["about"].get("manifest_sha256")
        {key: content[key] for key in ("patients", "patients_in_a_draw")}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise RunError(f"{metrics} is not as hg3 evaluate writes it; evaluate the release anew") from None
    if measured_sum != of_release:
        raise ReleaseError(f"{metrics} is of another release by its manifest's sum; evaluate this release and use that")
    if content["about"].get("held", "holdout") != "holdout":
        raise ReleaseError(
            f"{metrics} compares with validation patients, which chose the model; evaluate on the hold-out"
        )
    return judge(gates, measures)


def passed(verdicts: list[Verdict]) -> bool:
    """Return whether something was judged, nothing missed, and nothing beyond estimating but what is optional."""
    return bool(verdicts) and all(verdict.passed for verdict in verdicts)


def not_judged(gates: Gates, verdicts: list[Verdict]) -> list[str]:
    """Return the names of gates that no number of the report could be held against."""
    judged = {verdict.gate.name for verdict in verdicts if verdict.state != "not estimable"}
    return [gate.name for gate in gates.gates if gate.name not in judged]
