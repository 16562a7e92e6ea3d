"""A complete release that lost a part, or holds a damaged one, becomes a release in the making that lacks it."""

from pathlib import Path
from typing import Any

from hg3 import disk
from hg3.release.manifest import INCOMPLETE, read_manifest
from hg3.release.writer import PLAN

OF_WHOLE = {"mixed", "rows", "guardrail", "parts"}  # what a manifest holds beside the plan


def reopen_damaged(release: Path) -> list[str]:
    """Compare every part with the manifest; if some differ, open the release to be gone on with, and name them.

    Whoever goes on makes these parts alone, and completes the release with the same bytes as before.

    Raises
    ------
    ReleaseError
        If the folder is no complete release, or its manifest is damaged itself.
    """
    manifest = read_manifest(release)
    damaged = [entry["file"] for entry in manifest["parts"] if not _is_whole(release, entry)]
    if damaged:
        notes = release / INCOMPLETE
        notes.mkdir()
        for entry in manifest["parts"]:
            if entry["file"] not in damaged:
                disk.write_json(notes / f"{Path(entry['file']).stem}.json", {**entry, "seconds": 0.0})
        for number, other in enumerate(manifest["mixed"]):
            disk.write_json(notes / f"mixed-{number:03d}.json", other)
        plan = {key: value for key, value in manifest.items() if key not in OF_WHOLE}
        disk.write_json(notes / PLAN, plan)  # last: without it, a kill leaves the release as it was
    return damaged


def _is_whole(release: Path, entry: dict[str, Any]) -> bool:
    path = release / entry["file"]
    return path.is_file() and disk.sha256_of(path) == entry["sha256"]
