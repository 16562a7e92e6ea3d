"""The verbs that make, verify, certify and export releases: generate, release verify, certify and export."""

import csv
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from hg3.cli.options import (
    BalanceOption,
    CompileOption,
    EtaOption,
    GatesOption,
    OutOption,
    ReleaseArgument,
    SolverOption,
    StepsOption,
    WhereOption,
)
from hg3.cli.screen import print_verdicts, progress
from hg3.errors import ConfigError

FAILED = 3  # exit status of a release that fails a gate

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Verify, certify and export releases.")


def generate_command(
    run: Annotated[str, typer.Argument(help="The folder that hg3 train made, or models:/NAME/VERSION.")],
    out: OutOption,
    patients: Annotated[int, typer.Option(help="How many patients.")],
    seed: Annotated[int, typer.Option(help="Whole number that fixes the release.")] = 0,
    solver: SolverOption = None,
    steps: StepsOption = None,
    eta: EtaOption = None,
    where: WhereOption = None,
    balance: BalanceOption = None,
    shard: Annotated[str, typer.Option(help="I/N: make every N-th part from the I-th on.")] = "1/1",
    mix: Annotated[bool, typer.Option("--mix", help="Go on under another device, torch or precision.")] = False,
    compiled: CompileOption = False,
) -> None:
    """Generate a release from a run.

    The bytes are the same for any shards, in any order, and through kills. Called again, it goes on.

    \b
    Example: hg3 generate runs/art --patients 1000 --seed 7 --solver dpm++ --steps 20 --out releases/art
    """
    from hg3.release.writer import generate

    mine, mode, source = _shard(shard), "default" if compiled else "none", _folder_of(run)
    asked = {"solver": solver, "steps": steps, "eta": eta, "where": where_of(where), "balance": balance}
    with progress() as bars:
        report = partial(bars, "generate")
        complete = generate(source, out, patients, seed, shard=mine, mix=mix, compile=mode, report=report, **asked)
    print(f"{patients:,} patients in {out}" if complete else f"shard {shard} is done; others are not yet")


def _folder_of(run: str) -> Path:
    """Return the folder of a run, or of a registered model."""
    if not run.startswith("models:/"):
        return Path(run)
    from hg3.cluster.models import model_folder

    return model_folder(run)


def where_of(text: str | None) -> dict[str, str]:
    """Return the static values that `text` gives, by column.

    Raises
    ------
    ConfigError
        If a pair has no column or no value, a column comes twice, or a quote is not closed.
    """
    if text is None:
        return {}
    pairs = [part.partition("=") for part in _fields(text)]
    names = [name.strip() for name, _, _ in pairs]
    if (
        not pairs
        or not all(names)
        or not all(equals and value.strip() for _, equals, value in pairs)
        or len(set(names)) < len(names)
    ):
        raise ConfigError(
            f"--where {text!r} was given; it takes COLUMN=VALUE,COLUMN=VALUE with each column once, and a pair with a "
            'comma in double quotes: "COLUMN=ONE, TWO",COLUMN=VALUE'
        )
    return dict(zip(names, (value.strip() for _, _, value in pairs), strict=True))


def _fields(text: str) -> list[str]:
    """Return the fields of one line of CSV; none where it is not one."""
    try:
        lines = list(csv.reader([text], strict=True, skipinitialspace=True))
    except csv.Error:
        return []
    return lines[0] if len(lines) == 1 else []


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not slash or not index.isdecimal() or not count.isdecimal():
        raise ConfigError(f"--shard {text!r} was given; it takes I/N, for example 2/7")
    return int(index), int(count)


@group.command("verify")
def release_verify(
    folder: ReleaseArgument,
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
    if found.certificate is not None:
        missed = [verdict["name"] for verdict in found.certificate["verdicts"] if verdict["state"] == "missed"]
        whose = "hg3's own gates" if found.certificate["own_thresholds"] else "other gates than hg3's own"
        unknown = len(found.certificate["not_judged"])
        verdict = "passed" if found.certificate["passed"] else f"FAILED ({', '.join(missed) or 'not estimable'})"
        print(f"certificate: {verdict}, by {whose}" + (f", {unknown} of them not judged" if unknown else ""))


@group.command("certify")
def release_certify(
    folder: ReleaseArgument,
    report: Annotated[Path, typer.Option(help="The folder that hg3 evaluate made.")],
    gates: GatesOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the certificate if there is one.")] = False,
) -> None:
    """Judge a release by its evaluation and write certificate.json.

    Exit status 3 where it fails; the certificate then says so.

    \b
    Example: hg3 release certify releases/art --report reports/art
    """
    from hg3.release.certify import certify_release

    certificate = certify_release(folder, report, gates, force)
    print_verdicts(certificate["verdicts"])
    for name in certificate["not_judged"]:
        print(f"not judged, as the report has no number for it: {name}")
    print(f"{folder} {'passes' if certificate['passed'] else 'FAILS'}; see {folder}/certificate.json")
    if not certificate["passed"]:
        raise typer.Exit(FAILED)


@group.command("export")
def release_export(
    folder: ReleaseArgument,
    table: Annotated[Path, typer.Option("--csv", help="The file to write; .gz compresses.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Write a release as one CSV file.

    \b
    Example: hg3 release export releases/art --csv art.csv.gz
    """
    from hg3.release.export import export_csv

    print(f"written to {export_csv(folder, table, force)}")
