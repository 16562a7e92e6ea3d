"""Spoilt tables, schemas, presets, checkpoints and releases: status 0 or 2, one sentence, nothing half-made, no leak.

Each example spoils one file of a good folder in one of the ways of `mutations.py`, and no two leave the same bytes.
HG3_MUTATIONS names a file to which each one tried and what it got is written, a line of JSON each.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from hg3.disk import TEMPORARY_PREFIX, sha256_of
from tests import runs
from tests.mutations import CANARY, mutate, mutations_of
from tests.runs import Ended, options
from tests.table.cases import make_table

one_thread, command = runs.one_thread, runs.command
Command = Callable[..., Ended]

SECRET = 4711.123456  # of one patient, in a column of numbers: a sentence that shows it leaks
SEEDS = st.integers(0, 2**32 - 1)
SENTENCE = re.compile(r"hg3: [^\n]{20,}\n")
FINDINGS = re.compile(r"^- (.*)\n", re.MULTILINE)  # of a table that does not fit its schema
WARNINGS = re.compile(r"^hg3: warning: .*\n", re.MULTILINE)


EXAMPLES = {"table": 150, "table to train on": 30, "schema": 130, "preset": 90, "run": 100, "release": 120}
TRIED: dict[str, set[tuple[str, str]]] = {kind: set() for kind in EXAMPLES}  # by kind, file and its spoilt bytes' sum


def fuzz(kind: str) -> settings:
    """Return settings of as many examples as the kind has, the same at each call; none is tried twice to shrink it."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]
    return settings(
        max_examples=EXAMPLES[kind],
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=checks,
        phases=[Phase.generate],
    )


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
    sentences, findings = WARNINGS.sub("", ended.err), FINDINGS.findall(ended.out)
    assert bool(SENTENCE.fullmatch(sentences)) == (ended.code == 2), said
    assert ("listed above" in sentences) == bool(findings) and all(len(finding) > 20 for finding in findings), said
    assert CANARY not in said.replace("surplus", "") and str(SECRET) not in said
    assert not [path for path in folder.rglob("*") if path.name.startswith(TEMPORARY_PREFIX)]
    if ended.code == 2:
        assert not any((folder / name).exists() for name in leftovers)
    if "HG3_MUTATIONS" in os.environ:
        got = " | ".join([sentences.strip(), *findings]).replace(str(folder), "") if ended.code else "accepted"
        with Path(os.environ["HG3_MUTATIONS"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps({**what, "status": ended.code, "got": got[:300]}) + "\n")


def spoil(kind: str, path: Path, data: st.DataObject, within: Path | None = None) -> dict[str, object]:
    """Spoil a file, of a folder `within`, in a way and by a seed that `data` draws; return what was done.

    What changes no byte, or leaves bytes that were tried, is not tried again.
    """
    name = data.draw(st.sampled_from(sorted(mutations_of(path))))
    seed = data.draw(SEEDS)
    file = path.name if within is None else str(path.relative_to(within))
    changed, spoilt = mutate(path, name, seed), (file, sha256_of(path))
    assume(changed and spoilt not in TRIED[kind])
    TRIED[kind].add(spoilt)
    return {"kind": kind, "file": file, "mutation": name, "seed": seed}


@fuzz("table")
@given(data=st.data())
def test_tables(data: st.DataObject, good: Path, spoilt: Callable[[str], Path], command: Command) -> None:
    table = spoilt("table.csv")
    what = spoil("table", table, data)
    ended = command("schema", "check", table, "--schema", good / "schema.toml")
    check(ended, table.parent, (), {**what, "verb": "schema check"})


@fuzz("table to train on")
@given(data=st.data())
def test_tables_to_train_on(data: st.DataObject, good: Path, spoilt: Callable[[str], Path], command: Command) -> None:
    table = spoilt("table.csv")
    what = spoil("table to train on", table, data)
    ended = train(command, table, good / "schema.toml", table.parent / "run", *options())
    check(ended, table.parent, ("run",), {**what, "verb": "train"})


@fuzz("schema")
@given(data=st.data())
def test_schemas(data: st.DataObject, good: Path, spoilt: Callable[[str], Path], command: Command) -> None:
    schema = spoilt("schema.toml")
    what = spoil("schema", schema, data)
    ended = command("schema", "check", good / "table.csv", "--schema", schema)
    check(ended, schema.parent, (), {**what, "verb": "schema check"})


@fuzz("preset")
@given(data=st.data())
def test_presets(data: st.DataObject, good: Path, spoilt: Callable[[str], Path], command: Command) -> None:
    """What is accepted is trained with, too: a preset may fit its own rules and no network."""
    preset = spoilt("preset.toml")
    what = spoil("preset", preset, data)
    ended = command("model", "describe", "--schema", good / "schema.toml", "--preset", preset, "--json")
    check(ended, preset.parent, (), {**what, "verb": "model describe"})
    if ended.code == 0:
        ended = train(command, good / "table.csv", good / "schema.toml", preset.parent / "run", "--preset", preset)
        check(ended, preset.parent, ("run",), {**what, "verb": "train"})


def train(command: Command, table: Path, schema: Path, out: Path, *more: object) -> Ended:
    return command("train", table, "--schema", schema, "--updates", 1, *more, "--out", out)


@fuzz("run")
@given(data=st.data())
def test_runs(data: st.DataObject, good: Path, spoilt: Callable[[str], Path], command: Command) -> None:
    """A spoilt checkpoint is refused, unless what was spoilt is not what the verb reads."""
    run = spoilt("run")
    path = data.draw(st.sampled_from(sorted(p for p in run.rglob("*") if p.is_file() and p.stat().st_size)))
    verb = data.draw(st.sampled_from(["generate", "train --resume", "release verify --recompute"]))
    what = spoil("run", path, data, run)
    wish = {
        "generate": ("generate", run, "--patients", 40, "--steps", 3, "--out", run.parent / "made"),
        "train --resume": ("train", good / "table.parquet", "--out", run, "--resume", "--updates", 4),
        "release verify --recompute": ("release", "verify", good / "release", "--recompute", 1, "--run", run),
    }[verb]
    ended = command(*wish)
    check(ended, run.parent, ("made",), {**what, "verb": verb})
    assert not ("checkpoints" in path.relative_to(run).parts and ended.code == 0)


@fuzz("release")
@given(data=st.data())
def test_releases(data: st.DataObject, good: Path, spoilt: Callable[[str], Path], command: Command) -> None:
    """Any altered byte is found, and what is exported is whole or absent."""
    release = spoilt("release")
    path = data.draw(st.sampled_from(sorted(p for p in release.rglob("*") if p.is_file())))
    what = spoil("release", path, data, release)
    verified = command("release", "verify", release)
    check(verified, release.parent, (), {**what, "verb": "release verify"})
    assert verified.code == 2
    exported = command("release", "export", release, "--csv", release.parent / "out.csv")
    check(exported, release.parent, ("out.csv",), {**what, "verb": "release export"})
    assert not (path.suffix == ".parquet" and exported.code == 0)


def test_five_hundred_were_tried() -> None:
    """Of all kinds that this session has tried, as many as were asked for, no two alike."""
    tried = {kind: len(found) for kind, found in TRIED.items() if found}
    assert all(n >= EXAMPLES[kind] for kind, n in tried.items())
    assert len(tried) < len(EXAMPLES) or sum(tried.values()) >= 500
