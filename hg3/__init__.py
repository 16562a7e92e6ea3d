"""hg3: synthetic longitudinal health data that people can trust.

Each verb of the command line is one function here: simulate, simulate_schema, fetch_art_hiv, propose_schema, check,
train, describe_model, generate, verify_release, evaluate_release, certify_release, export_csv, load, merge_runs,
register_run, demo, doctor.
They are imported when first used, so that `import hg3` is quick.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hg3.cluster.merge import merge_runs
    from hg3.cluster.models import register_run
    from hg3.demonstration import demo
    from hg3.diagnosis import doctor
    from hg3.release.certify import certify_release
    from hg3.release.evaluate import evaluate_release
    from hg3.release.export import export_csv
    from hg3.release.load import load
    from hg3.release.verify import verify_release
    from hg3.release.writer import generate
    from hg3.table.checks import check
    from hg3.table.cohorts.art_hiv import simulate
    from hg3.table.cohorts.fetch import fetch_art_hiv
    from hg3.table.cohorts.from_schema import simulate_schema
    from hg3.table.infer import propose_schema
    from hg3.training.describe import describe_model
    from hg3.training.run import train

__version__ = version("hg3")

_HOMES = {
    "certify_release": "hg3.release.certify",
    "check": "hg3.table.checks",
    "demo": "hg3.demonstration",
    "describe_model": "hg3.training.describe",
    "doctor": "hg3.diagnosis",
    "evaluate_release": "hg3.release.evaluate",
    "export_csv": "hg3.release.export",
    "fetch_art_hiv": "hg3.table.cohorts.fetch",
    "generate": "hg3.release.writer",
    "load": "hg3.release.load",
    "merge_runs": "hg3.cluster.merge",
    "propose_schema": "hg3.table.infer",
    "register_run": "hg3.cluster.models",
    "simulate": "hg3.table.cohorts.art_hiv",
    "simulate_schema": "hg3.table.cohorts.from_schema",
    "train": "hg3.training.run",
    "verify_release": "hg3.release.verify",
}

__all__ = [
    "__version__",
    "certify_release",
    "check",
    "demo",
    "describe_model",
    "doctor",
    "evaluate_release",
    "export_csv",
    "fetch_art_hiv",
    "generate",
    "load",
    "merge_runs",
    "propose_schema",
    "register_run",
    "simulate",
    "simulate_schema",
    "train",
    "verify_release",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hg3' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)
