"""The verbs that make and show models: train, model describe."""

import json
import shlex
import signal
import sys
from typing import Annotated, Any

import typer

from hg3.cli.options import (
    JsonOption,
    OutOption,
    PresetOption,
    SchemaOption,
    SetOption,
    TableArgument,
    TrackOption,
    pairs,
)
from hg3.cli.screen import print_table, progress, warn

STOPPED = 130  # a training that a signal ended: whole, and to be resumed
LIMITS = (signal.SIGUSR1, signal.SIGUSR2)  # what a batch system sends before a time limit, and never to cancel

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show networks.")


def train_command(
    table: TableArgument,
    out: OutOption,
    schema: Annotated[str | None, typer.Option(help="A shipped schema's name or the path of one.")] = None,
    preset: Annotated[str | None, typer.Option(help="A shipped preset's name or a path; hg3 if absent.")] = None,
    changes: SetOption = [],  # noqa: B006  typer copies it
    updates: Annotated[int | None, typer.Option(help="How many updates; the reproducible way.", min=1)] = None,
    minutes: Annotated[float | None, typer.Option(help="How many minutes instead.", min=0.01)] = None,
    seed: Annotated[int | None, typer.Option(help="Of split, weights and noise; 0 if absent.", min=0)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    track: TrackOption = None,
) -> None:
    """Train a model on a table.

    Leaves a private run folder. SIGTERM or Ctrl-C stops it at a checkpoint, and --resume goes on from there.

    \b
    Example: hg3 train cohort.parquet --schema art-hiv-v2 --updates 2000 --out runs/art
    """
    from hg3.cluster.follow import plan_tracking, tracked
    from hg3.training.distributed import leads
    from hg3.training.run import train
    from hg3.training.signals import stop_on_signals

    plan = plan_tracking(track, out.parent) if track and leads() else None
    settings = pairs(changes)
    last: dict[str, Any] = {}
    with stop_on_signals() as stopped, tracked(out, plan, warn) as tracker, progress() as bars:

        def tell(entry: dict[str, Any]) -> None:
            last.update(entry)
            bars("train", entry)
            tracker.report(entry)

        finished = train(table, out, schema, preset, settings, updates, minutes, seed, resume, report=tell, warn=warn)
        tracker.status = "FINISHED" if finished else "SCHEDULED"
    if not leads():
        return  # torchrun ends all processes as soon as one fails, so the leader alone says how it went
    if not finished:
        length = f" --minutes {minutes:g}" if minutes else ""
        again = shlex.join(["hg3", "train", str(table), "--out", str(out), "--resume"]) + length
        print(f"stopped at a checkpoint; go on with: {again}", file=sys.stderr)
        sys.exit(next((128 + number for number in stopped.caught if number in LIMITS), STOPPED))
    if last.get("total") and last["update"] < last["total"]:
        leaks = last.get("attack", 0.0) > last.get("attack_limit", 1.0)
        why = "the network began to memorise its patients" if leaks else "validation no longer improved"
        print(f"{why}: ended at {last['update']} of {last['total']} updates; the best weights generate")
    if "epsilon" in last:
        print(f"spent an epsilon of {last['epsilon']:.4g}; losses are told nowhere, for they are not private")
    curve = out / "loss.png"
    print(f"trained; run in {out}" + (f", loss curve in {curve}" if curve.is_file() else ""))


@group.command("describe")
def model_describe(
    schema: SchemaOption,
    preset: PresetOption = "hg3",
    changes: SetOption = [],  # noqa: B006  typer copies it
    as_json: JsonOption = False,
) -> None:
    """Show parameters, channels and every stage of a network.

    \b
    Example: hg3 model describe --preset hg3 --schema art-hiv-v2
    """
    from hg3.training.describe import describe_model

    found = describe_model(preset, schema, pairs(changes))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    length, padded = found["length"], found["padded_length"]
    length = f"{length} times" if padded == length else f"{length} times, padded to {padded}"
    print(f"preset {found['preset']} on schema {found['schema']}: {found['parameters']:,} parameters, {length}")
    print_table(
        f"{found['static_channels']} static and {found['dynamic_channels']} dynamic channels",
        found["channels"],
    )
    print_table("one patient through the network", found["stages"])
