"""A release is a pure function of its plan: whatever the shards, their order, kills and restarts."""

import dataclasses
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from hg3 import disk
from hg3.errors import ConfigError, Hg3Error, ReleaseError, RunError
from hg3.release import making, writer
from hg3.release import plan as plan_module
from hg3.release.load import load
from hg3.release.making import PLAN
from hg3.release.manifest import INCOMPLETE, SUMS
from hg3.release.recompute import agreeing_share
from hg3.release.verify import verify_release
from hg3.release.writer import generate
from hg3.sampling.compiled import compiler
from tests import runs
from tests.runs import SIZES, file_bytes, make_release, make_run, manifest_of, run_python

one_thread = runs.one_thread
PATIENTS = 250  # 8 parts of 32, the last one of 26


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def whole(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a release of PATIENTS patients, made by one call."""
    return file_bytes(make_release(run, tmp_path_factory.mktemp("whole") / "release", PATIENTS))


def shuffled(n_shards: int, seed: int) -> list[tuple[int, int]]:
    shards = [(i, n_shards) for i in range(1, n_shards + 1)]
    random.Random(seed).shuffle(shards)
    return shards


@pytest.mark.parametrize(
    "shards",
    [[(1, 2), (2, 2)], [(2, 2), (1, 2)], [(i, 7) for i in range(1, 8)], shuffled(7, 1), shuffled(7, 2)],
    ids=lambda shards: " ".join(f"{i}/{n}" for i, n in shards),
)
def test_shards_in_any_order_make_the_same_bytes(
    run: Path, whole: dict[str, bytes], tmp_path: Path, shards: list[tuple[int, int]]
) -> None:
    complete = [generate(run, tmp_path / "r", PATIENTS, shard=shard, **SIZES) for shard in shards]
    assert complete == [False] * (len(shards) - 1) + [True]
    assert file_bytes(tmp_path / "r") == whole
    assert len(manifest_of(tmp_path / "r")["parts"]) == 8


def test_more_shards_than_parts(run: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    for index in range(11, 0, -1):
        generate(run, tmp_path / "r", PATIENTS, shard=(index, 11), **SIZES)
    assert file_bytes(tmp_path / "r") == whole


def test_shards_of_another_number_go_on(run: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    assert not generate(run, tmp_path / "r", PATIENTS, shard=(3, 7), **SIZES)
    assert not generate(run, tmp_path / "r", PATIENTS, shard=(2, 2), **SIZES)
    assert generate(run, tmp_path / "r", PATIENTS, **SIZES)
    assert file_bytes(tmp_path / "r") == whole


def test_threads_do_not_count(run: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    torch.set_num_threads(3)
    try:
        make_release(run, tmp_path / "r", PATIENTS)
    finally:
        torch.set_num_threads(1)
    assert file_bytes(tmp_path / "r") == whole


def test_300_patients_are_a_prefix_of_1000(run: Path, tmp_path: Path) -> None:
    sizes = {**SIZES, "block_patients": 64}
    fewer, more = (make_release(run, tmp_path / str(n), n, **sizes) for n in (300, 1000))
    assert len(manifest_of(more)["parts"]) == 8
    for name in ("data/part-00000.parquet", "data/part-00001.parquet"):
        assert (fewer / name).read_bytes() == (more / name).read_bytes()
    cut, full = (pq.read_table(release / "data" / "part-00002.parquet") for release in (fewer, more))
    assert cut["id"][-1].as_py() == 299
    assert full["id"][-1].as_py() == 383
    assert cut.equals(full.slice(0, cut.num_rows))


def test_another_seed_gives_other_patients(run: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    other = file_bytes(make_release(run, tmp_path / "r", PATIENTS, seed=1))
    assert all(other[name] != whole[name] for name in whole if name.startswith("data/"))
    assert other["schema.toml"] == whole["schema.toml"]


def test_solver_and_steps_are_the_presets_where_none_are_given(run: Path, tmp_path: Path) -> None:
    make_release(run, tmp_path / "r", 3, steps=None)
    sampler = manifest_of(tmp_path / "r")["sampler"]
    assert (sampler["solver"], sampler["steps"], len(sampler["rows"]), len(sampler["times"])) == ("dpm++", 20, 20, 20)


def test_finished_release_is_clean(run: Path, tmp_path: Path) -> None:
    release = make_release(run, tmp_path / "r", 40)
    names = {str(path.relative_to(release)) for path in release.rglob("*")}
    assert names == {
        *("CARD.md", "SHA256SUMS", "croissant.json", "dictionary.csv", "manifest.json", "schema.toml"),
        *("provenance.json", "data", "data/part-00000.parquet", "data/part-00001.parquet"),
    }
    assert [entry["patients"] for entry in manifest_of(release)["parts"]] == [32, 8]
    assert manifest_of(release)["rows"] == len(load(release))
    assert set(load(release)["id"]) == set(range(40))


def test_second_call_does_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = make_release(run, tmp_path / "r", 40)
    before = {path: path.stat().st_mtime_ns for path in release.rglob("*")}
    monkeypatch.setattr(writer, "make_block", lambda *_: pytest.fail("computed again"))
    assert generate(run, release, 40, **SIZES)
    assert {path: path.stat().st_mtime_ns for path in release.rglob("*")} == before


# Kills. One interpreter forks a process for each attempt, before torch has any threads.
FORKS = """
import os, random, shutil, signal, sys, time
from pathlib import Path
from hg3.release.share import generate_share
from hg3.release.writer import generate

CHANGES = {"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "tempfile.mkstemp"}
LOOKS = CHANGES | {"open", "os.listdir", "os.scandir"}

def make(verb, out, patients, shard):
    sizes = {"steps": 3, "block_patients": 16, "part_blocks": 2}
    if verb == "share":
        return generate_share(sys.argv[1], out, patients, task=(shard[0] - 1, shard[1]), **sizes)
    return generate(sys.argv[1], out, patients, shard=shard, **sizes)

def attempt(out, patients, shard=(1, 1), kill_before=None, verb="generate"):
    child = os.fork()
    if child:
        return child
    seen = 0
    def hook(event, _):
        nonlocal seen
        seen += event in CHANGES
        if seen == kill_before:
            os.kill(os.getpid(), signal.SIGKILL)
    if kill_before:
        sys.addaudithook(hook)
    try:
        make(verb, out, patients, shard)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)

def code(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

base = Path(sys.argv[2])
"""

KILL_BEFORE_EVERY_CHANGE = (
    FORKS
    + """
def moment(out):
    notes = out / "incomplete"
    if (out / "SHA256SUMS").exists():
        return "sums and plan" if (notes / "plan.json").exists() else "notes going" if notes.exists() else "whole"
    made, noted = ({path.stem for path in out.glob(files)} for files in ("data/part-*", "incomplete/part-*.json"))
    return "part without note" if made - noted else "other"

moments, verb = [], sys.argv[3]
for k in range(1, 1000):
    out = base / str(k)
    if code(attempt(out, 40, kill_before=k, verb=verb)) == 0:
        break
    marked = (out / "incomplete").exists() or (out / "SHA256SUMS").exists()
    assert marked or not out.exists() or not any(out.iterdir()), f"half a release without a mark after kill {k}"
    moments.append(moment(out))
    assert code(attempt(out, 40, verb=verb)) == 0, k
for found in moments:
    print(found)
"""
)

A_LATE_TASK = (
    FORKS
    + """
def late(out, verb, k):
    child = os.fork()
    if child:
        return child
    seen, look, left = 0, os.stat, {}

    def step(path):
        nonlocal seen
        if str(path).startswith(str(out)):
            seen += 1
            if seen == k:
                assert code(attempt(out, 40, shard=(2, 2))) == 0
                left.update(files(out))

    def stat(path, *more, **options):
        step(path)
        return look(path, *more, **options)

    os.stat = stat
    sys.addaudithook(lambda event, given: step(given[0]) if event in LOOKS else None)
    try:
        make(verb, out, 40, (1, 2))
    except BaseException as error:
        print(k, repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    if seen < k:
        os._exit(2)
    os._exit(3 * (verb == "generate" and any(made not in files(out).items() for made in left.items())))

def files(out):
    return {path: path.stat().st_mtime_ns for path in [*out.glob("data/part-*"), *out.glob("SHA256SUMS")]}

half, verb = base / "half", sys.argv[3]
assert code(attempt(half, 40, shard=(1, 2))) == 0
for k in range(1, 1000):
    shutil.copytree(half, base / str(k))
    status = code(late(base / str(k), verb, k))
    if status == 2:
        break
    assert status == 0, (k, status)
print(k - 1)
"""
)

KILL_AT_RANDOM = (
    FORKS
    + """
patients, out, chance = int(sys.argv[3]), base / "killed", random.Random(0)
started = time.perf_counter()
assert code(attempt(base / "timed", patients)) == 0
seconds, halfway = time.perf_counter() - started, 0
for _ in range(30):
    child = attempt(out, patients)
    time.sleep(seconds * chance.random() / 2)
    os.kill(child, signal.SIGKILL)
    killed = code(child) == -signal.SIGKILL
    halfway += killed and (out / "incomplete").exists() and any((out / "data").iterdir())
    if halfway == 3 or not killed:
        break
assert code(attempt(out, patients)) == 0
print(halfway)
"""
)

SHARDS_AT_ONCE = (
    FORKS
    + """
for k in range(4):
    children = [attempt(base / str(k), 90, shard=(i, 3)) for i in (1, 2, 3)]
    assert [code(child) for child in children] == [0, 0, 0]
"""
)


@pytest.mark.parametrize("verb", ["generate", pytest.param("share", marks=pytest.mark.slow)])
def test_kill_before_every_change_on_the_disk(verb: str, run: Path, tmp_path: Path) -> None:
    wanted = file_bytes(make_release(run, tmp_path / "whole", 40))
    moments = run_python(KILL_BEFORE_EVERY_CHANGE, run, tmp_path, verb).splitlines()
    assert len(moments) > 25
    assert {"part without note", "sums and plan", "notes going"} <= set(moments)
    for k in range(1, len(moments) + 2):
        assert file_bytes(tmp_path / str(k)) == wanted, k


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["generate", "share"])
def test_a_task_that_is_late_leaves_a_finished_release_alone(verb: str, run: Path, tmp_path: Path) -> None:
    """Between any two steps of a task on the disk, another one makes what is missing, and completes the release."""
    wanted = file_bytes(make_release(run, tmp_path / "whole", 40))
    n_steps = int(run_python(A_LATE_TASK, run, tmp_path, verb))
    assert n_steps > 15
    for k in range(1, n_steps + 1):
        assert file_bytes(tmp_path / str(k)) == wanted, k
        assert not (tmp_path / str(k) / INCOMPLETE).exists(), k


def remember(monkeypatch: pytest.MonkeyPatch, path: Path, there: bool, looks: int) -> list[bool]:
    """Answer so many looks at `path` as a node of NFS does that remembers it; return the answers that are left."""
    left = [there] * looks

    def remembering(look: Callable[[Path], bool]) -> Callable[[Path], bool]:
        return lambda looked_at: left.pop() if looked_at == path and left else look(looked_at)

    for name in ("exists", "is_file"):
        monkeypatch.setattr(Path, name, remembering(getattr(Path, name)))
    return left


@pytest.mark.parametrize("plan, sums", [(0, 1), (1, 1), (1, 2), (2, 2), (2, 5), (5, 2), (9, 9)])
def test_a_node_that_sees_late_that_a_release_is_complete_leaves_it_alone(
    plan: int, sums: int, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = make_release(run, tmp_path / "r", 40)
    before = {path: path.stat().st_mtime_ns for path in release.rglob("*")}
    monkeypatch.setattr(disk, "LOOK_EVERY_S", 0.01)
    with monkeypatch.context() as patched:
        patched.setattr(writer, "make_block", lambda *_: pytest.fail("computed again"))
        left = [
            remember(patched, release / INCOMPLETE / PLAN, True, plan),
            remember(patched, release / SUMS, False, sums),
        ]
        assert generate(run, release, 40, **SIZES)
        assert left == [[], []]
    assert {path: path.stat().st_mtime_ns for path in release.rglob("*")} == before


def test_the_plan_of_the_first_task_stays(run: Path, tmp_path: Path, elsewhere: pytest.MonkeyPatch) -> None:
    """Two kinds of machine begin at the same time: both find no plan, and the second one to write finds one."""
    release, write = tmp_path / "r", disk.write_new_json

    def late(path: Path, content: Any) -> bool:
        elsewhere.undo()
        assert not generate(run, release, 40, shard=(1, 2), **SIZES)
        return write(path, content)

    elsewhere.setattr(disk, "write_new_json", late)
    with pytest.raises(ReleaseError, match=r"was begun elsewhere: device is .*abacus.* instead of .*--mix"):
        generate(run, release, 40, shard=(2, 2), **SIZES)
    assert generate(run, release, 40, **SIZES)
    assert manifest_of(release)["device"]["model"] != "abacus" and manifest_of(release)["mixed"] == []


def test_no_note_is_open_when_the_notes_go(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS renames a file that is removed while it is open, so its folder would stay, and the release unfinished."""
    remove, opened = shutil.rmtree, list[str]()

    def look(path: Path, **options: Any) -> None:
        handles = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
        opened.extend(os.readlink(handle) for handle in handles if handle.is_symlink())
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", look)
    release = make_release(run, tmp_path / "r", 40)
    assert opened and not [name for name in opened if name.startswith(str(release))]


def test_what_the_system_leaves_beside_the_parts_has_no_sum(run: Path, tmp_path: Path) -> None:
    generate(run, tmp_path / "r", 40, shard=(1, 2), **SIZES)
    (tmp_path / "r" / "data" / ".nfs000000000001").write_text("removed while it was open")
    release = make_release(run, tmp_path / "r", 40)
    assert ".nfs" not in (release / "SHA256SUMS").read_text()
    (release / "data" / ".nfs000000000001").unlink()  # as the system does when it is closed
    verify_release(release)


def test_kills_at_random_moments(run: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    halfway = int(run_python(KILL_AT_RANDOM, run, tmp_path, PATIENTS))
    assert halfway >= 1  # so many kills came when some parts were there
    assert file_bytes(tmp_path / "killed") == whole


def test_shards_at_the_same_time(run: Path, tmp_path: Path) -> None:
    wanted = file_bytes(make_release(run, tmp_path / "whole", 90))
    run_python(SHARDS_AT_ONCE, run, tmp_path)
    for k in range(4):
        assert file_bytes(tmp_path / str(k)) == wanted


# The peak of one process after each of two releases; not by getrusage, which counts the forking process as well.
PEAKS = """
import sys
from pathlib import Path
from hg3.release.writer import generate
for patients in (500, 4000):
    assert generate(sys.argv[1], Path(sys.argv[2]) / str(patients), patients, steps=2, block_patients=64, part_blocks=2)
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(int(status["VmHWM"].split()[0]) / 1024)
"""
# 3,500 patients more are 27 MB more in model space and half of that as a table. What the allocators keep of freed
# blocks moves the peak by up to 3 MB.
MOST_GROWTH_MB = 8.0


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose records have 120 times, so that patients weigh something."""
    folder = tmp_path_factory.mktemp("long")
    runs.write_cohort(folder)
    schema = (folder / "schema.toml").read_text().replace("length = 6", "length = 120")
    (folder / "schema.toml").write_text(schema)
    runs.train(folder / "table.parquet", folder / "run", folder / "schema.toml", changes=runs.TINY, updates=2)
    return folder / "run"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_is_flat_in_the_number_of_patients(long_run: Path, tmp_path: Path) -> None:
    few, many = map(float, run_python(PEAKS, long_run, tmp_path).split())
    assert many - few < MOST_GROWTH_MB


class NanOnce(torch.nn.Module):
    """A network that returns NaN for one row of one of its calls."""

    def __init__(self, network: torch.nn.Module, call: int, row: int) -> None:
        super().__init__()
        self.network, self.call, self.row, self.calls = network, call, row, 0

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raw_static, raw_dynamic = self.network(*inputs)
        if self.calls == self.call:
            raw_dynamic[self.row, 0, 0] = torch.nan
        self.calls += 1
        return raw_static, raw_dynamic


def test_nan_is_refused_and_never_released(
    run: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = plan_module.open_source(run, torch.device("cpu"))
    broken = dataclasses.replace(source, network=NanOnce(source.network, call=3 * 5 + 1, row=7))
    release = tmp_path / "r"
    with monkeypatch.context() as patched:
        patched.setattr(making, "open_source", lambda *_: broken)
        with pytest.raises(ReleaseError, match=r"NaN or infinity for 1 patients \(87\), first at step 1; .* refused"):
            generate(run, release, PATIENTS, **SIZES)
    assert sorted(path.name for path in (release / "data").iterdir()) == ["part-00000.parquet", "part-00001.parquet"]
    assert not (release / "SHA256SUMS").exists()
    for refused in (load, verify_release):
        with pytest.raises(ReleaseError, match="complete"):
            refused(release)
    assert generate(run, release, PATIENTS, **SIZES)
    assert file_bytes(release) == whole


@pytest.fixture
def begun(run: Path, tmp_path: Path) -> Path:
    generate(run, tmp_path / "begun", 40, shard=(1, 2), **SIZES)
    return tmp_path / "begun"


@pytest.fixture
def finished(run: Path, tmp_path: Path) -> Path:
    return make_release(run, tmp_path / "finished", 40)


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


@pytest.mark.parametrize("folder", ["begun", "finished"], indirect=True)
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"steps": 4}, "sampler"),
        ({"solver": "ancestral"}, "sampler"),
        ({"patients": 41}, "patients"),
        ({"block_patients": 8}, "block"),
    ],
)
def test_another_release_in_the_folder_is_refused(run: Path, folder: Path, changes: dict[str, Any], named: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(ReleaseError, match=f"holds another release: {named} differ .* another folder"):
        generate(run, folder, **{"patients": 40, **SIZES, **changes})
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("folder", ["begun", "finished"], indirect=True)
def test_another_checkpoint_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = make_run(tmp_path_factory.mktemp("other"), updates=2, seed=1)
    with pytest.raises(ReleaseError, match="holds another release: checkpoint differ"):
        generate(other, folder, 40, **SIZES)


def test_kill_while_the_notes_are_removed(run: Path, finished: Path) -> None:
    """Kept notes of a finished release are not the beginning of another one."""
    wanted = file_bytes(finished)
    (finished / "incomplete").mkdir()
    (finished / "incomplete" / "part-00000.json").write_text("{}")
    with pytest.raises(ReleaseError, match="seed differ"):
        generate(run, finished, 40, seed=1, **SIZES)
    assert generate(run, finished, 40, **SIZES)
    assert file_bytes(finished) == wanted


@pytest.mark.parametrize("name", ["notes.txt", "data", "manifest.json"])
def test_foreign_folder_is_refused_and_kept(run: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    with pytest.raises(ReleaseError, match="is there already and holds something else; choose another folder"):
        generate(run, tmp_path / "mine", 4, **SIZES)
    assert [path.read_text() for path in (tmp_path / "mine").iterdir()] == ["mine"]


def test_file_in_place_of_the_folder_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ReleaseError, match="is there already and holds something else"):
        generate(run, tmp_path / "mine", 4, **SIZES)
    assert (tmp_path / "mine").read_text() == "mine"


def test_empty_folder_is_taken(run: Path, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    make_release(run, tmp_path / "r", 4)


def test_folder_in_use_is_refused(run: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    generate(run, tmp_path / "r", PATIENTS, shard=(1, 2), **SIZES)
    # The system counts a lock by the file opened, so that this is as good as another process's.
    with (
        disk.lock(tmp_path / "r" / "incomplete" / "shard-2-of-2.lock", "folder"),
        pytest.raises(RunError, match="in use by another hg3 process"),
    ):
        generate(run, tmp_path / "r", PATIENTS, shard=(2, 2), **SIZES)
    assert generate(run, tmp_path / "r", PATIENTS, shard=(2, 2), **SIZES)
    assert file_bytes(tmp_path / "r") == whole


def test_release_that_another_shard_completes_is_left_to_it(run: Path, begun: Path) -> None:
    with disk.lock(begun / "incomplete" / "complete.lock", "folder"):
        assert not generate(run, begun, 40, shard=(2, 2), **SIZES)
    assert generate(run, begun, 40, shard=(2, 2), **SIZES)


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_part_that_was_altered_in_the_making_is_made_anew(run: Path, begun: Path, harm: Callable[[Path], None]) -> None:
    harm(begun / "data" / "part-00000.parquet")
    assert generate(run, begun, 40, **SIZES)
    verify_release(begun)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"shard": (0, 3)}, "shard 0/3 was given; a shard is I/N with 1 <= I <= N"),
        ({"shard": (4, 3)}, "shard 4/3 was given"),
        ({"patients": 0}, "0 patients were asked for; a release holds 1 to 2"),
        ({"patients": 2**40 + 1}, "patients were asked for"),
        ({"seed": -1}, "seed -1 was given; a seed is a whole number from 0"),
        ({"seed": 2**63}, "seed 9223372036854775808 was given"),
        ({"solver": "euler"}, "'euler' is unknown; choose one of ancestral, ancestral-beta, ddim, dpm"),
        ({"solver": ""}, "'' is unknown"),
        ({"steps": 0}, "0 steps"),
        ({"steps": 21}, "21 steps"),
    ],
)
def test_impossible_wishes_leave_nothing(run: Path, tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        generate(run, tmp_path / "r", **{"patients": 4, **SIZES, **changes})
    assert not (tmp_path / "r").exists()


def test_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(Hg3Error, match="is not a run of hg3"):
        generate(tmp_path, tmp_path / "r", 4)
    assert not (tmp_path / "r").exists()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Another machine: the device model differs."""
    here = plan_module.environment
    with monkeypatch.context() as patched:
        patched.setattr(
            plan_module,
            "environment",
            lambda source: {**here(source), "device": {**here(source)["device"], "model": "abacus"}},
        )
        yield patched


def test_other_environment_needs_mix(run: Path, tmp_path: Path, elsewhere: pytest.MonkeyPatch) -> None:
    release = tmp_path / "r"
    assert not generate(run, release, 40, shard=(1, 2), **SIZES)
    elsewhere.undo()
    with pytest.raises(ReleaseError, match=r"was begun elsewhere: device is .* instead of .*abacus.*--mix"):
        generate(run, release, 40, shard=(2, 2), **SIZES)
    assert generate(run, release, 40, shard=(2, 2), mix=True, **SIZES)
    manifest = manifest_of(release)
    assert manifest["device"]["model"] == "abacus"
    assert [other["device"]["model"] for other in manifest["mixed"]] != ["abacus"]
    assert len(manifest["mixed"]) == 1
    found = verify_release(release, recompute=40, run=run)
    assert found.recomputed_equal.endswith("within tolerance")


def test_other_compilation_needs_mix(
    run: Path, begun: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "compile_network", lambda network: network)
    with pytest.raises(ReleaseError, match=r"compile is 'default, .* instead of 'none'.*--mix"):
        generate(run, begun, 40, shard=(2, 2), compile="default", **SIZES)
    compiled = make_release(run, tmp_path / "compiled", 40, compile="default")
    assert manifest_of(compiled) == {**manifest_of(finished), "compile": f"default, {compiler(torch.device('cpu'))}"}
    assert verify_release(compiled, recompute=40, run=run).recomputed_equal == "bytes"


@pytest.mark.slow
def test_a_compiled_release_is_a_function_of_its_plan(run: Path, finished: Path, tmp_path: Path) -> None:
    """Made by two processes that compile for themselves, each a shard, and by this one."""
    script = (
        "import json, sys; from hg3 import generate\n"
        "run, out, shard, sizes = sys.argv[1:]\n"
        "generate(run, out, 40, shard=(int(shard), 2), compile='default', **json.loads(sizes))"
    )
    for shard in (2, 1):
        run_python(script, run, tmp_path / "r", shard, json.dumps(SIZES))
    compiled = make_release(run, tmp_path / "here", 40, compile="default")
    assert file_bytes(tmp_path / "r") == file_bytes(compiled)
    assert verify_release(compiled, recompute=40, run=run).recomputed_equal == "bytes"
    assert agreeing_share(load(compiled), load(finished)) > 0.99  # eager and compiled differ by roundings


def test_mix_does_not_excuse_another_seed(run: Path, begun: Path) -> None:
    with pytest.raises(ReleaseError, match="seed differ"):
        generate(run, begun, 40, seed=5, mix=True, **SIZES)


def test_mix_leaves_no_trace_where_nothing_differs(run: Path, begun: Path, finished: Path) -> None:
    assert generate(run, begun, 40, mix=True, **SIZES)
    assert file_bytes(begun) == file_bytes(finished)


def test_finished_release_is_finished_elsewhere_too(run: Path, finished: Path, elsewhere: pytest.MonkeyPatch) -> None:
    assert generate(run, finished, 40, **SIZES)


def test_progress_counts_this_calls_share(run: Path, tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    generate(run, tmp_path / "r", 75, shard=(2, 2), report=said.append, **SIZES)
    assert [(entry["patients"], entry["of"]) for entry in said] == [(0, 32), (16, 32), (32, 32), (32, 32)]
    said.clear()
    generate(run, tmp_path / "r", 75, report=said.append, **SIZES)
    assert {entry["of"] for entry in said} == {75}
    assert [entry["patients"] for entry in said] == [0, 16, 32, 32, 64, 75, 75]


def test_manifest_says_what_made_the_release(run: Path, finished: Path) -> None:
    manifest = manifest_of(finished)
    assert (manifest["patients"], manifest["seed"], manifest["block"], manifest["part_blocks"]) == (40, 0, 16, 2)
    assert set(manifest["versions"]) >= {"hg3", "torch", "numpy", "pyarrow"}
    assert manifest["guardrail"]["rejected"] == manifest["guardrail"]["nonfinite"] == 0
    assert manifest["guardrail"]["moved"] == sum(entry["moved"] for entry in manifest["parts"])
    states = [path for path in (run / "checkpoints").glob("*/state.json")]
    assert manifest["checkpoint"] in [disk.sha256_of(path) for path in states]
    provenance = json.loads((finished / "provenance.json").read_text())
    assert provenance["completed"] not in (finished / "manifest.json").read_text()


def test_a_release_inside_a_run_is_refused(run: Path) -> None:
    with pytest.raises(ReleaseError, match=r"lies inside the run .*, which is private; choose a folder outside it"):
        generate(run, run / "release", 5, **SIZES)
    assert not (run / "release").exists()


def test_a_folder_with_a_subfolder_of_that_name_is_not_ours(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "incomplete").mkdir(parents=True)
    (tmp_path / "mine" / "incomplete" / "thesis.txt").write_text("thesis")
    (tmp_path / "mine" / "notes.txt").write_text("notes")
    with pytest.raises(ReleaseError, match="is there already and holds something else"):
        make_release(run, tmp_path / "mine", 3)
    found = {str(p.relative_to(tmp_path / "mine")) for p in (tmp_path / "mine").rglob("*") if p.is_file()}
    assert found == {"incomplete/thesis.txt", "notes.txt"}


@pytest.mark.parametrize("name, text", [("manifest.json", "[]"), ("incomplete/plan.json", "{}")])
def test_altered_leftovers_end_in_a_sentence(name: str, text: str, run: Path, tmp_path: Path) -> None:
    release = make_release(run, tmp_path / "r", 3)
    (release / name).parent.mkdir(exist_ok=True)
    (release / name).write_text(text)
    with pytest.raises(ReleaseError, match="is altered: it is not a"):
        make_release(run, tmp_path / "r", 3)


def test_a_release_of_drawn_codes_is_a_function_of_its_plan_too(tmp_path: Path) -> None:
    table = runs.write_cohort(tmp_path)
    changes = {**runs.TINY, "sampling.decode": "draw"}
    runs.train(table, tmp_path / "run", tmp_path / "schema.toml", changes=changes, updates=3, seed=0)
    release = make_release(tmp_path / "run", tmp_path / "whole", 80)
    assert manifest_of(release)["sampler"]["decode"] == "draw"
    for shard in ((2, 2), (1, 2)):
        generate(tmp_path / "run", tmp_path / "shards", 80, shard=shard, **SIZES)
    assert file_bytes(tmp_path / "shards") == file_bytes(release)
    assert verify_release(release, 80, tmp_path / "run").recomputed_equal == "bytes"
    sampler = {key: value for key, value in manifest_of(release)["sampler"].items() if key != "decode"}
    runs.seal(release, sampler=sampler)
    with pytest.raises(ReleaseError, match=r"manifest\.json is not the plan of the checkpoint: sampler"):
        verify_release(release, 3, tmp_path / "run")


def test_codes_are_the_most_probable_ones_where_nothing_is_said(whole: dict[str, bytes]) -> None:
    assert "decode" not in json.loads(whole["manifest.json"])["sampler"]
