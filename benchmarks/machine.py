"""What a measured figure stands beside: machine, versions, load, and the data's hash."""

import os
import platform
from pathlib import Path
from typing import Any

from hg3 import disk
from hg3.diagnosis import doctor


def machine() -> dict[str, Any]:
    """Return the machine, versions and load of this moment; no host name, no path."""
    found = doctor()
    return {
        "device": found["device"],
        "threads": found["threads"],
        "python": platform.python_version(),
        "versions": found["versions"],
        "hg3": found["hg3"],
        "precision": found["precision"],
        "reverse_step": found["reverse_step"],
        "load_1min": round(os.getloadavg()[0], 2),
    }


def data(path: Path) -> dict[str, str]:
    """Return the name and SHA-256 of a file."""
    return {"file": path.name, "sha256": disk.sha256_of(path)}
