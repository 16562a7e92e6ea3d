"""Tracking beside a training, without MLflow: what it leaves in the run folder, and that it never stands in the way."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hg3.cluster import delivery, follow, resources
from hg3.cluster.follow import plan_tracking, tracked
from hg3.cluster.merge import merge_runs, tracked_runs
from hg3.cluster.record import read_record
from hg3.errors import ConfigError, Hg3Error, MissingLibraryError, RunError
from tests import runs
from tests.runs import TINY, Ended, options, run_python, write_cohort

one_thread, command = runs.one_thread, runs.command
Command = Callable[..., Ended]

TRAIN_AND_TELL = """
import sys
from pathlib import Path
from tests.runs import TINY, make_run
from hg3.cli import app
run = make_run(Path(sys.argv[1]))
print(*(name for name in ("mlflow", "hg3.cluster.tracking") if name in sys.modules))
"""


@pytest.mark.slow
def test_no_mlflow_without_tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does its own variable bring it in."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert run_python(TRAIN_AND_TELL, tmp_path).strip() == ""


def test_later_leaves_all_in_the_run(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(follow, "EVERY_S", 0.05)
    monkeypatch.setattr(follow, "find_spec", lambda name: None)  # it needs no MLflow
    table = write_cohort(tmp_path)
    wish = ("train", table, "--schema", tmp_path / "schema.toml", "--updates", 40, *options())
    ended = command(*wish, "--out", tmp_path / "run", "--track", "later")
    assert (ended.code, "warning" in ended.err) == (0, False), ended
    noted = read_record(tmp_path / "run")
    assert (noted["status"], noted["uri"], noted["runs"]) == ("FINISHED", "later", {})
    looks = [json.loads(line) for line in (tmp_path / "run" / "system.jsonl").read_text().splitlines()]
    assert [look["step"] for look in looks] == list(range(len(looks))) and looks
    assert 0 <= looks[0]["system/cpu_utilization_percentage"] < 10_000
    assert looks[0]["system/system_memory_usage_megabytes"] > 50
    assert tracked_runs(tmp_path) == tracked_runs(tmp_path / "run") == [tmp_path / "run"]


def test_missing_mlflow_is_told_before_anything_is_done(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "find_spec", lambda name: None)
    table = write_cohort(tmp_path)
    wish = ("train", table, "--schema", tmp_path / "schema.toml", "--updates", 4, "--out", tmp_path / "run", *options())
    ended = command(*wish, "--track", "auto")
    assert ended.code == 2 and "tracking needs MLflow, which is not installed: pip install" in ended.err
    assert not (tmp_path / "run").exists()
    with pytest.raises(MissingLibraryError):
        plan_tracking("http://127.0.0.1:9", tmp_path)


def test_refused_training_leaves_nothing(tmp_path: Path, command: Command) -> None:
    table = write_cohort(tmp_path)
    ended = command("train", table, "--schema", "nobody", "--updates", 4, "--out", tmp_path / "run", "--track", "later")
    assert ended.code == 2 and not (tmp_path / "run").exists()


class Gone:
    """A delivery whose store is not there."""

    def __init__(self, run: Path, uri: str) -> None:
        pass

    def push(self) -> None:
        raise ConnectionError("gone")


class Hanging(Gone):
    def push(self) -> None:
        time.sleep(60)


@pytest.mark.parametrize(("store", "reason"), [(Gone, "ConnectionError"), (Hanging, "it does not answer")])
def test_lost_store_neither_stops_nor_slows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: type[Gone], reason: str
) -> None:
    monkeypatch.setattr(delivery, "Delivery", store)
    monkeypatch.setattr(follow, "EVERY_S", 0.01)
    monkeypatch.setattr(follow, "CLOSE_S", 0.5)
    said: list[str] = []
    table, longest, last = write_cohort(tmp_path), 0.0, time.monotonic()

    def report(entry: dict[str, Any]) -> None:
        nonlocal longest, last
        longest, last = max(longest, time.monotonic() - last) if entry["update"] > 1 else 0.0, time.monotonic()
        tracker.report(entry)

    with tracked(tmp_path / "run", {"uri": "http://gone", "experiment": "hg3"}, said.append) as tracker:
        assert runs.train(table, tmp_path / "run", tmp_path / "schema.toml", changes=TINY, updates=60, report=report)
        tracker.status = "FINISHED"
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 6
    assert longest < 2
    assert len(said) == 1 and f"({reason}); nothing is lost: hg3 track merge" in said[0]
    assert read_record(tmp_path / "run")["status"] == "FINISHED"


def test_job_that_goes_on_later_waits_less_for_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its grace may be shorter than the half minute that the last job of a training gives the store."""
    monkeypatch.setattr(delivery, "Delivery", Hanging)
    monkeypatch.setattr(follow, "EVERY_S", 0.01)
    monkeypatch.setattr(follow, "PAUSE_S", 0.3)
    run, said = runs.make_run(tmp_path), list[str]()
    with tracked(run, {"uri": "http://gone", "experiment": "hg3"}, said.append) as tracker:
        tracker.report({})
        tracker.status, began = "SCHEDULED", time.monotonic()
    assert time.monotonic() - began < 5 and "it does not answer" in said[0]
    assert follow.PAUSE_S < follow.CLOSE_S and read_record(run)["status"] == "SCHEDULED"


def test_failure_is_noted_as_one(tmp_path: Path) -> None:
    table = write_cohort(tmp_path)

    def stop(entry: dict[str, Any]) -> None:
        tracker.report(entry)
        raise Hg3Error("enough")

    plan = {"uri": "later", "experiment": "hg3"}
    with pytest.raises(Hg3Error, match="enough"), tracked(tmp_path / "run", plan) as tracker:
        runs.train(table, tmp_path / "run", tmp_path / "schema.toml", changes=TINY, updates=5, report=stop)
    assert read_record(tmp_path / "run")["status"] == "FAILED"


def test_altered_record_does_not_stop_a_training(tmp_path: Path) -> None:
    run, said = runs.make_run(tmp_path), list[str]()
    (run / "tracking.json").write_text("[]")
    with tracked(run, {"uri": "later", "experiment": "hg3"}, said.append) as tracker:
        assert runs.train(tmp_path / "table.parquet", run, updates=6, resume=True, report=tracker.report)
    assert len(said) == 1 and "tracking.json is altered" in said[0]


def test_folder_without_tracked_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run that was tracked; train with --track"):
        tracked_runs(tmp_path)


def test_wrong_place_is_refused(tmp_path: Path, command: Command) -> None:
    with pytest.raises(ConfigError):
        plan_tracking("mlflow.db", tmp_path)


def test_run_in_use_keeps_no_other_from_a_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tracking.json").write_text('{"format": 1, "uri": "later"}')

    def merge(run: Path, uri: str) -> int:
        if run.name == "b":
            raise RunError("in use")
        return 5

    monkeypatch.setattr("hg3.cluster.delivery.merge", merge)
    said, done = list[str](), list[tuple[Path, int]]()
    with pytest.raises(RunError, match=r"1 of 3 runs were not merged, the first of them .*b: in use"):
        merge_runs([tmp_path], warn=said.append, report=lambda *found: done.append(found))
    assert done == [(tmp_path / "a", 5), (tmp_path / "c", 5)] and len(said) == 1
    assert merge_runs([tmp_path / "a"]) == [(tmp_path / "a", 5)]
