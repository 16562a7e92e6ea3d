"""What a run folder says of itself, and how it is read while it grows."""

import json
import math
import threading
from pathlib import Path

import pytest

from hg3 import disk
from hg3.cluster import record
from hg3.cluster.record import (
    Tail,
    Value,
    begin_record,
    change_record,
    files_of,
    name_of,
    params_of,
    read_record,
    tags_of,
    values_of,
)
from hg3.config import load_preset
from hg3.errors import RunError
from tests import runs
from tests.runs import make_run

one_thread = runs.one_thread
PLAN = {"uri": "later", "experiment": "hg3"}


@pytest.fixture(scope="module")
def run(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 updates, seed 4; only tracking.json in it changes."""
    return make_run(tmp_path_factory.mktemp("run"), updates=20, seed=4)


def test_tail_reads_whole_lines_once(tmp_path: Path) -> None:
    path, tail = tmp_path / "metrics.jsonl", Tail(tmp_path / "metrics.jsonl")
    assert tail.read() == []
    path.write_text('{"update": 10}\n{"upd')
    assert tail.read() == [{"update": 10}]
    assert tail.read() == []
    with path.open("a") as file:
        file.write('ate": 20}\n')
    assert tail.read() == [{"update": 20}]


def test_tail_leaves_out_a_line_that_a_full_disk_cut(tmp_path: Path) -> None:
    path, tail = tmp_path / "system.jsonl", Tail(tmp_path / "system.jsonl")
    path.write_text('{"step": 0}\n{"step": 1, "sys{"step": 2}\n[3]\n{"step": 4}\n')
    assert tail.read() == [{"step": 0}, {"step": 4}]


def test_tail_begins_again_with_a_file_that_was_replaced(tmp_path: Path) -> None:
    """As a resume does, which drops the lines that it will repeat."""
    path, tail = tmp_path / "metrics.jsonl", Tail(tmp_path / "metrics.jsonl")
    path.write_text('{"update": 10}\n{"update": 20}\n')
    assert len(tail.read()) == 2
    disk.write_text(path, '{"update": 10}\n{"update": 15}\n{"update": 25}\n')
    assert [entry["update"] for entry in tail.read()] == [10, 15, 25]


def test_values_are_all_numbers_of_a_line() -> None:
    line = json.loads('{"update": 10, "total": 20, "skipped": 0, "loss": 0.1, "validation": null}')
    found = list(values_of(line, line["update"]))
    assert found == [Value("skipped", 10, "0.0"), Value("loss", 10, "0.1"), Value("validation", 10, "nan")]
    assert math.isnan(float(found[2].number)) and found[2] == Value("validation", 10, repr(float("nan")))


def test_record_keeps_its_identity_through_jobs(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    begin_record(run, {**PLAN, "id": "parent", "name": "eight seeds"})
    first = read_record(run)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "20")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    begin_record(run, {**PLAN, "id": "another", "name": "again"})
    second = read_record(run)
    assert first["id"] == second["id"] and second["parent"] == "parent" and second["jobs"] == ["17", "20_3"]
    begin_record(run, PLAN)  # queued again
    assert read_record(run)["jobs"] == ["17", "20_3"]
    assert tags_of(run, second)["slurm_job_ids"] == "17 20_3"
    assert tags_of(run, second)["data_sha256"] == disk.sha256_of(run.parent / "table.parquet")
    assert name_of(run, second) == "seed 4"
    assert name_of(run, second | {"parent": None}) == "run"


def test_params_are_the_resolved_preset(run: Path) -> None:
    params = params_of(run)
    assert (params["preset"], params["seed"], params["network.width"]) == ("hg3", "4", "16")
    assert params["sampling.solver"] == "dpm++"  # a default, which nobody wrote


def test_only_public_files_are_given_away(run: Path, tmp_path: Path) -> None:
    begin_record(run, PLAN)
    for name in ("manifest.json", "report.html", "metrics.json", "private-notes.txt"):
        (tmp_path / name).write_text("{}")
    noted = change_record(run, attached=[str(tmp_path)])
    place = tmp_path.name
    assert set(files_of(run, noted)) == {
        "config.toml", "loss.png", f"{place}/manifest.json", f"{place}/report.html", f"{place}/metrics.json",
    }  # fmt: skip
    private = json.loads((run / "private.json").read_text())
    assert {"encoder.json", "split.json", "checkpoints/"} <= private.keys()
    assert not {"encoder.json", "split.json"} & set(record.RUN_FILES)


def test_changes_of_many_threads_are_all_kept(run: Path) -> None:
    begin_record(run, PLAN)
    threads = [threading.Thread(target=change_record, args=(run,), kwargs={f"key{i}": i}) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [read_record(run)[f"key{i}"] for i in range(8)] == list(range(8))


def test_altered_or_newer_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no tracking\.json, so it is not a tracked run"):
        read_record(tmp_path)
    (tmp_path / "tracking.json").write_text('{"format": 2}')
    with pytest.raises(RunError, match="is altered or of a newer hg3"):
        read_record(tmp_path)


def test_commit_is_that_of_the_container_or_of_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HG3_COMMIT", "a" * 40)
    monkeypatch.setenv("HG3_CONTAINER_DIGEST", "sha256:" + "b" * 64)
    tags = record.environment_tags()
    assert (tags["mlflow.source.git.commit"], tags["container_digest"]) == ("a" * 40, "sha256:" + "b" * 64)


def test_private_run_has_no_hash_of_its_table(run: Path, tmp_path: Path) -> None:
    told = {"id": "1", "tags": {}, "jobs": []}
    assert "data_sha256" in tags_of(run, told)
    preset = load_preset("hg3", {"privacy.epsilon": "8", "encoding.scaling": "standard"})
    (tmp_path / "config.toml").write_text(preset.to_toml(), encoding="utf-8")
    (tmp_path / "split.json").write_text((run / "split.json").read_text(encoding="utf-8"), encoding="utf-8")
    assert "data_sha256" not in tags_of(tmp_path, told)
