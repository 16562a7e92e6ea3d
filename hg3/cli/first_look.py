"""The verbs of a first look: demo, doctor."""

import json
from itertools import zip_longest
from typing import Annotated

import typer

from hg3.cli.options import JsonOption, OutOption
from hg3.cli.screen import print_verdicts, progress


def demo_command(
    out: OutOption,
    minutes: Annotated[float | None, typer.Option(help="Minutes of training; six if absent.", min=0.01)] = None,
) -> None:
    """Run the main job, end to end, without a cohort.

    Simulates a stand-in cohort, trains on it, generates 1,000 patients, verifies the release and evaluates it beside
    held-out patients. Called again, it goes on where it stood.

    \b
    Example: hg3 demo --out runs/demo
    """
    from hg3.demonstration import TRAINING_MINUTES, demo

    with progress() as bars:
        metrics = demo(out, minutes or TRAINING_MINUTES, report=bars)
    print_verdicts(metrics["verdicts"])
    print(f"{metrics['patients']['made']:,} patients in {out}/release, verified; open {out}/report/report.html")


def doctor_command(as_json: JsonOption = False) -> None:
    """Show what this installation is.

    Versions, device, precision, which implementation of the reverse step is live, and by which instructions it runs.

    \b
    Example: hg3 doctor --json
    """
    from hg3.diagnosis import doctor

    found = doctor()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for key, value in found.items():
        rows = [f"{k:<15}{v or 'absent'}" for k, v in value.items()] if isinstance(value, dict) else [value or "absent"]
        for head, row in zip_longest([key], rows, fillvalue=""):
            print(f"{head:<14}{row}")
