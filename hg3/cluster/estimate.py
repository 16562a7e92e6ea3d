"""What a submission would take: node hours and disk, from what was measured."""

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hg3.cluster.calls import Call
from hg3.cluster.measured import Measured, device_type, release_measured, training_measured
from hg3.cluster.works import Stage
from hg3.release.plan import Request, Source, make_plan, open_source
from hg3.release.writer import make_block
from hg3.training.describe import describe_model
from hg3.training.device import default_device, device_model

SAMPLE = 64  # patients that are made to measure a speed
CHECKPOINTS = 3  # that a run holds at most: the best, the last, and one being written
TENSORS = 4  # of float32 a parameter in a checkpoint: weights, their average, two moments


def estimate(stage: Stage, out: Path, cluster: str) -> list[str]:
    """Return what a stage of a submission to `out` would take, in sentences; an upper bound where that is unknown."""
    if stage.kind == "train":
        return _training(stage, out)
    if stage.kind == "generate" and "run" in stage.calls[0] and Path(stage.calls[0]["run"]).is_dir():
        return _generation(stage, out, cluster)
    return [_at_most(stage)]


def _training(stage: Stage, out: Path) -> list[str]:
    call, count = stage.calls[0], len(stage.calls)
    size = describe_model(call["preset"] or "hg3", call["schema"], call["changes"])["parameters"]
    disk = f"disk: at most {_bytes(size * 4 * TENSORS * CHECKPOINTS * count)} of checkpoints"
    if call["minutes"]:
        return [f"{call['minutes'] * count / 60:.1f} node hours: {count} trainings of {call['minutes']:g} min", disk]
    found = training_measured(stage, out)
    if found is None:
        return [f"no measure yet: no training of these settings was submitted beside {out}", _at_most(stage), disk]
    hours = call["updates"] / found.per_second * count / 3600
    return [f"{hours:.1f} node hours, at {found.per_second:.1f} updates/s, as {found.where} reached", disk]


def _at_most(stage: Stage) -> str:
    hours = len(stage.calls) * stage.profile.minutes / 60
    return (
        f"at most {hours:.1f} node hours before the time limit: {len(stage.calls)} tasks of {stage.profile.minutes} min"
    )


def _generation(stage: Stage, out: Path, cluster: str) -> list[str]:
    call, run = stage.calls[0], Path(stage.calls[0]["run"])
    source = open_source(run, default_device())
    here = source.device.type
    device = device_type(stage.profile) if cluster == "slurm" else here
    found = release_measured(plan_of(source, call), device, run, out.absolute())
    if found is None and device != here:
        wanted = "GPUs" if device == "cuda" else "processors alone"
        return [
            f"no measure yet: no release of this run and sampler is beside {out}, and the tasks compute on {wanted}, "
            "unlike this machine; generate 2,048 patients as one task first",
            _at_most(stage),
        ]
    found = found or measure(source, call)
    hours = call["patients"] / found.per_second / 3600
    share = hours / len(stage.calls) * 60
    return [
        f"{hours:.2f} node hours at {found.per_second:.0f} patients/s, measured on {found.where}; "
        f"{share:.0f} min if all {len(stage.calls)} tasks run at once",
        f"disk: about {_bytes(found.size * call['patients'])}",
    ]


def plan_of(source: Source, call: Call, patients: int | None = None, **asked: Any) -> dict[str, Any]:
    """Return the plan of the release that a task makes, or of one of so many patients."""
    return make_plan(source, Request(patients or call["patients"], call["seed"], **{**call["asked"], **asked}))


def measure(source: Source, call: Call) -> Measured:
    """Return the speed and size of a few patients that are made here and now."""
    plan = plan_of(source, call, SAMPLE, block_patients=SAMPLE)
    sampler = source.sampler(plan)
    make_block(source, sampler, plan, 0, SAMPLE)  # what comes once: allocation, the choice of kernels
    started = time.perf_counter()
    table = make_block(source, sampler, plan, 1, SAMPLE).table
    seconds = time.perf_counter() - started
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    where = f"{SAMPLE} patients on this machine ({device_model(source.device)})"
    return Measured(SAMPLE / seconds, sink.getvalue().size / SAMPLE, where)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
