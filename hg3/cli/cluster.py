"""The verbs for a cluster: submit train, submit generate, submit pipeline, jobs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hg3.cli.options import (
    BalanceOption,
    CompileOption,
    EtaOption,
    JsonOption,
    OutOption,
    SetOption,
    SolverOption,
    StepsOption,
    TableArgument,
    TrackOption,
    WhereOption,
    pairs,
)
from hg3.cli.screen import print_table
from hg3.errors import ConfigError

if TYPE_CHECKING:
    from hg3.cluster.profiles import Profile
    from hg3.cluster.works import Stage

STAGES = ("train", "score", "generate", "judge")

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Submit jobs to a cluster.")

ClusterOption = Annotated[str, typer.Option(help="slurm; local, in the background here; or debug, in this process.")]
ProfileOption = Annotated[str | None, typer.Option(help="What a task asks for: a name in the profiles.")]
ProfilesOption = Annotated[Path | None, typer.Option(help="Profiles in TOML; $HG3_PROFILES or hg3's own if absent.")]
SlurmOption = Annotated[
    list[str], typer.Option("--slurm", metavar="KEY=VALUE", help="Of the profile: minutes=30; repeatable.")
]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be submitted, and what it would take.")]


@group.command("train")
def submit_train(
    table: TableArgument,
    out: OutOption,
    schema: Annotated[str, typer.Option(help="A shipped schema's name or the path of one.")],
    seeds: Annotated[str, typer.Option(help="One task each: 0-7, or 1,4,10-12.")] = "0",
    preset: Annotated[str | None, typer.Option(help="A shipped preset's name or a path; hg3 if absent.")] = None,
    changes: SetOption = [],  # noqa: B006  typer copies it
    updates: Annotated[int | None, typer.Option(help="How many updates; the reproducible way.", min=1)] = None,
    minutes: Annotated[float | None, typer.Option(help="How many minutes instead.", min=0.01)] = None,
    cluster: ClusterOption = "slurm",
    profile: ProfileOption = None,
    profiles: ProfilesOption = None,
    slurm: SlurmOption = [],  # noqa: B006
    track: TrackOption = None,
    dry_run: DryOption = False,
) -> None:
    """Train several seeds, a task each, into OUT/seed-N.

    A task that is preempted or reaches its time limit saves, is queued again and goes on.

    \b
    Example: hg3 submit train cohort.parquet --schema art-hiv-v2 --seeds 0-7 --updates 20000 --profile gpu --out runs
    """
    from hg3.cluster.verbs import seeds_of, training_stage

    asked = (pairs(changes), updates, minutes)
    stage = training_stage(table, out, seeds_of(seeds), schema, preset, *asked)
    _submit(out, cluster, (replace(stage, profile=_profile(cluster, profile, profiles, slurm)),), dry_run, track)


@group.command("generate")
def submit_generate(
    run: Annotated[Path, typer.Argument(help="The folder that hg3 train made.")],
    out: OutOption,
    patients: Annotated[int, typer.Option(help="How many patients.")],
    seed: Annotated[int, typer.Option(help="Whole number that fixes the release.")] = 0,
    tasks: Annotated[int, typer.Option(help="How many tasks share the parts.", min=1)] = 8,
    solver: SolverOption = None,
    steps: StepsOption = None,
    eta: EtaOption = None,
    where: WhereOption = None,
    balance: BalanceOption = None,
    compiled: CompileOption = False,
    mix: Annotated[bool, typer.Option("--mix", help="Let nodes of different models make it.")] = False,
    cluster: ClusterOption = "slurm",
    profile: ProfileOption = None,
    profiles: ProfilesOption = None,
    slurm: SlurmOption = [],  # noqa: B006
    dry_run: DryOption = False,
) -> None:
    """Generate a release by many tasks; each makes its parts, then helps the others.

    The bytes are those of one hg3 generate, through kills and whatever the number of tasks.

    \b
    Example: hg3 submit generate runs/seed-3 --patients 1000000 --seed 7 --profile gpu --out releases/art
    """
    from hg3.cli.release import where_of
    from hg3.cluster.verbs import generation_stage

    mode = "default" if compiled else "none"
    asked = {"solver": solver, "steps": steps, "eta": eta, "where": where_of(where), "balance": balance}
    stage = generation_stage(run, out, patients, seed, tasks, mode, mix, **asked)
    _submit(out, cluster, (replace(stage, profile=_profile(cluster, profile, profiles, slurm)),), dry_run)


@group.command("pipeline")
def submit_pipeline(
    config: Annotated[Path, typer.Argument(help="A pipeline in TOML.")],
    out: OutOption,
    cluster: ClusterOption = "slurm",
    profile: Annotated[
        list[str], typer.Option(metavar="[STAGE=]NAME", help="For all stages, or for one: generate=gpu; repeatable.")
    ] = [],  # noqa: B006
    profiles: ProfilesOption = None,
    slurm: SlurmOption = [],  # noqa: B006
    track: TrackOption = None,
    dry_run: DryOption = False,
) -> None:
    """Train seeds, choose the best on validation patients, generate, evaluate on the hold-out, certify.

    Leaves OUT/runs, OUT/scores, OUT/release and OUT/report; each stage waits for the one before.

    \b
    Example: hg3 submit pipeline pipeline.toml --profile cpu --profile generate=gpu --out art
    """
    from hg3.cluster.pipeline import pipeline_stages

    names = dict.fromkeys(STAGES)
    for word in profile:
        stage, equals, name = word.partition("=")
        if equals and stage not in STAGES:
            raise ConfigError(f"--profile {word!r} was given; a pipeline's stages are {', '.join(STAGES)}")
        names |= {stage: name} if equals else dict.fromkeys(STAGES, word)
    chosen = {stage: _profile(cluster, name, profiles, slurm) for stage, name in names.items()}
    _submit(out, cluster, pipeline_stages(config, out, chosen), dry_run, track)


def _profile(cluster: str, name: str | None, path: Path | None, changes: list[str]) -> "Profile":
    from hg3.cluster.profiles import load_profile

    return load_profile(name or ("cpu" if cluster == "slurm" else "local"), pairs(changes, "--slurm"), path)


def _submit(out: Path, cluster: str, stages: "tuple[Stage, ...]", dry_run: bool, track: str | None = None) -> None:
    from hg3.cluster.estimate import estimate
    from hg3.cluster.submit import check_accepted, submit, would_submit
    from hg3.cluster.verbs import tracked_stages

    if not dry_run:
        if track:
            check_accepted(out, cluster)  # before the store gets a parent run
            stages = tracked_stages(stages, track, out.resolve().name)
        submit(out, cluster, stages)
        print(f"{sum(len(stage.calls) for stage in stages)} tasks submitted; look at them with: hg3 jobs {out}")
        return
    for stage, lines in would_submit(out, cluster, stages):
        for line in lines:
            print(line)
        for sentence in estimate(stage, out, cluster):
            print(f"  {sentence}")
    print("nothing was submitted")


def jobs_command(
    out: Annotated[Path, typer.Argument(help="The --out of a submission: runs, a release, or a pipeline's folder.")],
    resume: Annotated[bool, typer.Option("--resume", help="Submit exactly what is missing.")] = False,
    slurm: SlurmOption = [],  # noqa: B006
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel all jobs; what they made stays.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what of a submission is done, running, waiting, lost or failed.

    What the work left on disk is looked at first, the cluster is asked second, once for all jobs.

    \b
    Example: hg3 jobs runs
    """
    from hg3.cluster.state import as_json as plain
    from hg3.cluster.state import counts, making, pieces
    from hg3.cluster.submit import cancel as cancel_jobs
    from hg3.cluster.submit import resume as resume_jobs
    from hg3.cluster.works import read_work

    if slurm and not resume:
        raise ConfigError("--slurm was given without --resume; jobs that are submitted keep what they asked for")
    if resume and cancel:
        raise ConfigError("--resume and --cancel were both given; give one of them")
    if cancel:
        cancel_jobs(out)
        print("cancelled; what was made stays, and --resume goes on with it")
        return
    if resume:
        missing = resume_jobs(out, pairs(slurm, "--slurm"))
        names = ", ".join(f"{piece.stage.name} {piece.name}" for piece in missing)
        print(f"submitted {len(missing)}: {names}" if missing else "nothing is missing")
        return
    work = read_work(out)
    seen = pieces(work)
    found = [plain(piece) for piece in seen]
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print_table(f"{out} on {work.cluster}", [_row(piece) for piece in found])
    print(", ".join(f"{number} {state}" for state, number in counts(seen).items() if number))
    if now := making(seen):
        left = "" if now.seconds_left is None else f", {_duration(now.seconds_left)} left"
        made = f"{now.parts:,} of {now.of_parts:,} parts, {now.patients:,} of {now.of_patients:,} patients"
        print(f"release: {made}, {now.per_second:,.0f} patients/s{left}")


def _row(piece: dict[str, Any]) -> dict[str, Any]:
    done, total, speed, left = (piece[key] for key in ("done", "total", "per_second", "seconds_left"))
    return {
        "stage": piece["stage"],
        "task": piece["name"],
        "state": piece["state"],
        "job": piece["job"],
        "done": None if done is None else f"{done:,}" + (f" of {total:,}" if total else ""),
        "per second": None if not speed or piece["state"] != "running" else f"{speed:,.1f}",
        "left": None if left is None else _duration(left),
        "why": piece["why"],
    }


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
