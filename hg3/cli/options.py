"""Arguments and options that several verbs take."""

from pathlib import Path
from typing import Annotated

import typer

from hg3.errors import ConfigError

TableArgument = Annotated[Path, typer.Argument(help="CSV (also .gz) or Parquet, long format.")]
OutOption = Annotated[Path, typer.Option("--out", help="Where the result goes.")]
SchemaOption = Annotated[str, typer.Option("--schema", help="A shipped schema's name or the path of one.")]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Of the preset: network.width=64; repeatable."),
]
PresetOption = Annotated[str, typer.Option("--preset", help="A shipped preset's name or the path of one.")]
ReleaseArgument = Annotated[Path, typer.Argument(help="The folder that hg3 generate made.")]
GatesOption = Annotated[Path | None, typer.Option("--gates", help="Thresholds in TOML; hg3's own if absent.")]
SolverOption = Annotated[
    str | None, typer.Option(help="dpm++, sde-dpm++, ddim, ancestral or ancestral-beta; the preset's if absent.")
]
StepsOption = Annotated[int | None, typer.Option(help="Network calls a patient; the preset's if absent.")]
EtaOption = Annotated[float | None, typer.Option(help="Noise of ddim, 0 to 1.")]
WhereOption = Annotated[
    str | None, typer.Option(metavar="COLUMN=VALUE,...", help="Static values that all patients have.")
]
BalanceOption = Annotated[str | None, typer.Option(help="A static column whose codes get equal shares.")]
CompileOption = Annotated[bool, typer.Option("--compile", help="Compile the network: a minute, then faster.")]
TrackOption = Annotated[str | None, typer.Option(help="With MLflow: auto, later or a URI (see hg3 track).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def pairs(changes: list[str], option: str = "--set") -> dict[str, str]:
    """Return what the words KEY=VALUE of --set, or of another option, say."""
    found = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            example = "network.width=64" if option == "--set" else "minutes=30"
            raise ConfigError(f"{option} {change!r} was given; it takes KEY=VALUE, for example {example}")
        found[key] = value
    return found
