"""The verb evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from hg3.cli.options import GatesOption, OutOption
from hg3.cli.screen import print_verdicts, progress


def evaluate_command(
    release: Annotated[Path, typer.Argument(help="A release, or a table that another program made.")],
    out: OutOption,
    run: Annotated[Path | None, typer.Option(help="The run that the release was made from.")] = None,
    train: Annotated[Path | None, typer.Option(help="In place of --run: the patients trained on.")] = None,
    holdout: Annotated[Path | None, typer.Option(help="In place of --run: patients held out.")] = None,
    schema: Annotated[str | None, typer.Option(help="With --train: a shipped schema's name or a path.")] = None,
    utility: Annotated[bool, typer.Option("--utility", help="Train policies and hazard models too: minutes.")] = False,
    gates: GatesOption = None,
    seed: Annotated[int, typer.Option(help="Fixes draws, folds and learners.")] = 0,
) -> None:
    """Measure what a release is worth.

    Fidelity, time, utility and privacy, each beside what as many real patients reach. Writes report.html, which
    opens without a network, and metrics.json.

    \b
    Example: hg3 evaluate releases/art --run runs/art --out reports/art
    """
    from hg3.release.evaluate import evaluate_release

    with progress() as bars:
        found = evaluate_release(release, out, run, train, holdout, schema, utility, gates, seed, bars)
    print_verdicts([verdict.content() for verdict in found.verdicts])
    for section in found.sections:
        for remark in section.remarks:
            print(f"{section.name}: {remark}")
    print(f"{sum(found.seconds.values()):.0f} s; open {out}/report.html")
