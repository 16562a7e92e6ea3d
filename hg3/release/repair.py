"""A complete release that lost a part, or holds a damaged one, becomes a release in the making that lacks it."""

import shutil
from pathlib import Path
from typing import Any

from hg3 import disk
from hg3.errors import RunError
from hg3.release.making import PLAN
from hg3.release.manifest import INCOMPLETE, PROVENANCE, SUMS, read_manifest

OF_WHOLE = {"mixed", "rows", "guardrail", "parts"}  # what a manifest holds beside the plan


def reopen_damaged(release: Path) -> list[str]:
    """Compare every part with the manifest; if some differ, open the release to be gone on with, and name them.

    Whoever goes on makes these parts alone, and completes the release with the same bytes as before.

    Raises
    ------
    ReleaseError
        If the folder is no complete release, or its manifest is damaged itself.
    """
    if (
        all((release / name).is_file() for name in (SUMS, "manifest.json"))
        and not (release / INCOMPLETE / PLAN).exists()
    ):
        shutil.rmtree(release / INCOMPLETE, ignore_errors=True)  # of a call that was killed before it had a plan
    manifest = read_manifest(release)
    damaged = [entry["file"] for entry in manifest["parts"] if not _is_whole(release, entry)]
    if damaged:
        _open(release, manifest, {entry["file"]: entry for entry in manifest["parts"] if entry["file"] not in damaged})
    return damaged


def _open(release: Path, manifest: dict[str, Any], whole: dict[str, dict[str, Any]]) -> None:
    """Make the notes of a release in the making that has the parts `whole`."""
    notes, per_patient = release / INCOMPLETE, _seconds_a_patient(release, manifest)
    notes.mkdir()
    for name, entry in whole.items():
        seconds = round(per_patient * entry["patients"], 3)
        disk.write_json(notes / f"{Path(name).stem}.json", {**entry, "seconds": seconds})
    for number, other in enumerate(manifest["mixed"]):
        disk.write_json(notes / f"mixed-{number:03d}.json", other)
    plan = {key: value for key, value in manifest.items() if key not in OF_WHOLE}
    disk.write_json(notes / PLAN, plan)  # last: without it, a kill leaves the release as it was


def _seconds_a_patient(release: Path, manifest: dict[str, Any]) -> float:
    """Return how long a patient took when the release was made, so that the whole is told rightly in the end."""
    try:
        noted = disk.read_json(release / PROVENANCE, "a release of hg3")["sampling_seconds"]
        return float(noted) / max(manifest["patients"], 1)
    except (RunError, KeyError, TypeError, ValueError):
        return 0.0


def _is_whole(release: Path, entry: dict[str, Any]) -> bool:
    path = release / entry["file"]
    return path.is_file() and disk.sha256_of(path) == entry["sha256"]
