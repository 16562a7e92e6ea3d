"""The command line: one verb a function, no logic of its own."""

import json
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from hg3.errors import ConfigError, Hg3Error, TableError

if TYPE_CHECKING:
    import pandas as pd

STOPPED = 130  # a training that a signal ended: whole, and to be resumed

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Synthetic longitudinal health data that people can trust.",
)
cohort = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Simulate cohorts, or fetch one.")
schema = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Propose schemas, and check tables against them."
)
model = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show networks.")
release = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Verify and export releases.")
for name, part in (("cohort", cohort), ("schema", schema), ("model", model), ("release", release)):
    app.add_typer(part, name=name)

OutOption = Annotated[Path, typer.Option("--out", help="Where the result goes.")]
SchemaOption = Annotated[str, typer.Option("--schema", help="A shipped schema's name or the path of one.")]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Of the preset: network.width=64; repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run hg3; what a user can mend ends in one sentence and exit status 2."""
    warnings.showwarning = lambda message, *_, **__: _warn(str(message))
    try:
        app(prog_name="hg3")
    except Hg3Error as error:
        _end(str(error))
    except OSError as error:  # a full disk, a folder that may not be written
        where = f" ({error.filename})" if error.filename else ""
        what = os.strerror(error.errno) if error.errno else error.strerror or type(error).__name__
        _end(f"the system refused: {what}{where}; what is there is whole: mend it and call the same again")
    except MemoryError:
        _end("the memory does not suffice; ask for less at once, or use a machine with more")
    except KeyboardInterrupt:
        sys.exit(STOPPED)


def _end(sentence: str) -> None:
    print(f"hg3: {sentence}", file=sys.stderr)
    sys.exit(2)


def _warn(sentence: str) -> None:
    print(f"hg3: warning: {sentence}", file=sys.stderr)


@app.command("demo")
def demo_command(
    out: OutOption,
    minutes: Annotated[float | None, typer.Option(help="Minutes of training; six if absent.", min=0.01)] = None,
) -> None:
    """Run the main job, end to end, without a cohort.

    Simulates a stand-in cohort, trains on it, generates 1,000 patients, verifies the release and compares it with
    held-out patients. Called again, it goes on where it stood.

    \b
    Example: hg3 demo --out runs/demo
    """
    from hg3.demonstration import TRAINING_MINUTES, demo

    with _progress() as bars:
        summary = demo(out, minutes or TRAINING_MINUTES, report=bars)
    _print_scores(summary)
    print(f"{summary['patients']:,} patients in {out}/release, verified; {summary['seconds']:.0f} s in all")


@cohort.command("simulate")
def cohort_simulate(
    out: OutOption,
    name: Annotated[str | None, typer.Argument(help="Which cohort: art-hiv; or give --schema.")] = None,
    schema: Annotated[str | None, typer.Option(help="Instead: a random table for this schema, name or path.")] = None,
    patients: Annotated[int, typer.Option(help="How many patients.")] = 8_916,
    seed: Annotated[int, typer.Option(help="Whole number that fixes them.")] = 0,
    truth: Annotated[str | None, typer.Option(help="What art-hiv follows: published (if absent) or euresist.")] = None,
    complete: Annotated[bool, typer.Option("--complete", help="With --schema: a row at every time.")] = False,
) -> None:
    """Simulate a stand-in cohort; no real patient is in it.

    \b
    Example: hg3 cohort simulate art-hiv --patients 1000 --seed 1 --out cohort.parquet
    """
    from hg3.table.write import check_out, write_table

    check_out(out)
    write_table(_simulated(name, schema, patients, seed, truth, complete), out)
    print(f"{patients:,} simulated patients in {out}")


def _simulated(
    name: str | None, schema: str | None, patients: int, seed: int, truth: str | None, complete: bool
) -> "pd.DataFrame":
    from hg3.table.cohorts.art_hiv import simulate
    from hg3.table.cohorts.from_schema import simulate_schema
    from hg3.table.schema import load_schema

    if (name is None) == (schema is None):
        raise ConfigError("give exactly one of the cohort's name, art-hiv, and --schema")
    if schema is not None:
        if truth is not None:
            raise ConfigError(f"--truth {truth} was given with --schema; it belongs to the cohort art-hiv")
        return simulate_schema(load_schema(schema), patients, seed, complete)
    _refuse_other_cohorts(name)
    if complete:
        raise ConfigError("--complete was given with art-hiv, which always is; it belongs to --schema")
    return simulate(patients, seed, truth or "published")


def _refuse_other_cohorts(name: str | None) -> None:
    if name != "art-hiv":
        raise ConfigError(f"cohort {name!r} is unknown; there is art-hiv")


@cohort.command("fetch")
def cohort_fetch(
    name: Annotated[str, typer.Argument(help="Which cohort: art-hiv.")],
    out: OutOption,
    source: Annotated[Path | None, typer.Option("--from", help="A copy of the file instead of the download.")] = None,
) -> None:
    """Get a published cohort and check it; nothing is written unless all of it is as published.

    \b
    Example: hg3 cohort fetch art-hiv --out cohort.parquet
    """
    from hg3.table.cohorts.fetch import N_PATIENTS, fetch_art_hiv

    _refuse_other_cohorts(name)
    for sentence in fetch_art_hiv(out, source):
        _warn(sentence)
    print(f"{N_PATIENTS:,} patients in {out}, as published")


@schema.command("check")
def schema_check(
    table: Annotated[Path, typer.Argument(help="CSV (also .gz) or Parquet, long format.")],
    schema: SchemaOption,
) -> None:
    """Hold a table against a schema.

    Tells everything wrong in one run, with counts and row positions, never a value.

    \b
    Example: hg3 schema check cohort.parquet --schema art-hiv-v2
    """
    from hg3.table.checks import check

    found = check(table, schema)
    for sentence in found.warnings:
        _warn(sentence)
    for sentence in found.errors:
        print(f"- {sentence}")
    if found.errors:
        raise TableError(f"{table} does not fit schema {schema}: {len(found.errors)} findings, listed above")
    print(f"{table} fits schema {schema}")


@schema.command("infer")
def schema_infer(
    table: Annotated[Path, typer.Argument(help="CSV (also .gz) or Parquet, long format.")],
    patient: Annotated[str, typer.Option(help="The column that names the patient.")],
    time: Annotated[str, typer.Option(help="The column of whole numbers that names the time.")],
    out: OutOption,
    step: Annotated[str | None, typer.Option(help="What a time counts: minute, hour, ... or visit.")] = None,
) -> None:
    """Propose a schema for a table, for a person to correct.

    \b
    Example: hg3 schema infer cohort.parquet --patient PatientID --time Timestep --out schema.toml
    """
    from hg3.table.infer import propose_schema

    propose_schema(table, patient, time, out, step)
    print(f"proposal in {out}; correct it, then: hg3 schema check {table} --schema {out}")


@app.command("train")
def train_command(
    table: Annotated[Path, typer.Argument(help="CSV (also .gz) or Parquet, long format.")],
    out: OutOption,
    schema: Annotated[str | None, typer.Option(help="A shipped schema's name or the path of one.")] = None,
    preset: Annotated[str, typer.Option(help="A shipped preset's name or the path of one.")] = "hg3",
    changes: SetOption = [],  # noqa: B006  typer copies it
    updates: Annotated[int | None, typer.Option(help="How many updates; the reproducible way.", min=1)] = None,
    minutes: Annotated[float | None, typer.Option(help="How many minutes instead.", min=0.01)] = None,
    seed: Annotated[int, typer.Option(help="Of the split, the weights and the noise.", min=0)] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
) -> None:
    """Train a model on a table.

    Leaves a private run folder. SIGTERM or Ctrl-C stops it at a checkpoint, and --resume goes on from there.

    \b
    Example: hg3 train cohort.parquet --schema art-hiv-v2 --updates 2000 --out runs/art
    """
    from hg3.training.run import train

    pairs = dict(_pair(change) for change in changes)
    last: dict[str, Any] = {}
    with _progress() as bars:

        def tell(entry: dict[str, Any]) -> None:
            last.update(entry)
            bars("train", entry)

        finished = train(
            table,
            out,
            schema,
            preset,
            pairs,
            updates,
            minutes,
            seed,
            resume,
            tell,
            _warn,
        )
    if not finished:
        length = f" --minutes {minutes:g}" if minutes else ""
        again = shlex.join(["hg3", "train", str(table), "--out", str(out), "--resume"]) + length
        print(f"stopped at a checkpoint; go on with: {again}", file=sys.stderr)
        sys.exit(STOPPED)
    if last.get("total") and last["update"] < last["total"]:
        print(f"validation no longer improved: ended at {last['update']} of {last['total']} updates")
    print(f"trained; run in {out}, loss curve in {out}/loss.png")


def _pair(change: str) -> tuple[str, str]:
    key, equals, value = change.partition("=")
    if not equals:
        raise ConfigError(f"--set {change!r} was given; it takes KEY=VALUE, for example network.width=64")
    return key, value


@model.command("describe")
def model_describe(
    schema: SchemaOption,
    preset: Annotated[str, typer.Option(help="A shipped preset's name or the path of one.")] = "hg3",
    changes: SetOption = [],  # noqa: B006  typer copies it
    as_json: JsonOption = False,
) -> None:
    """Show parameters, channels and every stage of a network.

    \b
    Example: hg3 model describe --preset hg3 --schema art-hiv-v2
    """
    from hg3.training.describe import describe_model

    found = describe_model(preset, schema, dict(_pair(change) for change in changes))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    length = f"{found['length']} times, padded to {found['padded_length']}"
    print(f"preset {found['preset']} on schema {found['schema']}: {found['parameters']:,} parameters, {length}")
    _print_table(
        f"{found['static_channels']} static and {found['dynamic_channels']} dynamic channels",
        found["channels"],
    )
    _print_table("one patient through the network", found["stages"])


@app.command("generate")
def generate_command(
    run: Annotated[Path, typer.Argument(help="The folder that hg3 train made.")],
    out: OutOption,
    patients: Annotated[int, typer.Option(help="How many patients.")],
    seed: Annotated[int, typer.Option(help="Whole number that fixes the release.")] = 0,
    solver: Annotated[
        str | None, typer.Option(help="dpm++, sde-dpm++, ddim, ancestral or ancestral-beta; the preset's if absent.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Network calls a patient; the preset's if absent.")] = None,
    eta: Annotated[float | None, typer.Option(help="Noise of ddim, 0 to 1.")] = None,
    where: Annotated[
        str | None, typer.Option(metavar="COLUMN=VALUE,...", help="Static values that all patients have.")
    ] = None,
    balance: Annotated[str | None, typer.Option(help="A static column whose codes get equal shares.")] = None,
    shard: Annotated[str, typer.Option(help="I/N: make every N-th part from the I-th on.")] = "1/1",
    mix: Annotated[bool, typer.Option("--mix", help="Go on under another device, torch or precision.")] = False,
) -> None:
    """Generate a release from a run.

    The bytes are the same for any shards, in any order, and through kills. Called again, it goes on.

    \b
    Example: hg3 generate runs/art --patients 1000 --seed 7 --solver dpm++ --steps 20 --out releases/art
    """
    from hg3.release.writer import generate

    with _progress() as bars:
        complete = generate(
            run,
            out,
            patients,
            seed,
            _shard(shard),
            mix,
            report=lambda e: bars("generate", e),
            solver=solver,
            steps=steps,
            eta=eta,
            where=_where(where),
            balance=balance,
        )
    print(f"{patients:,} patients in {out}" if complete else f"shard {shard} is done; others are not yet")


def _where(text: str | None) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")] if text else []
    names = [name.strip() for name, _, _ in pairs]
    if not all(equals and value.strip() for _, equals, value in pairs) or len(set(names)) < len(names):
        raise ConfigError(f"--where {text!r} was given; it takes COLUMN=VALUE,COLUMN=VALUE with each column once")
    return dict(zip(names, (value.strip() for _, _, value in pairs), strict=True))


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not slash or not index.isdecimal() or not count.isdecimal():
        raise ConfigError(f"--shard {text!r} was given; it takes I/N, for example 2/7")
    return int(index), int(count)


@release.command("verify")
def release_verify(
    folder: Annotated[Path, typer.Argument(help="The folder that hg3 generate made.")],
    recompute: Annotated[int, typer.Option(help="Random patients whose blocks are generated anew.", min=0)] = 0,
    run: Annotated[Path | None, typer.Option(help="The run, for --recompute.")] = None,
) -> None:
    """Check sums, manifest and every row of a release.

    With --recompute, the blocks of random patients are generated anew and compared.

    \b
    Example: hg3 release verify releases/art --recompute 3 --run runs/art
    """
    from hg3.release.verify import verify_release

    found = verify_release(folder, recompute, run)
    print(f"{folder} verifies: {found.files} files, {found.patients:,} patients, {found.rows:,} rows")
    if found.recomputed_patients:
        print(f"{found.recomputed_patients} patients computed anew are equal: {found.recomputed_equal}")


@release.command("export")
def release_export(
    folder: Annotated[Path, typer.Argument(help="The folder that hg3 generate made.")],
    csv: Annotated[Path, typer.Option("--csv", help="The file to write; .gz compresses.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Write a release as one CSV file.

    \b
    Example: hg3 release export releases/art --csv art.csv.gz
    """
    from hg3.release.export import export_csv

    print(f"written to {export_csv(folder, csv, force)}")


@app.command("doctor")
def doctor_command(as_json: JsonOption = False) -> None:
    """Show what this installation is.

    Versions, device, precision, and which implementation of the reverse step is live.

    \b
    Example: hg3 doctor --json
    """
    from hg3.diagnosis import doctor

    found = doctor()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for key, value in found.items():
        shown = ", ".join(f"{k} {v or 'absent'}" for k, v in value.items()) if isinstance(value, dict) else value
        print(f"{key:<13} {shown}")


def _print_table(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else 100).print(table)


def _print_scores(summary: dict[str, Any]) -> None:
    rows = [
        {
            "column": column,
            "measure": measure.upper(),
            "synthetic": f"{distance:.3f}",
            "real ceiling": f"{summary[f'{measure}_ceiling'][column]:.3f}",
        }
        for measure in ("tv", "ks")
        for column, distance in summary[measure].items()
    ]
    _print_table("distance to held-out patients, and what as many real patients reach (95th percentile)", rows)
    print(f"static constancy {summary['static_constancy']:.3f}, rejected {summary['rejected']}")


@contextmanager
def _progress() -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Yield a function of (stage, numbers) that draws live bars on standard error, with time left."""
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    bars, tasks = Progress(*columns, console=Console(stderr=True)), {}
    began: dict[str, tuple[float, int]] = {}  # by stage: when its first number came, and which

    def update(stage: str, entry: dict[str, Any]) -> None:
        done, total, unit = _place(stage, entry)
        if stage not in tasks:
            bars.start()  # not before there is something to draw: a refusal has standard error to itself
            tasks[stage] = bars.add_task(stage, total=None, note="")
            began[stage] = time.perf_counter(), done
        at, first = began[stage]
        rate = f", {(done - first) / (time.perf_counter() - at):.1f} {unit}/s" if done > first else ""
        loss = f", loss {entry['loss']:.3f}" if "loss" in entry else ""
        skipped = f", {entry['skipped']} skipped" if entry.get("skipped") else ""
        note = f"{done:,}/{f'{total:,}' if total else '?'}" if unit else ""
        bars.update(tasks[stage], completed=done, total=total, note=note + loss + rate + skipped)

    try:
        yield update
    finally:
        if tasks:
            bars.stop()


def _place(stage: str, entry: dict[str, Any]) -> tuple[int, int | None, str]:
    """Return how far a stage is, of how much if that is known, and in what unit."""
    if stage == "train":
        return entry["update"], entry["total"], "updates"
    if stage == "generate":
        return entry["patients"], entry["of"], "patients"
    return 1, 1, ""
