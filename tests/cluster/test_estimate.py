"""What a submission would take is told from what was measured, or not told."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hg3 import disk
from hg3.cluster import estimate as module
from hg3.cluster.estimate import estimate
from hg3.cluster.measured import device_type
from hg3.cluster.profiles import Profile
from hg3.cluster.submit import submit
from hg3.cluster.verbs import generation_stage, training_stage
from hg3.cluster.works import Stage
from tests import runs
from tests.runs import SIZES, TINY, make_release, make_run, write_cohort

one_thread = runs.one_thread
GPU, CPU = Profile(gpus=1, minutes=30), Profile(minutes=30)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path)


def generation(run: Path, out: Path, profile: Profile, **asked: Any) -> Stage:
    stage = generation_stage(run, out, 7200, tasks=2, **{**SIZES, **asked})
    return replace(stage, profile=profile)


def test_release_of_the_same_run_is_the_measure(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure", lambda *_: pytest.fail("timed this machine"))
    for name, patients, seconds in (("small", 20, 1.0), ("large", 40, 20.0)):
        made = make_release(run, tmp_path / name, patients)
        disk.write_json(made / "provenance.json", {"sampling_seconds": seconds})
    first, second = estimate(generation(run, tmp_path / "new", CPU), tmp_path / "new", "slurm")
    assert first.startswith("1.00 node hours at 2 patients/s, measured on large, on ")
    assert first.endswith("; 30 min if all 2 tasks run at once") and second.startswith("disk: about ")


def test_scores_of_a_pipeline_are_a_measure_of_its_runs(run: Path, tmp_path: Path) -> None:
    made = make_release(run, tmp_path / "art" / "scores" / "seed-0" / "release", 20)
    disk.write_json(made / "provenance.json", {"sampling_seconds": 10.0})
    (tmp_path / "art" / "runs").mkdir()
    kept = run.rename(tmp_path / "art" / "runs" / "seed-0")
    said = estimate(generation(kept, tmp_path / "else" / "new", CPU), tmp_path / "else" / "new", "slurm")
    assert "at 2 patients/s, measured on release" in said[0]


@pytest.mark.parametrize("asked", [{"steps": 4}, {"solver": "ancestral"}])
def test_release_made_otherwise_is_no_measure(run: Path, tmp_path: Path, asked: dict[str, Any]) -> None:
    make_release(run, tmp_path / "other", 20)
    said = estimate(generation(run, tmp_path / "new", CPU, **asked), tmp_path / "new", "slurm")
    assert "measured on 64 patients on this machine" in said[0]


def test_machine_without_gpus_does_not_time_what_gpus_do(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hg3.training.device.torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(module, "measure", lambda *_: pytest.fail("timed this machine"))
    make_release(run, tmp_path / "on-a-processor", 20)
    first, second = estimate(generation(run, tmp_path / "new", GPU), tmp_path / "new", "slurm")
    assert first.startswith("no measure yet: no release of this run and sampler is beside")
    assert "the tasks compute on GPUs, unlike this machine; generate 2,048 patients as one task first" in first
    assert second == "at most 1.0 node hours before the time limit: 2 tasks of 30 min"


def test_kind_of_device() -> None:
    asked: list[dict[str, str | int | bool]] = [{"gres": "gpu:a100:1"}, {"gpus-per-task": 1}, {"reservation": "night"}]
    assert [device_type(Profile(sbatch=options)) for options in asked] == ["cuda", "cuda", "cpu"]
    assert (device_type(GPU), device_type(CPU)) == ("cuda", "cpu")


def trainings(folder: Path, out: Path, profile: Profile = CPU, changes: dict[str, str] = TINY, **length: Any) -> Stage:
    table = folder / "table.parquet"
    stage = training_stage(table, out, [0, 1], folder / "schema.toml", changes=changes, **{"updates": 3} | length)
    return replace(stage, profile=profile)


def test_training_of_the_same_settings_is_the_measure(tmp_path: Path) -> None:
    write_cohort(tmp_path)
    new = tmp_path / "new"

    def first(stage: Stage) -> str:
        return estimate(stage, new, "slurm")[0]

    assert (
        first(trainings(tmp_path, new)) == f"no measure yet: no training of these settings was submitted beside {new}"
    )
    work = submit(tmp_path / "before", "debug", (trainings(tmp_path, tmp_path / "before"),))
    record = work.record(work.stages[0], 1)
    disk.write_json(work.record(work.stages[0], 0), {"state": "failed"})
    disk.write_json(record, {**disk.read_json(record, "a record"), "per_second": 2.0})
    said = f"1.0 node hours, at 2.0 updates/s, as {tmp_path / 'before' / 'seed-1'} reached"
    assert first(trainings(tmp_path, new, updates=3600)) == said
    assert first(trainings(tmp_path, new, GPU)).startswith("no measure yet")
    assert first(trainings(tmp_path, new, changes=TINY | {"network.width": "32"})).startswith("no measure yet")
    asked = trainings(tmp_path, new, updates=None, minutes=90)
    assert first(asked) == "3.0 node hours: 2 trainings of 90 min"
