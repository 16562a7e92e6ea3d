"""From a table to a certified release: seeds, their scores on validation patients, the best one's release, its verdict.

One TOML file says all of it. Each stage is an array of jobs that waits for the one before.
"""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hg3.cluster.profiles import Profile
from hg3.cluster.verbs import release_stage, seeds_of, training_stage
from hg3.cluster.works import Stage
from hg3.config import load_preset
from hg3.errors import ConfigError
from hg3.evaluation.gates import load_gates
from hg3.release.plan import PART_BLOCKS
from hg3.sampling.generate import BLOCK_PATIENTS


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Training(_Part):
    """As `hg3 submit train` takes them; `set` holds keys of the preset, "network.width" = 64."""

    seeds: str = "0-3"
    preset: str | None = None
    updates: int | None = Field(default=None, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    set: dict[str, str | int | float | bool] = {}


class Scoring(_Part):
    """How many patients of each seed are compared with its validation patients."""

    patients: int = Field(default=2_000, ge=10)


class Generation(_Part):
    """As `hg3 submit generate` takes them."""

    patients: int = Field(ge=1)
    seed: int = Field(default=0, ge=0)
    tasks: int = Field(default=8, ge=1)
    solver: str | None = None
    steps: int | None = Field(default=None, ge=2)


class Judging(_Part):
    """As `hg3 evaluate` takes them."""

    utility: bool = False
    gates: str | None = None


class Pipeline(_Part):
    """All of it: what is learnt from, and how each stage is done."""

    table: str
    schema_: str = Field(alias="schema")
    train: Training
    score: Scoring = Scoring()
    generate: Generation
    judge: Judging = Judging()


def read_pipeline(path: Path) -> Pipeline:
    """Return the pipeline in a TOML file.

    Raises
    ------
    ConfigError
        If it cannot be read or has another key or value than it may.
    """
    try:
        return Pipeline.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors()[:10])
        raise ConfigError(f"pipeline {path} is not usable: {faults}; see docs/cluster.md for its keys") from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} is not a readable TOML file ({type(error).__name__}); give the path of a pipeline"
        ) from None


def pipeline_stages(path: Path, out: Path, profiles: dict[str, Profile]) -> tuple[Stage, ...]:
    """Return the stages of a pipeline: runs, scores, release and report below `out`.

    Parameters
    ----------
    profiles : by stage, "train", "score", "generate", "judge".

    Raises
    ------
    ConfigError
        If something asked for is not usable, as several seeds of a preset with privacy are.
    """
    asked, base, out = read_pipeline(path), path.absolute().parent, out.absolute()
    gates = None if asked.judge.gates is None else str((base / asked.judge.gates).absolute())
    load_gates(None if gates is None else Path(gates))
    changes = {key: str(value) for key, value in asked.train.set.items()}
    schema = base / asked.schema_ if (base / asked.schema_).is_file() else asked.schema_
    length = (asked.train.updates, asked.train.minutes)
    seeds = seeds_of(asked.train.seeds)
    training = training_stage(base / asked.table, out / "runs", seeds, schema, asked.train.preset, changes, *length)
    scoring: tuple[Stage, ...] = ()
    source: dict[str, Any]
    if load_preset(asked.train.preset or "hg3", changes).privacy is not None:
        _check_one_seed(asked.train.seeds)
        source = {"run": training.calls[0]["out"]}
    else:
        scores = [_score(call, out, asked.score.patients, gates) for call in training.calls]
        scoring = (Stage("score", "score", tuple(scores)),)
        source = {"choice": [{"run": call["run"], "report": call["out"]} for call in scores]}
    generation = _generation(asked.generate, out, source)
    judging: dict[str, Any] = {"release": str(out / "release"), "out": str(out / "report"), "gates": gates, **source}
    judging |= {"utility": asked.judge.utility, "label": "release"}
    stages = (training, *scoring, generation, Stage("judge", "judge", (judging,)))
    return tuple(Stage(s.name, s.kind, s.calls, profiles[s.name]) for s in stages)


def _check_one_seed(seeds: str) -> None:
    """Refuse a choice among private runs: scores on validation patients are outside what epsilon bounds."""
    if len(seeds_of(seeds)) > 1:
        raise ConfigError(
            f"seeds {seeds!r} of a preset with privacy were given; the best of several is chosen by real patients, "
            "outside its epsilon: give one seed, which is released without a choice"
        )


def _score(call: dict[str, Any], out: Path, patients: int, gates: str | None) -> dict[str, Any]:
    """Return how the run of a training is scored."""
    place = out / "scores" / str(call["label"])
    paths = {"run": call["out"], "release": str(place / "release"), "out": str(place / "report")}
    return {**paths, "patients": patients, "gates": gates, "updates": call["updates"], "label": call["label"]}


def _generation(asked: Generation, out: Path, source: dict[str, Any]) -> Stage:
    parts = -(-asked.patients // (BLOCK_PATIENTS * PART_BLOCKS))
    how = {"solver": asked.solver, "steps": asked.steps}
    return release_stage(parts, source, out / "release", asked.patients, asked.seed, asked.tasks, "none", **how)
