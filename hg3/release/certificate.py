"""The certificate of a release, read back: it stands beside the sums, sealed by its own."""

from pathlib import Path
from typing import Any

from hg3 import disk
from hg3.errors import ReleaseError, RunError

CERTIFICATE = "certificate.json"
FORMAT = 1
NEEDED = {"manifest_sha256", "verdicts", "not_judged", "own_thresholds", "passed"}


def read_certificate(release: Path) -> dict[str, Any] | None:
    """Return the certificate of `release`, None where it has none.

    Raises
    ------
    ReleaseError
        If it is altered, of a newer format, or certifies another release.
    """
    path = release / CERTIFICATE
    if not path.exists():
        return None
    try:
        content = disk.read_sealed(path, "a certificate of hg3")
    except RunError as error:
        raise ReleaseError(str(error)) from None
    if not isinstance(content.get("format"), int) or not content.keys() >= NEEDED:
        raise ReleaseError(f"{path} is not as hg3 writes it; certify the release anew")
    if content["format"] > FORMAT:
        raise ReleaseError(f"{path} has format {content['format']} and this hg3 reads up to {FORMAT}; update hg3")
    if content["manifest_sha256"] != manifest_sum(release):
        raise ReleaseError(f"{path} certifies another release by its manifest's sum; certify this one anew")
    return content


def manifest_sum(release: Path) -> str:
    return disk.sha256_of(release / "manifest.json")
