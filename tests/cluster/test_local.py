"""Submissions without SLURM: the same code in the background of this machine, or in this process."""

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hg3 import disk
from hg3.cli.cluster import STAGES
from hg3.cluster import slurm
from hg3.cluster.arrays import plan_arrays
from hg3.cluster.kinds import KINDS, run_of
from hg3.cluster.pipeline import pipeline_stages
from hg3.cluster.profiles import Profile
from hg3.cluster.record import read_record as read_tracking
from hg3.cluster.records import read_record
from hg3.cluster.state import pieces
from hg3.cluster.submit import cancel, resume, submit, would_submit
from hg3.cluster.tasks import perform
from hg3.cluster.verbs import generation_stage, seeds_of, tracked_stages, training_stage
from hg3.cluster.works import Stage, begin_work, folder_of, read_work, submissions
from hg3.errors import ClusterError, ConfigError, RunError
from hg3.release.repair import reopen_damaged
from hg3.release.writer import generate
from hg3.training.checkpoint import checkpoints
from hg3.training.run import train
from tests import runs
from tests.cluster.cases import all_done, settled, until
from tests.runs import SIZES, TINY, file_bytes
from tests.training.cases import weight_hashes

one_thread = runs.one_thread
command = runs.command
LONG = {**TINY, "training.checkpoint_every": "5", "training.validate_every": "1000"}


def stage_of(folder: Path, seeds: list[int], updates: int, changes: dict[str, str] = TINY) -> Stage:
    table = runs.write_cohort(folder)
    stage = training_stage(table, folder / "runs", seeds, folder / "schema.toml", changes=changes, updates=updates)
    return Stage(stage.name, stage.kind, stage.calls, Profile(parallel=1))


def test_work_in_this_process(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, [3, 4], 3)
    work = submit(tmp_path / "runs", "debug", (stage,))
    assert [(p.name, p.state, p.done, p.total) for p in pieces(work)] == [
        ("seed-3", "done", 3, 3),
        ("seed-4", "done", 3, 3),
    ]
    assert resume(tmp_path / "runs") == []
    table, schema = tmp_path / "table.parquet", tmp_path / "schema.toml"
    train(table, tmp_path / "alone", schema, changes=TINY, updates=3, seed=4)
    assert last(tmp_path / "runs" / "seed-4") == last(tmp_path / "alone")


def test_seeds_are_tracked_below_one_submission(tmp_path: Path) -> None:
    stages = tracked_stages((stage_of(tmp_path, [3, 4], 3),), "later", "both")
    submit(tmp_path / "runs", "debug", stages)
    found = [read_tracking(tmp_path / "runs" / f"seed-{seed}") for seed in (3, 4)]
    assert [(record["status"], record["parent_name"]) for record in found] == [("FINISHED", "both")] * 2
    assert found[0]["parent"] == found[1]["parent"] and found[0]["id"] != found[1]["id"]


def last(run: Path) -> dict[str, str]:
    return weight_hashes(checkpoints(run)[-1])


def test_second_submission_is_refused(tmp_path: Path) -> None:
    submit(tmp_path / "runs", "debug", (stage_of(tmp_path, [0], 3),))
    with pytest.raises(ClusterError, match=r"runs\.jobs holds a submission already; look at it with hg3 jobs"):
        submit(tmp_path / "runs", "debug", (stage_of(tmp_path, [0], 3),))
    with pytest.raises(ClusterError, match="no job was submitted for"):
        read_work(tmp_path / "other")
    with pytest.raises(ClusterError, match="--cluster lsf was given; it is one of slurm, local, debug"):
        submit(tmp_path / "other", "lsf", ())


def test_failure_is_noted_and_taken_up_again(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, [0, 1], 3)
    (tmp_path / "table.parquet").rename(tmp_path / "away")
    with pytest.raises(Exception, match="table"):
        submit(tmp_path / "runs", "debug", (stage,))
    first, second = pieces(read_work(tmp_path / "runs"))
    assert first.state == "failed" and "table.parquet" in str(first.why)
    assert second.state == "lost"
    (tmp_path / "away").rename(tmp_path / "table.parquet")
    assert [piece.name for piece in resume(tmp_path / "runs")] == ["seed-0", "seed-1"]
    assert {piece.state for piece in pieces(read_work(tmp_path / "runs"))} == {"done"}


def test_error_that_hg3_did_not_word_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> bool:
        raise ValueError("could not convert string to float: 'HIV+ since 1999'")

    monkeypatch.setitem(KINDS, "train", KINDS["train"]._replace(perform=fails))
    with pytest.raises(ValueError, match="HIV"):
        submit(tmp_path / "runs", "debug", (stage_of(tmp_path, [0], 3),))
    assert "HIV" not in (folder_of(tmp_path / "runs") / "records" / "train-0000.json").read_text(encoding="utf-8")


def test_starts_that_do_nothing_end_one_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "train", KINDS["train"]._replace(perform=lambda call, tell, stop: False))
    record = tmp_path / "record.json"
    steps: list[dict[str, Any]] = [{"kind": "train", "call": {}, "record": str(record)}]
    for _ in range(4):
        with pytest.raises(SystemExit):
            perform(steps)
        assert read_record(record)["state"] == "stopped"
    with pytest.raises(ClusterError, match="5 starts in a row reached the time limit before anything was done; give"):
        perform(steps)
    assert read_record(record)["state"] == "failed"


def test_blocks_of_a_part_that_was_given_up_are_nothing_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(call: Any, tell: Any, stop: Any) -> bool:
        tell(256, None, 0)
        tell(512, None, 0)
        return False

    monkeypatch.setitem(KINDS, "generate", KINDS["generate"]._replace(perform=gives_up))
    steps: list[dict[str, Any]] = [{"kind": "generate", "call": {}, "record": str(tmp_path / "record.json")}]
    for _ in range(4):
        with pytest.raises(SystemExit):
            perform(steps)
    with pytest.raises(ClusterError, match="5 starts in a row reached the time limit before anything was done"):
        perform(steps)


def test_progress_counts_as_a_start_that_did_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def moves(call: Any, tell: Any, stop: Any) -> bool:
        tell(1, 9)
        tell(2, 9)
        return False

    monkeypatch.setitem(KINDS, "train", KINDS["train"]._replace(perform=moves))
    steps: list[dict[str, Any]] = [{"kind": "train", "call": {}, "record": str(tmp_path / "record.json")}]
    for _ in range(7):
        with pytest.raises(SystemExit):
            perform(steps)


def test_resume_may_ask_for_something_else(tmp_path: Path) -> None:
    submit(tmp_path / "runs", "debug", (stage_of(tmp_path, [0], 3),))
    resume(tmp_path / "runs", {"minutes": "600"})
    (stage,) = read_work(tmp_path / "runs").stages
    assert stage.profile == Profile(parallel=1, minutes=600)
    with pytest.raises(ConfigError, match="--slurm knows no key 'minuts'"):
        resume(tmp_path / "runs", {"minuts": "600"})


def test_resume_refuses_what_submit_refuses(tmp_path: Path) -> None:
    submit(tmp_path / "runs", "debug", (stage_of(tmp_path, [0], 3),))
    with pytest.raises(ConfigError, match="asks for 4 GPUs and a training that is submitted uses one"):
        resume(tmp_path / "runs", {"gpus": "4"})
    assert read_work(tmp_path / "runs").stages[0].profile == Profile(parallel=1)


def test_array_is_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hg3.cluster.slurm.largest_array", lambda: 8)
    monkeypatch.setattr("hg3.cluster.slurm.tasks", lambda names: {})
    work = begin_work(tmp_path / "runs", "slurm", (stage_of(tmp_path, list(range(19)), 3),))
    arrays = list(plan_arrays(work, pieces(work), "submission-0002"))
    assert [len(array.jobs) for array in arrays] == [8, 8, 3]
    assert [step for array in arrays for (step,) in array.jobs] == [("train", index) for index in range(19)]
    assert len({array.name for array in arrays}) == 3 and all("-2-" in array.name for array in arrays)


@pytest.mark.parametrize(("text", "wanted"), [("0-3", [0, 1, 2, 3]), ("5", [5]), ("1,4,10-12", [1, 4, 10, 11, 12])])
def test_seeds(text: str, wanted: list[int]) -> None:
    assert seeds_of(text) == wanted


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,1", "1-", "1,,2"])
def test_refused_seeds(text: str) -> None:
    with pytest.raises(ConfigError, match="it takes whole numbers, each once, as in 0-7"):
        seeds_of(text)


def test_training_on_several_gpus_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    stage = replace(stage_of(tmp_path, [0], 3), profile=Profile(gpus=4))
    for refused in (
        lambda: submit(tmp_path / "runs", "debug", (stage,)),
        lambda: list(would_submit("r", "debug", (stage,))),
    ):
        with pytest.raises(
            ConfigError, match="asks for 4 GPUs and a training that is submitted uses one: give --slurm"
        ):
            refused()
    assert not folder_of(tmp_path / "runs").exists()


def test_pipeline_waits_for_every_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hg3.cluster.choice import chosen_run

    for seed, (missed, told) in enumerate([(2, 0.5), (1, 0.9), (1, 0.7)]):
        report = tmp_path / str(seed)
        report.mkdir()
        verdicts = [{"state": "missed", "measures": ["TV"], "score": 1.0}] * missed
        verdicts += [{"state": "met", "measures": ["two-sample AUC, gradient boosting"], "score": told}]
        disk.write_sealed(report / "metrics.json", {"verdicts": verdicts})
    scored = [{"run": f"run-{seed}", "report": str(tmp_path / str(seed))} for seed in range(3)]
    assert chosen_run(scored) == Path("run-2")
    (tmp_path / "0" / "metrics.json").unlink()
    monkeypatch.setattr(disk, "SLOWEST_S", 0.0)
    with pytest.raises(RunError, match="1 of 3 seeds are not scored, run-0 among them, nor did a report appear within"):
        chosen_run(scored)
    disk.write_json(tmp_path / "0" / "metrics.json", {"verdicts": [], "seal": "of a better one"})
    with pytest.raises(RunError, match="its seal is not that of its content"):
        chosen_run(scored)


@pytest.mark.parametrize("kind", ["score", "judge"])
def test_stage_waits_for_the_files_of_the_one_before(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared file system may show them late; what never comes is told, and a signal ends the wait."""
    run = runs.make_run(tmp_path)
    (stage,) = (stage for stage in pipeline(tmp_path, "0-1") if stage.kind == kind)
    call = {**stage.calls[0], "run": str(run)}
    call.pop("choice", None)
    looks, begun = iter([False, False, True]), RuntimeError("it has begun")
    monkeypatch.setattr(disk, "LOOK_EVERY_S", 0.0)
    name = {"score": "is_trained", "judge": "is_released"}[kind]
    monkeypatch.setattr(f"hg3.cluster.kinds.{name}", lambda _: next(looks, False))
    monkeypatch.setattr("hg3.cluster.kinds.generate", lambda *_, **__: (_ for _ in ()).throw(begun))
    monkeypatch.setattr("hg3.release.evaluate.evaluate_release", lambda *_, **__: (_ for _ in ()).throw(begun))
    with pytest.raises(RuntimeError, match="it has begun"):
        KINDS[kind].perform(call, lambda *_: None, lambda: False)
    assert not KINDS[kind].perform(call, lambda *_: None, lambda: True)
    monkeypatch.setattr(disk, "SLOWEST_S", 0.0)
    with pytest.raises(RunError, match=r"is not (trained to its end|complete), so .* nor did that change within"):
        KINDS[kind].perform(call, lambda *_: None, lambda: False)


def pipeline(folder: Path, seeds: str, **changes: object) -> tuple[Stage, ...]:
    """Return the stages of a pipeline on a small cohort."""
    runs.write_cohort(folder)
    keys = "\n".join(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in changes.items())
    text = f'table = "table.parquet"\nschema = "schema.toml"\n[train]\nseeds = "{seeds}"\nupdates = 3\n'
    text += f"[train.set]\n{keys}\n[generate]\npatients = 50\n"
    (folder / "pipeline.toml").write_text(text, encoding="utf-8")
    return pipeline_stages(folder / "pipeline.toml", folder / "out", dict.fromkeys(STAGES, Profile()))


def test_private_seeds_are_not_chosen_by_real_patients(tmp_path: Path) -> None:
    private = {"privacy.epsilon": 8, "encoding.scaling": "standard"}
    with pytest.raises(ConfigError, match="outside its epsilon: give one seed"):
        pipeline(tmp_path, "0-1", **private)
    stages = pipeline(tmp_path, "3", **private)
    assert [stage.name for stage in stages] == ["train", "generate", "judge"]
    assert [run_of(stage.calls[0]) for stage in stages[1:]] == [tmp_path / "out" / "runs" / "seed-3"] * 2
    assert [stage.name for stage in pipeline(tmp_path, "0-1")] == list(STAGES)


def test_refused_submission_leaves_nothing_in_a_store(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(tmp_path / "runs", "debug", (stage_of(tmp_path, [0], 3),))
    monkeypatch.setattr("hg3.cluster.verbs.plan_submission", lambda *_: pytest.fail("made a parent run"))
    asked = ["submit", "train", tmp_path / "table.parquet", "--schema", tmp_path / "schema.toml", "--updates", 3]
    refused = command(*asked, "--cluster", "debug", "--track", "later", "--out", tmp_path / "runs")
    assert refused.code == 2 and "holds a submission already" in refused.err


def test_damaged_release_is_opened_under_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = generation_stage(runs.make_run(tmp_path), tmp_path / "r", 50, tasks=1, **SIZES)
    submit(tmp_path / "r", "debug", (stage,))
    opened = []

    def watched(release: Path) -> list[str]:
        with pytest.raises(RunError), disk.lock(folder_of(release) / ".lock", "--out"):
            pass
        opened.append(release)
        return reopen_damaged(release)

    monkeypatch.setattr("hg3.cluster.submit.reopen_damaged", watched)
    next((tmp_path / "r").glob("**/*.parquet")).unlink()
    assert len(resume(tmp_path / "r")) == 1 and opened == [tmp_path / "r"]
    assert {piece.state for piece in pieces(read_work(tmp_path / "r"))} == {"done"}


@pytest.mark.parametrize("track", [["--track", "sqlite:////a b.db"], ["--track=later"], []])
def test_sbatch_resumes_with_its_tracking(tmp_path: Path, track: list[str]) -> None:
    (tmp_path / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    (tmp_path / "srun").chmod(0o755)
    (tmp_path / "runs" / "seed-3").mkdir(parents=True)
    (tmp_path / "runs" / "seed-3" / "config.toml").touch()
    script = Path(__file__).parents[2] / "slurm" / "train.sbatch"
    asked = [
        "bash",
        str(script),
        "t",
        str(tmp_path / "runs"),
        "20",
        "--schema",
        "s",
        *track,
        "--set",
        "network.width=8",
    ]
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "3"}
    said = subprocess.run(asked, env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[said.index("--resume") :] == ["--resume", "--updates", "20", *track]


@pytest.mark.parametrize(("code", "asked"), [(138, 3), (0, 0), (1, 0), (143, 0)])
@pytest.mark.parametrize("name", ["train", "generate"])
def test_sbatch_asks_again_until_it_is_put_back(tmp_path: Path, name: str, code: int, asked: int) -> None:
    """Only after USR1, which comes before the time limit; and a busy controller may refuse."""
    bodies = {
        "srun": f'echo "$@" > {tmp_path}/started; exit {code}',
        "scontrol": f'echo "$@" >> {tmp_path}/asked; test "$(wc -l < {tmp_path}/asked)" = 3',
        "sleep": "",
    }
    for program, body in bodies.items():
        (tmp_path / program).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (tmp_path / program).chmod(0o755)
    task = {"JOB_ID": "7", "TASK_ID": "2", "TASK_MIN": "1", "TASK_MAX": "3", "TASK_COUNT": "3"}
    env = {**os.environ, **{f"SLURM_ARRAY_{key}": value for key, value in task.items()}}
    env |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HG3": "container.sh hg3.sif hg3"}
    script = Path(__file__).parents[2] / "slurm" / f"{name}.sbatch"
    given = ["bash", str(script), str(tmp_path / "a"), str(tmp_path / "b"), "20"]
    assert subprocess.run(given, env=env, capture_output=True, check=False).returncode == code
    assert f"container.sh hg3.sif hg3 {name} " in (tmp_path / "started").read_text(encoding="utf-8")
    found = (tmp_path / "asked").read_text().splitlines() if (tmp_path / "asked").exists() else []
    assert found == ["requeue 7_2"] * asked


def test_judged_release_is_attached_before_its_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate says that a release is judged, so whoever is killed after it never attaches."""
    run, release, report = (tmp_path / name for name in ("run", "release", "report"))
    for path in (run / "tracking.json", release / "SHA256SUMS", release / "manifest.json", report / "report.html"):
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"format": 1, "attached": []}', encoding="utf-8")
    found = []

    def certify(*_: Any, **__: Any) -> None:
        found.extend(read_tracking(run)["attached"])

    monkeypatch.setattr("hg3.release.evaluate.evaluate_release", lambda *_, **__: None)
    monkeypatch.setattr("hg3.release.certify.certify_release", certify)
    call = {"run": str(run), "release": str(release), "out": str(report), "utility": False, "gates": None}
    assert KINDS["judge"].perform(call, lambda *_: None, lambda: False)
    assert found == [str(release), str(report)]


def test_requeue_is_tried_until_slurm_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = subprocess.CalledProcessError(1, "scontrol")
    answers = iter([FileNotFoundError(), subprocess.TimeoutExpired("scontrol", 60), refused, None])
    asked = []

    def run(command: list[str], check: bool, **_: Any) -> None:
        assert check
        asked.append(command)
        if (answer := next(answers)) is not None:
            raise answer

    monkeypatch.setattr("hg3.cluster.slurm.subprocess.run", run)
    monkeypatch.setattr("hg3.cluster.slurm.time.sleep", lambda seconds: None)
    monkeypatch.setattr("hg3.cluster.slurm.signal.signal", lambda *_: None)
    slurm.requeue("7_3", 60)
    assert asked == [["scontrol", "requeue", "7_3"]] * 4


@pytest.mark.slow
def test_background_training_is_killed_cancelled_and_resumed(tmp_path: Path) -> None:
    work = submit(tmp_path / "runs", "local", (stage_of(tmp_path, [0, 1], 400, LONG),))
    run = tmp_path / "runs" / "seed-0"
    until("a checkpoint", lambda: checkpoints(run))
    record = read_record(work.record(work.stages[0], 0))
    os.kill(record["process"], signal.SIGKILL)
    assert [piece.state for piece in settled(work)] == ["lost", "lost"]
    assert [piece.name for piece in resume(tmp_path / "runs")] == ["seed-0", "seed-1"]
    before = checkpoints(run)[-1].name
    until("another checkpoint", lambda: checkpoints(run)[-1].name > before)
    cancel(tmp_path / "runs")
    assert "lost" in {piece.state for piece in settled(work)}
    resume(tmp_path / "runs")
    all_done(work)
    train(tmp_path / "table.parquet", tmp_path / "alone", tmp_path / "schema.toml", changes=LONG, updates=400, seed=0)
    assert last(run) == last(tmp_path / "alone")


@pytest.mark.slow
def test_background_training_goes_on_after_its_time_limit(tmp_path: Path) -> None:
    """USR2 comes 20 s after the start, as often as it takes; submitit starts again what ended with status 144."""
    stage = stage_of(tmp_path, [0], 6000, LONG)
    profile = Profile(parallel=1, minutes=1, grace_seconds=40)
    work = submit(tmp_path / "runs", "local", (replace(stage, profile=profile),))
    for _ in range(3):  # on a slow machine six starts may not be enough
        if settled(work)[0].state == "done":
            break
        resume(tmp_path / "runs")
    all_done(work)
    first = submissions(work)[0].glob("*/*_log.out")
    assert sum(log.read_text(encoding="utf-8").count("Loading pickle") for log in first) > 1
    train(tmp_path / "table.parquet", tmp_path / "alone", tmp_path / "schema.toml", changes=LONG, updates=6000, seed=0)
    assert last(tmp_path / "runs" / "seed-0") == last(tmp_path / "alone")


@pytest.mark.slow
def test_background_release(tmp_path: Path) -> None:
    run = runs.make_run(tmp_path)
    stage = generation_stage(run, tmp_path / "r", 200, tasks=3, **SIZES)
    work = submit(tmp_path / "r", "local", (Stage(stage.name, stage.kind, stage.calls, Profile(parallel=3)),))
    all_done(work)
    assert generate(run, tmp_path / "whole", 200, **SIZES)
    assert file_bytes(tmp_path / "r") == file_bytes(tmp_path / "whole")


def test_verbs_of_the_command_line(command: Any, tmp_path: Path) -> None:
    runs.write_cohort(tmp_path)
    asked = ["submit", "train", tmp_path / "table.parquet", "--schema", tmp_path / "schema.toml", "--seeds", "0-1"]
    asked += [*runs.options(), "--updates", 3, "--cluster", "debug", "--out", tmp_path / "runs"]
    dry = command(*asked, "--dry-run")
    assert dry.code == 0 and "train: 2 tasks" in dry.out and "nothing was submitted" in dry.out
    assert not folder_of(tmp_path / "runs").exists()
    assert command(*asked, "--slurm", "minuts=3").code == 2
    ended = command(*asked)
    assert ended.code == 0 and f"hg3 jobs {tmp_path / 'runs'}" in ended.out
    shown = json.loads(command("jobs", tmp_path / "runs", "--json").out)
    assert [(row["name"], row["state"]) for row in shown] == [("seed-0", "done"), ("seed-1", "done")]
    assert "nothing is missing" in command("jobs", tmp_path / "runs", "--resume").out
    assert command("jobs", tmp_path / "runs", "--resume", "--cancel").code == 2
    assert command("jobs", tmp_path / "none").code == 2
