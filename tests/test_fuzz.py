"""Spoilt tables, schemas, presets, checkpoints and releases: status 0 or 2, one sentence, nothing half-made, no leak.

Each example spoils one file of a good folder in one of the ways of `mutations.py`. HG3_MUTATIONS names a file to
which each one tried and what it got is written, a line of JSON each.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hg3.disk import TEMPORARY_PREFIX
from tests import runs
from tests.mutations import CANARY, mutate, mutations_of
from tests.runs import Ended, file_bytes, options
from tests.table.cases import make_table

one_thread, command = runs.one_thread, runs.command
Command = Callable[..., Ended]

SECRET = 4711.123456  # of one patient, in a column of numbers: a sentence that shows it leaks
SEEDS = st.integers(0, 2**32 - 1)
SENTENCE = re.compile(r"hg3: [^\n]{20,}\n")
WARNINGS = re.compile(r"^hg3: warning: .*\n", re.MULTILINE)


def fuzz(n: int) -> settings:
    """Return settings of `n` examples, the same ones at each call."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=n, deadline=None, derandomize=True, database=None, suppress_health_check=checks)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with table.csv, schema.toml, preset.toml, run/ and release/, all of them whole."""
    folder = tmp_path_factory.mktemp("good")
    run = runs.make_run(folder)
    table = make_table(40)
    table.loc[7, "VL"] = SECRET
    table.to_csv(folder / "table.csv", index=False)
    shutil.copy(run / "config.toml", folder / "preset.toml")
    runs.make_release(run, folder / "release", 40)
    return folder


@pytest.fixture
def spoilt(good: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a fresh copy of a file or a folder of `good`."""

    def copy(name: str) -> Path:
        for old in (*tmp_path.glob("*"), *tmp_path.glob(".*")):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        source, target = good / name, tmp_path / name
        return Path(shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target))

    return copy


def check(ended: Ended, folder: Path, leftovers: tuple[str, ...], what: dict[str, object]) -> None:
    """Assert what holds of every end; note it."""
    said = ended.out + ended.err
    assert ended.code in (0, 2), said
    assert "Traceback" not in said
    sentences = WARNINGS.sub("", ended.err)
    assert bool(SENTENCE.fullmatch(sentences)) == (ended.code == 2), said
    assert CANARY not in said.replace("surplus", "") and str(SECRET) not in said
    assert not [path for path in folder.rglob("*") if path.name.startswith(TEMPORARY_PREFIX)]
    if ended.code == 2:
        assert not any((folder / name).exists() for name in leftovers)
    if "HG3_MUTATIONS" in os.environ:
        got = sentences.strip().replace(str(folder), "") if ended.code else "accepted"
        with Path(os.environ["HG3_MUTATIONS"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps({**what, "status": ended.code, "got": got[:300]}) + "\n")


def spoil(path: Path, data: st.DataObject) -> dict[str, object]:
    """Spoil a file in a way and by a seed that `data` draws; return what was done."""
    name = data.draw(st.sampled_from(sorted(mutations_of(path))))
    seed = data.draw(SEEDS)
    changed = mutate(path, name, seed)
    return {"file": path.name, "mutation": name, "seed": seed, "changed": changed}


@fuzz(150)
@given(data=st.data())
def test_tables(data: st.DataObject, good: Path, spoilt: Callable[[str], Path], command: Command) -> None:
    table = spoilt("table.csv")
    what = spoil(table, data)
    check(command("schema", "check", table, "--schema", good / "schema.toml"), table.parent, (), what)


@fuzz(30)
@given(data=st.data())
def test_tables_to_train_on(data: st.DataObject, good: Path, spoilt: Callable[[str], Path], command: Command) -> None:
    table = spoilt("table.csv")
    what = spoil(table, data)
    ended = command(
        "train", table, "--schema", good / "schema.toml", "--updates", 1, *options(), "--out", table.parent / "run"
    )
    check(ended, table.parent, ("run",), {**what, "verb": "train"})


@fuzz(130)
@given(data=st.data())
def test_schemas(data: st.DataObject, good: Path, spoilt: Callable[[str], Path], command: Command) -> None:
    schema = spoilt("schema.toml")
    what = spoil(schema, data)
    check(command("schema", "check", good / "table.csv", "--schema", schema), schema.parent, (), what)


@fuzz(90)
@given(data=st.data())
def test_presets(data: st.DataObject, good: Path, spoilt: Callable[[str], Path], command: Command) -> None:
    preset = spoilt("preset.toml")
    what = spoil(preset, data)
    ended = command("model", "describe", "--schema", good / "schema.toml", "--preset", preset, "--json")
    check(ended, preset.parent, (), what)


@fuzz(100)
@given(data=st.data())
def test_checkpoints(data: st.DataObject, good: Path, spoilt: Callable[[str], Path], command: Command) -> None:
    """A spoilt checkpoint is refused, unless what was spoilt is not what a release is made of."""
    run = spoilt("run")
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size)
    path = data.draw(st.sampled_from(files))
    what = spoil(path, data)
    release = run.parent / "made"
    ended = command("generate", run, "--patients", 40, "--steps", 3, "--out", release)
    check(ended, run.parent, ("made",), what)
    inside = "checkpoints" in path.relative_to(run).parts
    assert not (inside and what["changed"] and ended.code == 0)


@fuzz(120)
@given(data=st.data())
def test_releases(data: st.DataObject, good: Path, spoilt: Callable[[str], Path], command: Command) -> None:
    """Any altered byte of what the sums cover is found, and what is exported is whole or absent."""
    release = spoilt("release")
    files = sorted(path for path in release.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    what = spoil(path, data)
    verified = command("release", "verify", release)
    check(verified, release.parent, (), {**what, "verb": "verify"})
    if path.name != "provenance.json":
        assert (verified.code == 2) == what["changed"]
    exported = command("release", "export", release, "--csv", release.parent / "out.csv")
    check(exported, release.parent, ("out.csv",), {**what, "verb": "export"})
    if what["changed"] and path.suffix == ".parquet":
        assert exported.code == 2
    if not what["changed"]:
        assert file_bytes(release) == file_bytes(good / "release")
