"""Tracking, against the real MLflow: real sqlite stores and a real server, which dies in the middle."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hg3 import disk
from hg3.cluster import follow
from hg3.cluster.follow import plan_submission, plan_tracking, tracked
from hg3.cluster.merge import attach, merge_runs
from hg3.cluster.models import register_run
from hg3.cluster.places import answers, sqlite_uri
from hg3.cluster.record import read_record
from hg3.errors import RunError
from tests import runs, test_canary
from tests.cluster.tracked import expected, found, free_port, server
from tests.runs import TINY, Ended, make_run, options, write_cohort
from tests.table.cases import make_schema

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
    """Wait for something that another thread or process brings about; what it raises before is not it."""
    end = time.monotonic() + 180
    while time.monotonic() < end:
        try:
            if true():
                return
        except (KeyError, RunError):
            pass
        time.sleep(0.1)
    raise AssertionError("it did not come about in three minutes")


LOG = """
import shutil, sys, time
from pathlib import Path
from hg3.cluster import follow
from hg3.cluster.follow import tracked
follow.EVERY_S, follow.CLOSE_S = 0.2, 240.0  # eight at once on two cores, each importing MLflow
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
        jobs.append(subprocess.Popen(arguments))
    assert [job.wait() for job in jobs] == [0] * 8
    records = [read_record(tmp_path / f"run-{number}") for number in range(8)]
    for number in range(8):  # before anybody merges
        run = tmp_path / f"run-{number}"
        assert found(run, uri) == expected(run) and len(expected(run)) > 80
    assert {sent for _, sent in merge_runs([tmp_path], uri)} == {0}
    if not new:
        parents = {tags_in(uri, record["runs"][uri])["mlflow.parentRunId"] for record in records}
        assert len(parents) == 1
        parent = mlflow.MlflowClient(uri).get_run(parents.pop()).info
        assert (parent.run_name, parent.status) == ("eight seeds", "FINISHED")


def tags_in(uri: str, run_id: str) -> dict[str, str]:
    return dict(mlflow.MlflowClient(uri).get_run(run_id).data.tags)


def test_resumed_job_goes_on_in_its_run(store: Path, tmp_path: Path) -> None:
    """Killed after its last checkpoint, so that the resume repeats updates that the store has already."""
    uri = sqlite_uri(store)
    plan = plan_tracking(uri, tmp_path)
    table, schema, run = write_cohort(tmp_path), tmp_path / "schema.toml", tmp_path / "run"
    changes = TINY | {"training.validate_every": "20"}

    def killed(entry: dict[str, Any]) -> None:
        tracker.report(entry)
        if entry["update"] == 35:
            raise RunError("killed")

    with pytest.raises(RunError), tracked(run, plan) as tracker:
        runs.train(table, run, schema, changes=changes, updates=60, report=killed)
    client, run_id = mlflow.MlflowClient(uri), read_record(run)["runs"][uri]
    before = found(run, uri)
    assert client.get_run(run_id).info.status == "FAILED" and ("loss", 30) in {value[:2] for value in before}
    with tracked(run, plan) as tracker:
        assert runs.train(table, run, resume=True, report=tracker.report)
        tracker.status = "FINISHED"
    assert found(run, uri) == expected(run) and set(before) < set(expected(run))
    assert (read_record(run)["runs"], client.get_run(run_id).info.status) == ({uri: run_id}, "FINISHED")


def test_merge_adds_what_is_missing_and_nothing_twice(store: Path, tmp_path: Path, command: Command) -> None:
    """Two jobs without a store, of one submission; merged while one was only half there, and again, and again."""
    plan = plan_submission("later", tmp_path, "two seeds")
    table, schema, uri = write_cohort(tmp_path), tmp_path / "schema.toml", sqlite_uri(store)
    for seed in (0, 1):
        with tracked(tmp_path / f"seed-{seed}", plan) as tracker:
            arguments: dict[str, Any] = {"updates": 40, "seed": seed, "report": tracker.report}
            assert runs.train(table, tmp_path / f"seed-{seed}", schema, changes=TINY, **arguments)
            tracker.status = "FINISHED"
    whole = (tmp_path / "seed-1" / "metrics.jsonl").read_bytes()
    (tmp_path / "seed-1" / "metrics.jsonl").write_bytes(whole[: len(whole) // 2])
    assert command("track", "merge", tmp_path, "--into", uri).code == 0
    (tmp_path / "seed-1" / "metrics.jsonl").write_bytes(whole)
    assert dict(merge_runs([tmp_path], uri))[tmp_path / "seed-1"] > 0
    assert {sent for _, sent in merge_runs([tmp_path], uri)} == {0}
    for seed in (0, 1):
        assert found(tmp_path / f"seed-{seed}", uri) == expected(tmp_path / f"seed-{seed}")
    client = mlflow.MlflowClient(uri)
    everything = client.search_runs([client.get_experiment_by_name("hg3").experiment_id])
    assert sorted(one.info.run_name for one in everything) == ["seed 0", "seed 1", "two seeds"]
    assert {one.info.status for one in everything} == {"FINISHED"}


def test_merge_delivers_what_the_judge_has_noted(store: Path, tmp_path: Path) -> None:
    """The judge of a pipeline only notes release and report beside the run; a later merge brings them."""
    run, uri = make_run(tmp_path), sqlite_uri(store)
    with tracked(run, {"uri": "later", "experiment": "hg3"}) as tracker:
        tracker.report({})
        tracker.status = "FINISHED"
    merge_runs([run], uri)
    (tmp_path / "report").mkdir()
    for name in ("report.html", "metrics.json"):
        (tmp_path / "report" / name).write_text("{}")
    release = runs.make_release(run, tmp_path / "release", 20)
    attach(run, [release, tmp_path / "report"])
    merge_runs([run], uri)
    client, run_id = mlflow.MlflowClient(uri), read_record(run)["runs"][uri]
    files = sorted(file.path for folder in ("release", "report") for file in client.list_artifacts(run_id, folder))
    assert files == ["release/manifest.json", "report/metrics.json", "report/report.html"]


def test_each_version_keeps_its_own_report(store: Path, tmp_path: Path) -> None:
    run, uri = make_run(tmp_path), sqlite_uri(store)
    for number in (1, 2):
        report = tmp_path / f"report-{number}"
        report.mkdir()
        (report / "report.html").write_text(f"of version {number}")
        disk.write_sealed(report / "metrics.json", {"verdicts": [{"name": "g", "score": number, "state": "met"}]})
        assert register_run(run, "tiny", report, store=uri).uri == f"models:/tiny/{number}"
    client = mlflow.MlflowClient(uri)
    for version in client.search_model_versions("name = 'tiny'"):
        path = client.download_artifacts(version.run_id, "model/report.html", str(tmp_path))
        assert Path(path).read_text() == f"of version {version.version}"
        assert version.tags["gate g"] == f"{version.version} met"


def test_registered_model_generates_what_its_run_does(
    store: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, uri = make_run(tmp_path), sqlite_uri(store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for number in (1, 2):
        ended = command("track", "register", run, "--name", "tiny")
        assert ended.code == 0 and f"models:/tiny/{number}: checkpoint" in ended.out, ended
    (kept,) = (tmp_path / "models").iterdir()  # one checkpoint, however often it is registered
    assert kept.stat().st_mode & 0o077 == 0
    wish = ("--patients", 20, "--steps", 3)
    assert command("generate", "models:/tiny/1", *wish, "--out", tmp_path / "registered").code == 0
    assert command("generate", run, *wish, "--out", tmp_path / "direct").code == 0
    assert runs.file_bytes(tmp_path / "registered") == runs.file_bytes(tmp_path / "direct")
    missing = command("generate", "models:/tiny/3", *wish, "--out", tmp_path / "more")
    assert missing.code == 2 and "has no version 3 of a model 'tiny'" in missing.err
    wrong = command("generate", "models:/tiny", *wish, "--out", tmp_path / "more")
    assert wrong.code == 2 and "a registered model is models:/NAME/VERSION" in wrong.err
    state = next(kept.glob("checkpoints/*/state.json"))
    state.write_text(state.read_text() + " ")
    altered = command("generate", "models:/tiny/1", *wish, "--out", tmp_path / "more")
    assert altered.code == 2 and "does not hold the checkpoint of models:/tiny/1" in altered.err
    assert not (tmp_path / "more").exists()


def test_no_value_of_a_patient_gets_into_a_store(
    empty_store: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that can be tracked is: a run, a release, a report, a registered model. Every byte is searched."""
    (tmp_path / "schema.toml").write_text(make_schema(test_canary.COLUMNS, name="canary").to_toml(), encoding="utf-8")
    test_canary.cohort().to_parquet(tmp_path / "table.parquet")
    run, release, report = (tmp_path / name for name in ("run", "release", "report"))
    (tmp_path / "store").mkdir()
    uri = sqlite_uri(tmp_path / "store" / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    wish = ("--schema", tmp_path / "schema.toml", "--updates", 12, *options())
    said = [
        command("train", tmp_path / "table.parquet", *wish, "--out", run, "--track", "auto"),
        command("generate", run, "--patients", 300, "--steps", 5, "--out", release),
        command("evaluate", release, "--run", run, "--out", report),
        command("track", "attach", run, release, report),
        command("track", "register", run, "--name", "canary", "--report", report),
    ]
    assert [ended.code for ended in said] == [0] * 5, said
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert {path: test_canary.found_in(path) for path in files if test_canary.found_in(path)} == {}
    assert set().union(*(test_canary.found_in_bytes((one.out + one.err).encode()) for one in said)) == set()
    names = {path.name for path in files}
    assert names >= {"mlflow.db", "config.toml", "loss.png", "manifest.json", "report.html", "metrics.json"}
    assert not names & {"encoder.json", "split.json", "ema.safetensors", "model.safetensors", "state.json"}
    kept = [path for path in (tmp_path / "models").rglob("*") if path.is_file()]
    assert any(test_canary.found_in(path) for path in kept)  # there was something to find, and it is private


def test_browser_page_is_on_loopback_only(store: Path) -> None:
    port = free_port()
    arguments = [sys.executable, "-m", "hg3", "track", "ui", str(store), "--port", str(port)]
    process = subprocess.Popen(arguments, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}"))
        listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        places = {words[1] for words in listening if words[3] == "0A" and words[1].endswith(f":{port:04X}")}
        assert places == {f"0100007F:{port:04X}"}  # 127.0.0.1, and no other address
    finally:
        os.killpg(process.pid, 9)
        process.wait()
