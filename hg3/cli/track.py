"""The verbs of tracking: track merge, ui, attach and register."""

import sys
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

    merge_runs(folders, into, warn, lambda run, sent: print(f"{run}: {sent:,} numbers sent"))


@group.command("ui")
def ui_command(
    store: Annotated[Path, typer.Argument(help="A store's file, mlflow.db, or its folder.")] = Path("runs"),
    port: Annotated[int, typer.Option(help="Of the address 127.0.0.1, the only one it listens on.")] = 5000,
) -> None:
    """Show a store in a browser, on this machine only.

    \b
    Example: hg3 track ui runs
    """
    from hg3.cluster.merge import store_file
    from hg3.cluster.places import sqlite_uri
    from hg3.cluster.tracking import serve

    uri = sqlite_uri(store_file(store))
    print(f"http://127.0.0.1:{port} shows {uri}; Ctrl-C ends it")
    sys.exit(serve(uri, port))


@group.command("attach")
def attach_command(
    run: Annotated[Path, typer.Argument(help="A run that was trained with --track.")],
    folders: Annotated[list[Path], typer.Argument(help="Releases or reports that were made of it.")],
) -> None:
    """Add to a run in its store the manifest of a release or the report of an evaluation.

    \b
    Example: hg3 track attach runs/art releases/art reports/art
    """
    from hg3.cluster.merge import attach, merge_runs

    attach(run, folders)
    merge_runs([run])
    print(f"attached to {run}: {', '.join(map(str, folders))}")


@group.command("register")
def register_command(
    run: Annotated[Path, typer.Argument(help="The folder that hg3 train made.")],
    name: Annotated[str, typer.Option(help="Of the model.")],
    report: Annotated[Path | None, typer.Option(help="What hg3 evaluate found of a release of it.")] = None,
    models: Annotated[Path | None, typer.Option(help="Where the checkpoint is kept; models/ beside the run.")] = None,
    store: Annotated[str | None, typer.Option(help="An MLflow URI; MLFLOW_TRACKING_URI or mlflow.db.")] = None,
) -> None:
    """Register a run's best checkpoint, with its evaluation, as a version of a model.

    \b
    Example: hg3 track register runs/art --name art --report reports/art
    """
    from hg3.cluster.models import register_run

    version = register_run(run, name, report, models, store)
    print(f"{version.uri}: checkpoint {version.checkpoint[:16]} in {version.folder}, which is private")
    print(f"hg3 generate {version.uri} --patients 1000 --out releases/{name}")
