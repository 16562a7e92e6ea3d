"""The verb train: what it leaves, and what it refuses without leaving anything."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hg3.disk import TEMPORARY_PREFIX, read_json, sha256_of, write_json
from hg3.errors import ConfigError, Hg3Error, RunError, SchemaError, TableError, TrainingError
from hg3.training.checkpoint import best_checkpoint, checkpoints, read_recipe, read_state
from hg3.training.metrics import Metrics
from hg3.training.run import read_split, train
from hg3.training.trainer import Progress
from tests.table.cases import make_schema, make_table, tiny_columns
from tests.training.cases import N_PATIENTS, UPDATES, Inputs, at_update, make_inputs, tiny_train, weight_hashes


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_what_a_run_holds(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        ".lock",
        "checkpoints",
        "config.toml",
        "encoder.json",
        "loss.png",
        "metrics.jsonl",
        "private.json",
        "schema.toml",
        "split.json",
    }


def test_what_private_files_are_listed(finished: Path) -> None:
    listed = read_json(finished / "private.json", "a run")
    assert {"split.json", "encoder.json", "metrics.jsonl", "loss.png", "checkpoints/"} == set(listed)
    for name in listed:
        assert (finished / name).is_dir() if name.endswith("/") else (finished / name).is_file()


def test_the_split_divides_patients(finished: Path, inputs: Inputs) -> None:
    content = read_split(finished)
    parts = content["patients"]
    assert {part: len(ids) for part, ids in parts.items()} == {"train": 24, "validation": 6, "holdout": 10}
    everyone = pd.read_csv(inputs.table)["id"].unique()
    assert sorted(patient for ids in parts.values() for patient in ids) == sorted(everyone)
    assert content["table"] == {"path": str(inputs.table.resolve()), "sha256": sha256_of(inputs.table)}
    assert (content["format"], content["seed"]) == (1, 0)


def test_a_path_that_is_not_utf_8_is_refused_in_one_sentence(inputs: Inputs, tmp_path: Path) -> None:
    table = tmp_path / os.fsdecode(b"t\xff.csv")
    table.write_bytes(inputs.table.read_bytes())
    with pytest.raises(TableError, match=r"path '.*t\\udcff\.csv' is not UTF-8, and a run keeps it; rename") as caught:
        tiny_train(Inputs(table, inputs.schema), tmp_path / "run", updates=1)
    str(caught.value).encode()
    assert [path.name for path in tmp_path.iterdir()] == [table.name]


def test_a_kill_before_the_run_is_there_leaves_nothing_for_good(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed() -> None:
        monkeypatch.setattr(os, "replace", strike_at_the_run)
        tiny_train(inputs, tmp_path / "run", updates=1)

    def strike_at_the_run(old: Path, new: Path) -> None:
        if new == tmp_path / "run":
            os.kill(os.getpid(), signal.SIGKILL)
        os.rename(old, new)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert (left / "split.json").is_file() and left.name.startswith(TEMPORARY_PREFIX)
    tiny_train(inputs, tmp_path / "run", updates=1)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_another_seed_splits_otherwise(inputs: Inputs, finished: Path, tmp_path: Path) -> None:
    tiny_train(inputs, tmp_path / "run", updates=1, seed=3)
    assert read_split(tmp_path / "run")["seed"] == 3
    assert read_split(tmp_path / "run")["patients"] != read_split(finished)["patients"]


def test_fitting_sees_training_patients_alone(finished: Path, tmp_path: Path) -> None:
    table = make_table(N_PATIENTS)
    others = ~table["id"].isin(read_split(finished)["patients"]["train"])
    for name in ("VL", "CD4", "height"):
        table.loc[others, name] = 4321.0
    table.loc[others, "stage"] = "mild"
    tiny_train(make_inputs(tmp_path, table), tmp_path / "run", updates=1)
    assert sha256_of(tmp_path / "run" / "encoder.json") == sha256_of(finished / "encoder.json")
    (tmp_path / "other").mkdir()
    table.loc[table["id"] == table["id"][~others].iloc[0], "VL"] = 4321.0  # one training patient
    tiny_train(make_inputs(tmp_path / "other", table), tmp_path / "other" / "run", updates=1)
    assert sha256_of(tmp_path / "other" / "run" / "encoder.json") != sha256_of(finished / "encoder.json")


def test_the_recipe_is_the_one_asked_for(finished: Path, inputs: Inputs) -> None:
    recipe = read_recipe(finished)
    assert recipe.preset.network.width == 8 and recipe.preset.training.batch == 8
    assert recipe.schema.name == "tiny"


def test_metrics_are_lines_of_json(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == [10, 20, 30]
    for line in lines:
        assert {"loss", "gradient_norm", "learning_rate", "skipped", "total", "validation"} <= line.keys()
    assert lines[-1]["validation"] == read_state(checkpoints(finished)[-1])["validation"]


class Standing:
    """As much of a training's progress as metrics look at."""

    def __init__(self, update: int) -> None:
        self.update = update


def test_metrics_keep_every_tenth_update_and_every_validation(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl", Standing(0))  # type: ignore[arg-type]
    for update in range(1, 25):
        entry: dict[str, Any] = {"update": update, "loss": float("nan" if update == 10 else "inf")}
        metrics.add(entry | ({"validation": 1.0} if update == 13 else {}))
    metrics.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail)["update"] for line in lines] == [10, 13, 20]
    assert [json.loads(line)["loss"] for line in lines] == [None, None, None]


def test_metrics_drop_lines_that_a_bad_disk_has_altered(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"update": 10}\n{"upd\xffte": 12}\n{"update" 14}\n{"update": "x"}\n{}\n{"update": 20}\n')
    Metrics(path, Standing(20)).close()  # type: ignore[arg-type]
    assert path.read_text() == '{"update": 10}\n{"update": 20}\n'


def test_metrics_drop_what_will_be_repeated_and_a_line_cut_by_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"update": {u}}}\n' for u in (10, 20, 30)) + '{"update": 4')
    metrics = Metrics(path, Standing(20))  # type: ignore[arg-type]
    metrics.add({"update": 30})
    metrics.close()
    assert [json.loads(line)["update"] for line in path.read_text().splitlines()] == [10, 20, 30]


def test_the_loss_curve_is_a_picture(finished: Path) -> None:
    content = (finished / "loss.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) > 5_000


def test_the_shortest_run_has_its_picture_too(inputs: Inputs, tmp_path: Path) -> None:
    assert tiny_train(inputs, tmp_path / "run", updates=1)
    assert (tmp_path / "run" / "loss.png").stat().st_size > 5_000


def test_parquet_gives_the_same_run_as_csv(inputs: Inputs, finished: Path, tmp_path: Path) -> None:
    make_table(N_PATIENTS).to_parquet(tmp_path / "table.parquet")
    tiny_train(Inputs(tmp_path / "table.parquet", inputs.schema), tmp_path / "run")
    assert weight_hashes(checkpoints(tmp_path / "run")[-1]) == weight_hashes(checkpoints(finished)[-1])


def test_an_empty_folder_will_do_and_becomes_private(inputs: Inputs, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    tiny_train(inputs, tmp_path / "run", updates=1)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


def test_warnings_are_told(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, make_table(N_PATIENTS).assign(drug=3))
    warnings: list[str] = []
    tiny_train(inputs, tmp_path / "run", updates=1, warn=warnings.append)
    assert any("'drug' has one value only" in sentence for sentence in warnings)


BAD_FRESH_RUNS: list[tuple[dict[str, Any], type[Hg3Error], str]] = [
    ({"updates": None}, ConfigError, "give one of updates and minutes"),
    ({"minutes": 1.0}, ConfigError, "updates and minutes were both given"),
    ({"updates": 0}, ConfigError, "0 updates were asked for"),
    ({"updates": None, "minutes": 0.0}, ConfigError, "0.0 minutes were asked for"),
    ({"updates": None, "minutes": float("nan")}, ConfigError, "nan minutes were asked for"),
    ({"seed": -1}, ConfigError, "seed -1 was given"),
    ({"seed": 2**63}, ConfigError, "a whole number from 0"),
    ({"changes": {"training.batch": "25"}}, TableError, "24 patients and a batch takes 25; lower it, .*batch=6"),
    ({"changes": {"training.batches": "25"}}, ConfigError, "knows no key 'training.batches'"),
    ({"changes": {"network.width": "no"}}, ConfigError, "network.width"),
    ({"changes": {"schedule.steps": "2", "sampling.steps": "2"}}, ConfigError, "the schedule ends at alpha_bar"),
    (
        {"changes": {"schedule.kind": "linear", "schedule.beta_first": "1e-300", "schedule.beta_last": "0.9"}},
        ConfigError,
        "the schedule begins with a noise variance of 0",
    ),
    ({"preset": "none"}, ConfigError, "neither a shipped preset"),
]


@pytest.mark.parametrize(("arguments", "error", "sentence"), BAD_FRESH_RUNS, ids=lambda a: str(a)[:40])
def test_bad_arguments_leave_nothing(
    arguments: dict[str, Any], error: type[Hg3Error], sentence: str, inputs: Inputs, tmp_path: Path
) -> None:
    with pytest.raises(error, match=sentence):
        tiny_train(inputs, tmp_path / "deep" / "run", **arguments)
    assert files_of(tmp_path) == set()


def without_cd4(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns="CD4")


def twice(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table.head(3)])


def few(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["id"] < 105]


def with_text(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(CD4="high")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (without_cd4, "lacks 1 of the 9 columns"),
        (twice, r"3 rows repeat a pair"),
        (few, "5 patients"),
        (with_text, "text or dates, not numbers"),
        (lambda table: table.head(0), "no rows"),
    ],
)
def test_bad_tables_leave_nothing(spoil: Callable[[pd.DataFrame], pd.DataFrame], sentence: str, tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, spoil(make_table(N_PATIENTS)))
    before = files_of(tmp_path)
    with pytest.raises(TableError, match=sentence):
        tiny_train(inputs, tmp_path / "run")
    assert files_of(tmp_path) == before


def test_no_schema_no_table(inputs: Inputs, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match="a fresh run needs a schema"):
        train(inputs.table, out, updates=1)
    with pytest.raises(SchemaError, match="neither a shipped schema"):
        train(inputs.table, out, "none", updates=1)
    with pytest.raises(TableError, match="there is no table at"):
        train(tmp_path / "none.csv", out, inputs.schema, updates=1)
    assert files_of(tmp_path) == set()


def test_a_folder_with_something_in_it_is_left_alone(inputs: Inputs, finished: Path, tmp_path: Path) -> None:
    before = {name: sha256_of(finished / name) for name in files_of(finished) if (finished / name).is_file()}
    with pytest.raises(RunError, match=r"is there already and not empty; choose another folder, or .*--resume"):
        tiny_train(inputs, finished)
    assert before == {name: sha256_of(finished / name) for name in files_of(finished) if (finished / name).is_file()}
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="not empty"):
        tiny_train(inputs, tmp_path / "file")


def test_a_full_disk_leaves_no_half_run(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("hg3.disk.write_json", full)
        with pytest.raises(OSError, match="No space"):
            tiny_train(inputs, tmp_path / "run", updates=1)
    assert files_of(tmp_path) == set()
    assert tiny_train(inputs, tmp_path / "run", updates=1)


def test_a_full_disk_at_a_checkpoint_loses_no_line_for_good(
    inputs: Inputs, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Metrics.add

    def full(metrics: Metrics, entry: dict[str, Any]) -> None:
        if entry["update"] == 20:
            raise OSError(28, "No space left on device")
        add(metrics, entry)

    with monkeypatch.context() as patch:
        patch.setattr(Metrics, "add", full)
        with pytest.raises(OSError, match="No space"):
            tiny_train(inputs, tmp_path / "run")
    assert checkpoints(tmp_path / "run")[-1].name == "step-000010"
    assert train(inputs.table, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()


def test_metrics_are_on_the_disk_when_they_are_secured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, str]] = []
    with closing(Metrics(tmp_path / "metrics.jsonl", Progress())) as metrics:
        path = tmp_path / "metrics.jsonl"
        monkeypatch.setattr(os, "fsync", lambda handle: synced.append((os.fstat(handle).st_ino, path.read_text())))
        metrics.add({"update": 10, "loss": 1.0})
        assert synced == []
        metrics.secure()
    assert synced == [(path.stat().st_ino, path.read_text())] and "10" in path.read_text()


HOLDER = """
import fcntl, sys
with open(sys.argv[1], "a") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold the lock on `path` in another process while the block runs."""
    program = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        try:
            yield holder
        finally:
            holder.send_signal(signal.SIGKILL)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_folder_in_use_is_refused_until_its_holder_is_gone(run: Path, inputs: Inputs) -> None:
    with held_by_another_process(run / ".lock"), pytest.raises(RunError, match="in use by another hg3 process"):
        train(inputs.table, run, resume=True)
    assert train(inputs.table, run, resume=True)


def test_a_finished_run_stays_as_it_is(run: Path, inputs: Inputs, finished: Path) -> None:
    entries: list[dict[str, Any]] = []
    assert train(inputs.table, run, resume=True, report=entries.append)
    assert entries == []
    assert weight_hashes(checkpoints(run)[-1]) == weight_hashes(checkpoints(finished)[-1])
    assert (run / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()


def test_a_resume_goes_on_where_it_was(run: Path, inputs: Inputs) -> None:
    entries: list[dict[str, Any]] = []
    train(inputs.table, run, resume=True, updates=UPDATES + 12, report=entries.append)
    assert [entry["update"] for entry in entries] == list(range(UPDATES + 1, UPDATES + 13))
    lines = [json.loads(line)["update"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines == [10, 20, 30, 40, 42]


def test_a_moved_table_is_the_same_table(run: Path, inputs: Inputs, tmp_path: Path) -> None:
    moved = shutil.copy(inputs.table, tmp_path / "moved.csv")
    assert train(moved, run, inputs.schema, resume=True)


def test_another_table_is_refused(run: Path, inputs: Inputs, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_bytes(inputs.table.read_bytes() + b"\n")
    with pytest.raises(RunError, match=r"is not the table that .* was made from: its SHA-256 differs"):
        train(other, run, resume=True)
    with pytest.raises(TableError, match="there is no table at"):
        train(tmp_path / "none.csv", run, resume=True)


def test_other_patients_are_refused(run: Path, inputs: Inputs) -> None:
    split = read_split(run)
    split["patients"]["holdout"].pop()
    write_json(run / "split.json", split)
    with pytest.raises(TableError, match="40 patients and the run's split lists 39"):
        train(inputs.table, run, resume=True)


def test_another_preset_or_seed_is_refused(run: Path, inputs: Inputs) -> None:
    with pytest.raises(RunError, match="was made with preset 'hg3', not 'health-gym-v3'; resume without a preset"):
        train(inputs.table, run, preset="health-gym-v3", resume=True)
    with pytest.raises(RunError, match="was made with seed 0, not 1; resume without a seed"):
        train(inputs.table, run, seed=1, resume=True)
    assert train(inputs.table, run, preset="hg3", seed=0, resume=True)


def test_another_schema_is_refused(run: Path, inputs: Inputs, tmp_path: Path) -> None:
    other = make_inputs(tmp_path, schema=make_schema(tiny_columns()[:-1], name="tiny", ignore=["stage"])).schema
    with pytest.raises(RunError, match="made for another schema"):
        train(inputs.table, run, other, resume=True)


def test_a_resume_to_fewer_updates_than_were_made_is_refused(run: Path, inputs: Inputs) -> None:
    made = read_state(checkpoints(run)[-1])["update"]
    with pytest.raises(ConfigError, match=f"has made {made} updates already and 1 were asked for"):
        train(inputs.table, run, updates=1, resume=True)


def test_only_keys_of_training_change_on_a_resume(run: Path, inputs: Inputs) -> None:
    with pytest.raises(ConfigError, match=r"keeps its own network\.width; .* only training\.\* can change"):
        train(inputs.table, run, changes={"network.width": "16", "training.clip": "2"}, resume=True)
    with pytest.raises(TableError, match="a batch takes 25"):
        train(inputs.table, run, changes={"training.batch": "25"}, resume=True)
    train(inputs.table, run, changes={"training.learning_rate": "0.5"}, resume=True, updates=UPDATES + 1)
    assert read_recipe(checkpoints(run)[-1]).preset.training.learning_rate == 0.5
    rates: list[float] = []
    train(inputs.table, run, resume=True, updates=UPDATES + 50, report=lambda e: rates.append(e["learning_rate"]))
    assert rates[0] > 0.01  # it lasts


def test_no_run_is_no_run(inputs: Inputs, tmp_path: Path) -> None:
    for out in (tmp_path / "absent", tmp_path):
        with pytest.raises(RunError, match=r"not a run of hg3: it holds no config\.toml"):
            train(inputs.table, out, resume=True)
    assert files_of(tmp_path) == set()


def test_a_run_without_a_checkpoint_needs_its_length(run: Path, inputs: Inputs, finished: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ConfigError, match="has no checkpoint that fixes its length; give updates or minutes"):
        train(inputs.table, run, resume=True)
    assert train(inputs.table, run, resume=True, updates=UPDATES)
    assert weight_hashes(checkpoints(run)[-1]) == weight_hashes(checkpoints(finished)[-1])
    assert (run / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()


def test_a_damaged_checkpoint_is_refused(run: Path, inputs: Inputs) -> None:
    (checkpoints(run)[-1] / "ema.safetensors").write_bytes(b"short")
    with pytest.raises(RunError, match=r"ema\.safetensors is truncated or altered"):
        train(inputs.table, run, resume=True, updates=UPDATES + 1)


@pytest.fixture
def stopped(inputs: Inputs, tmp_path: Path) -> Path:
    """A run that was stopped at update 23: it has a best checkpoint, and a last one that is another."""
    report = at_update(23, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert not tiny_train(inputs, tmp_path / "stopped", report=report)
    assert [path.name for path in checkpoints(tmp_path / "stopped")][1:] == ["step-000023"]
    return tmp_path / "stopped"


@pytest.mark.parametrize("place", [0, 1], ids=["the best", "the last"])
@pytest.mark.parametrize("name", ["ema.safetensors", "state.json"])
def test_a_run_goes_on_from_its_last_sound_checkpoint(
    name: str, place: int, stopped: Path, inputs: Inputs, finished: Path
) -> None:
    found, warnings, entries = checkpoints(stopped), list[str](), list[int]()
    (found[place] / name).write_bytes(b"short")
    went_on = read_state(found[1 - place])["update"]

    def report(entry: dict[str, Any]) -> None:
        entries.append(entry["update"])

    assert train(inputs.table, stopped, resume=True, warn=warnings.append, report=report)
    aside = f"damaged-{found[place].name}"
    sentence = f"; {found[place].name} is now called {aside}, and the run goes on from {found[1 - place].name}"
    assert len(warnings) == 1 and warnings[0].endswith(sentence) and f"{found[place] / name} is " in warnings[0]
    assert entries == list(range(went_on + 1, UPDATES + 1))
    assert (stopped / "checkpoints" / aside / name).read_bytes() == b"short"
    assert weight_hashes(checkpoints(stopped)[-1]) == weight_hashes(checkpoints(finished)[-1])
    assert (stopped / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()
    assert best_checkpoint(stopped) in checkpoints(stopped)


def test_no_checkpoint_is_set_aside_where_none_is_sound(stopped: Path, inputs: Inputs) -> None:
    before = files_of(stopped)
    for path in checkpoints(stopped):
        (path / "ema.safetensors").write_bytes(b"short")
    with pytest.raises(RunError, match=r"step-000023/ema\.safetensors is truncated or altered"):
        train(inputs.table, stopped, resume=True)
    assert files_of(stopped) == before


def test_a_checkpoint_of_a_newer_hg3_is_not_damaged(stopped: Path, inputs: Inputs) -> None:
    before, path = files_of(stopped), checkpoints(stopped)[-1] / "state.json"
    write_json(path, {**read_json(path, "a checkpoint"), "format": 2})
    with pytest.raises(RunError, match="has format 2 and this hg3 reads up to 1; update hg3"):
        train(inputs.table, stopped, resume=True)
    assert files_of(stopped) == before


def test_a_checkpoint_that_was_set_aside_before_makes_room(stopped: Path, inputs: Inputs, finished: Path) -> None:
    last = checkpoints(stopped)[-1]
    shutil.copytree(last, last.with_name(f"damaged-{last.name}"))
    (last / "ema.safetensors").write_bytes(b"short")
    assert train(inputs.table, stopped, resume=True)
    assert weight_hashes(checkpoints(stopped)[-1]) == weight_hashes(checkpoints(finished)[-1])


def test_the_checkpoint_counts_not_the_texts_beside_it(run: Path, inputs: Inputs) -> None:
    content = read_json(run / "encoder.json", "a run")
    content["layout"]["length"] = 5
    write_json(run / "encoder.json", content)
    assert train(inputs.table, run, resume=True, updates=UPDATES + 1)
    assert read_recipe(checkpoints(run)[-1]).encoder.layout.length == 6


@pytest.mark.parametrize("content", [[], {"format": 1}, {"format": 2, "table": {}, "patients": {}, "seed": 0}])
def test_a_split_that_is_none_is_refused(content: Any, run: Path, inputs: Inputs) -> None:
    write_json(run / "split.json", content)
    with pytest.raises(RunError, match=r"split\.json is altered|has format 2 and this hg3 reads 1; update hg3"):
        train(inputs.table, run, resume=True)


def test_a_training_that_learnt_nothing_is_no_success(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no validation loss was finite in 3 updates, so nothing was learnt"):
        tiny_train(inputs, tmp_path / "run", updates=3, changes={"training.learning_rate": "1e300"})
    assert checkpoints(tmp_path / "run") == []
