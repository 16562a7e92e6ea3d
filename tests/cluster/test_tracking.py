"""Tracking, against the real MLflow: real sqlite stores and a real server, which dies in the middle."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hg3.cluster import follow
from hg3.cluster.follow import plan_submission, plan_tracking, tracked
from hg3.cluster.places import sqlite_uri
from hg3.cluster.record import read_record
from hg3.errors import RunError
from tests import runs
from tests.cluster.tracked import expected, found, free_port, server
from tests.runs import TINY, Ended, make_run, options, write_cohort

mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: pip install -e '.[tracking]'")
one_thread, command = runs.one_thread, runs.command
Command = Callable[..., Ended]
pytestmark = pytest.mark.slow  # MLflow takes 4 s to import and 10 s for the tables of a store


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables and nothing else, to be copied: making one takes ten seconds."""
    from hg3.cluster.tracking import Store

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    Store(sqlite_uri(path), "another")
    return path


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(empty_store, tmp_path / "mlflow.db"))


def tracked_run(folder: Path, plan: dict[str, Any], updates: int = 40, **more: Any) -> Path:
    """Return a run in `folder` that was tracked by `plan`."""
    table = write_cohort(folder)
    with tracked(folder / "run", plan) as tracker:
        schema = folder / "schema.toml"
        assert runs.train(table, folder / "run", schema, changes=TINY, updates=updates, report=tracker.report, **more)
        tracker.status = "FINISHED"
    return folder / "run"


def test_store_has_what_the_run_folder_says(store: Path, tmp_path: Path, command: Command) -> None:
    """The way of the command line: metrics, parameters, tags and files, all there and nothing else."""
    table, uri = write_cohort(tmp_path), sqlite_uri(store)
    wish = (table, "--schema", tmp_path / "schema.toml", "--updates", 20, "--seed", 5, *options())
    ended = command("train", *wish, "--out", tmp_path / "run", "--track", uri)
    assert (ended.code, ended.err.count("warning")) == (0, 0), ended
    run = tmp_path / "run"
    assert found(run, uri) == expected(run) and len(expected(run)) > 8
    client, run_id = mlflow.MlflowClient(uri), read_record(run)["runs"][uri]
    data, info = client.get_run(run_id).data, client.get_run(run_id).info
    assert (info.status, info.run_name, data.params["network.width"], data.params["seed"]) == (
        "FINISHED", "run", "16", "5",
    )  # fmt: skip
    assert data.tags["data_sha256"] == json.loads((run / "split.json").read_text())["table"]["sha256"]
    assert data.tags["hg3.version"]
    assert {file.path for file in client.list_artifacts(run_id)} == {"config.toml", "loss.png"}


def test_killed_server_loses_nothing(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server dies at update 20 and comes back at update 60 of 80, and never slows the training."""
    monkeypatch.setattr(follow, "EVERY_S", 0.2)
    monkeypatch.setattr(follow, "LONGEST_WAIT_S", 0.5)
    port, table = free_port(), write_cohort(tmp_path)
    run, longest, last = tmp_path / "run", 0.0, time.monotonic()
    first = server(store, port)
    uri = first.__enter__()
    second = server(store, port)

    def live(entry: dict[str, Any]) -> None:
        nonlocal longest, last
        if entry["update"] not in (1, 20, 60):
            longest = max(longest, time.monotonic() - last)
        if entry["update"] == 20:
            until(lambda: found(run, uri) != [])
            first.__exit__(None, None, None)
        if entry["update"] == 60:
            until(lambda: tracker.problem is not None)
            second.__enter__()
        tracker.report(entry)
        last = time.monotonic()

    with tracked(run, plan_tracking(uri, tmp_path)) as tracker:
        assert runs.train(table, run, tmp_path / "schema.toml", changes=TINY, updates=80, report=live)
        tracker.status = "FINISHED"
    try:
        assert found(run, uri) == expected(run) and len(expected(run)) > 30
        assert mlflow.MlflowClient(uri).get_run(read_record(run)["runs"][uri]).info.status == "FINISHED"
        assert longest < 2
    finally:
        second.__exit__(None, None, None)


def until(true: Callable[[], bool]) -> None:
    """Wait for something that another thread brings about; what it raises before is not it."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if true():
                return
        except (KeyError, RunError):
            pass
        time.sleep(0.1)
    raise AssertionError("it did not come about in a minute")


LOG = """
import shutil, sys, time
from pathlib import Path
from hg3.cluster import follow
from hg3.cluster.follow import tracked
follow.EVERY_S, follow.CLOSE_S = 0.2, 300.0
run, lines, plan = Path(sys.argv[1]), Path(sys.argv[2]).read_text().splitlines(keepends=True), eval(sys.argv[3])
with tracked(run, plan, print) as tracker, (run / "metrics.jsonl").open("w") as metrics:
    for line in lines:
        metrics.write(line), metrics.flush(), tracker.report({})
        time.sleep(0.02)
    tracker.status = "FINISHED"
"""


@pytest.mark.parametrize("new", [False, True], ids=["prepared by the submitter", "new to all of them"])
def test_eight_at_once_lose_nothing(store: Path, tmp_path: Path, new: bool) -> None:
    """Eight processes on one sqlite store; even one that nobody prepared, where MLflow alone breaks."""
    uri = sqlite_uri(tmp_path / "new.db" if new else store)
    plan = plan_tracking(uri, tmp_path) if new else plan_submission(uri, tmp_path, "eight seeds")
    made = make_run(tmp_path, updates=200)
    lines = Path(shutil.move(made / "metrics.jsonl", tmp_path))
    jobs = []
    for number in range(8):
        run = Path(shutil.copytree(made, tmp_path / f"run-{number}"))
        arguments = [sys.executable, "-c", LOG, str(run), str(lines), repr(plan)]
        jobs.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True))
    said = [job.communicate()[0] for job in jobs]
    assert ([job.returncode for job in jobs], said) == ([0] * 8, [""] * 8)
    records = [read_record(tmp_path / f"run-{number}") for number in range(8)]
    for number in range(8):
        run = tmp_path / f"run-{number}"
        assert found(run, uri) == expected(run) and len(expected(run)) > 80
    if not new:
        parents = {tags_in(uri, record["runs"][uri])["mlflow.parentRunId"] for record in records}
        assert len(parents) == 1
        parent = mlflow.MlflowClient(uri).get_run(parents.pop()).info
        assert (parent.run_name, parent.status) == ("eight seeds", "FINISHED")


def tags_in(uri: str, run_id: str) -> dict[str, str]:
    return dict(mlflow.MlflowClient(uri).get_run(run_id).data.tags)
