"""What a submission would take: node hours and disk, from what was measured."""

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hg3.cluster.kinds import Call
from hg3.cluster.records import read_record
from hg3.cluster.works import Stage, folder_of
from hg3.release.plan import Request, Source, make_plan, open_source
from hg3.release.writer import make_block
from hg3.training.describe import describe_model
from hg3.training.device import default_device, device_model

SAMPLE = 64  # patients that are made to measure a speed
CHECKPOINTS = 3  # that a run holds at most: the best, the last, and one being written
TENSORS = 4  # of float32 a parameter in a checkpoint: weights, their average, two moments


def estimate(stage: Stage) -> list[str]:
    """Return what a stage would take, in sentences; nothing of a stage whose work is not known before."""
    if stage.kind == "train":
        return _training(stage)
    if stage.kind == "generate" and "run" in stage.calls[0]:
        return _generation(stage)
    return [_at_most(stage)]


def _training(stage: Stage) -> list[str]:
    call = stage.calls[0]
    size = describe_model(call["preset"] or "hg3", call["schema"], call["changes"])["parameters"]
    disk = f"disk: at most {_bytes(size * 4 * TENSORS * CHECKPOINTS * len(stage.calls))} of checkpoints"
    speed = _measured_speed(Path(call["out"]).parent, len(stage.calls))
    if speed is None or not call["updates"]:
        return [_at_most(stage) + " (no seed of this training has been measured)", disk]
    hours = call["updates"] / speed * len(stage.calls) / 3600
    return [f"{hours:.1f} node hours, at {speed:.1f} updates/s as measured in an earlier seed", disk]


def _measured_speed(out: Path, n: int) -> float | None:
    """Return the updates a second that a seed submitted to `out` before has noted."""
    records = (read_record(path) for path in sorted((folder_of(out) / "records").glob("train-*.json"))[:n])
    return next((record["per_second"] for record in records if record.get("per_second")), None)


def _at_most(stage: Stage) -> str:
    hours = len(stage.calls) * stage.profile.minutes / 60
    return (
        f"at most {hours:.1f} node hours before the time limit: {len(stage.calls)} tasks of {stage.profile.minutes} min"
    )


def _generation(stage: Stage) -> list[str]:
    call = stage.calls[0]
    source = open_source(Path(call["run"]), default_device())
    speed, size = measure(source, call)
    hours = call["patients"] / speed / 3600
    where = f"{speed:.0f} patients/s, measured on {SAMPLE} patients on this machine ({device_model(source.device)})"
    share = hours / len(stage.calls) * 60
    return [
        f"{hours:.2f} node hours at {where}; {share:.0f} min if all {len(stage.calls)} tasks run at once",
        f"disk: about {_bytes(size * call['patients'])}",
    ]


def measure(source: Source, call: Call) -> tuple[float, float]:
    """Return patients a second and bytes a patient of a run, of a few patients made here and now."""
    asked = {**call["asked"], "block_patients": SAMPLE}
    plan: dict[str, Any] = make_plan(source, Request(SAMPLE, call["seed"], **asked))
    sampler = source.sampler(plan)
    make_block(source, sampler, plan, 0, SAMPLE)  # what comes once: allocation, the choice of kernels
    started = time.perf_counter()
    table = make_block(source, sampler, plan, 1, SAMPLE).table
    seconds = time.perf_counter() - started
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return SAMPLE / seconds, sink.getvalue().size / SAMPLE


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
