"""The verbs of tracking: track merge and track ui."""

from pathlib import Path
from typing import Annotated

import typer

from hg3.cli.screen import warn

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Track trainings with MLflow.")


@group.command("merge")
def merge_command(
    folders: Annotated[list[Path], typer.Argument(help="Runs, or folders of runs.")],
    into: Annotated[str | None, typer.Option(help="An MLflow URI; where each run was tracked if absent.")] = None,
) -> None:
    """Bring into a store what it lacks of runs; a second call adds nothing.

    \b
    Example: hg3 track merge runs --into sqlite:////home/me/runs/mlflow.db
    """
    from hg3.cluster.merge import merge_runs

    for run, sent in merge_runs(folders, into, warn):
        print(f"{run}: {sent:,} numbers sent")
