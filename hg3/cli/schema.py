"""The verbs about schemas: schema check, schema infer."""

from typing import Annotated

import typer

from hg3.cli.options import OutOption, SchemaOption, TableArgument
from hg3.cli.screen import warn
from hg3.errors import TableError

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Propose schemas, and check tables against them.")


@group.command("check")
def schema_check(
    table: TableArgument,
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
        warn(sentence)
    for sentence in found.errors:
        print(f"- {sentence}")
    if found.errors:
        raise TableError(f"{table} does not fit schema {schema}: {len(found.errors)} findings, listed above")
    print(f"{table} fits schema {schema}")


@group.command("infer")
def schema_infer(
    table: TableArgument,
    patient: Annotated[str, typer.Option(help="The column that names the patient.")],
    time: Annotated[str, typer.Option(help="The column of numbers that names the time.")],
    out: OutOption,
    step: Annotated[str | None, typer.Option(help="What a time counts: minute, hour, ... or visit.")] = None,
    width: Annotated[
        float | None, typer.Option("--bin", help="Width of a bin, in steps, for visits at any time.")
    ] = None,
) -> None:
    """Propose a schema for a table, for a person to correct.

    \b
    Example: hg3 schema infer cohort.parquet --patient PatientID --time Timestep --out schema.toml
    """
    from hg3.table.infer import propose_schema

    propose_schema(table, patient, time, out, step, width)
    print(f"proposal in {out}; correct it, then: hg3 schema check {table} --schema {out}")
