"""The verbs about cohorts: cohort simulate, cohort fetch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hg3.cli.options import OutOption
from hg3.cli.screen import warn
from hg3.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Simulate cohorts, or fetch one.")


@group.command("simulate")
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


@group.command("fetch")
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
        warn(sentence)
    print(f"{N_PATIENTS:,} patients in {out}, as published")
