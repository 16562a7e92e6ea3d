"""The command `hg3`: its verbs put together, and how it ends. A verb imports what it works with when it is called."""

import os
import sys
import warnings

import typer

from hg3.cli import cluster, cohort, evaluation, first_look, model, release, schema, track
from hg3.cli.screen import warn
from hg3.errors import Hg3Error

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Synthetic longitudinal health data that people can trust.",
)
app.command("demo")(first_look.demo_command)
app.command("train")(model.train_command)
app.command("generate")(release.generate_command)
app.command("evaluate")(evaluation.evaluate_command)
app.command("doctor")(first_look.doctor_command)
app.command("jobs")(cluster.jobs_command)
app.add_typer(cluster.group, name="submit")
app.add_typer(cohort.group, name="cohort")
app.add_typer(schema.group, name="schema")
app.add_typer(model.group, name="model")
app.add_typer(release.group, name="release")
app.add_typer(track.group, name="track")


def main() -> None:
    """Run hg3; what a user can mend ends in one sentence and exit status 2."""
    warnings.showwarning = lambda message, *_, **__: warn(str(message))
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
        sys.exit(model.STOPPED)


def _end(sentence: str) -> None:
    print(f"hg3: {sentence}", file=sys.stderr)
    sys.exit(2)
