"""What hg3 submit makes of its arguments: stages of plain data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from hg3.cluster.follow import plan_submission
from hg3.cluster.works import Stage
from hg3.config import load_preset
from hg3.errors import ConfigError
from hg3.release.plan import Request, make_plan, n_parts, open_source
from hg3.table.schema import load_schema
from hg3.training.device import default_device


def seeds_of(text: str) -> list[int]:
    """Return the seeds that 0-7 or 1,4,10-12 names.

    Raises
    ------
    ConfigError
        If the text is something else, or names a seed twice.
    """
    found: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            found += range(int(first), int(last) + 1) if dash else [int(first)]
    except ValueError:
        found = []
    if not found or len(set(found)) < len(found):
        raise ConfigError(f"--seeds {text!r} was given; it takes whole numbers, each once, as in 0-7 or 1,4,10-12")
    return found


def training_stage(
    table: Path,
    out: Path,
    seeds: list[int],
    schema: str | Path,
    preset: str | Path | None = None,
    changes: dict[str, str] | None = None,
    updates: int | None = None,
    minutes: float | None = None,
) -> Stage:
    """Return the training of each seed into `out`/seed-N, after a look at what can be refused before a job starts."""
    if (updates is None) == (minutes is None):
        raise ConfigError("give one of --updates and --minutes: how long shall each training be?")
    if not table.is_file():
        raise ConfigError(f"there is no table at {table}")
    load_schema(schema)
    load_preset(preset or "hg3", changes)
    shared = {
        "table": str(table.absolute()),
        "schema": _absolute(schema),
        "preset": _absolute(preset),
        "changes": changes or {},
        "updates": updates,
        "minutes": minutes,
    }
    out = out.absolute()
    calls = [{**shared, "out": str(out / f"seed-{s}"), "seed": s, "label": f"seed-{s}"} for s in seeds]
    return Stage("train", "train", tuple(calls))


def _absolute(name_or_path: str | Path | None) -> str | None:
    """Return a path that a job finds wherever it starts, and a name as it is."""
    if name_or_path is None:
        return None
    return str(Path(name_or_path).absolute()) if Path(name_or_path).is_file() else str(name_or_path)


def generation_stage(
    run: Path,
    out: Path,
    patients: int,
    seed: int = 0,
    tasks: int = 8,
    compile: str = "none",
    mix: bool = False,
    **asked: Any,
) -> Stage:
    """Return the making of a release by `tasks` tasks, or by one for each part if there are fewer parts.

    mix : let tasks on different models of processors or GPUs make it, whose bytes differ.
    """
    source = open_source(run, default_device())
    asked = {key: value for key, value in asked.items() if value is not None}
    parts = n_parts(make_plan(source, Request(patients, seed, **asked)))
    return release_stage(parts, {"run": str(run.absolute()), "mix": mix}, out, patients, seed, tasks, compile, **asked)


def release_stage(
    parts: int, source: dict[str, Any], out: Path, patients: int, seed: int, tasks: int, compile: str, **asked: Any
) -> Stage:
    """Return the making of a release of so many parts; `source` names the run, or the choice of one."""
    shared = {"out": str(out.absolute()), "patients": patients, "seed": seed, "compile": compile, **source}
    shared["asked"] = {key: value for key, value in asked.items() if value is not None}
    if tasks < 1:
        raise ConfigError(f"--tasks {tasks} was given; a release takes at least 1")
    tasks = min(tasks, parts)
    calls = [{**shared, "task": task, "tasks": tasks, "label": f"task-{task}"} for task in range(tasks)]
    return Stage("generate", "generate", tuple(calls))


def tracked_stages(stages: tuple[Stage, ...], wanted: str, name: str) -> tuple[Stage, ...]:
    """Return the stages with trainings that are tracked as children of one parent run, which is made here.

    Parameters
    ----------
    wanted : "auto", "later" or a URI, as of `hg3 train --track`. name : of the parent run.
    """
    training = stages[0]
    plan = plan_submission(wanted, Path(training.calls[0]["out"]).parent, name)
    calls = tuple({**call, "tracking": plan} for call in training.calls)
    return (replace(training, calls=calls), *stages[1:])
