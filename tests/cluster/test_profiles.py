"""Profiles are read, changed and refused with what may be given instead."""

import shlex
import subprocess
import time
from pathlib import Path

import pytest

from hg3.cluster.jobs import gpus_here, parameters, python_here
from hg3.cluster.profiles import Profile, load_profile
from hg3.cluster.tasks import SIGNAL_AT
from hg3.errors import ConfigError


@pytest.mark.parametrize("name", ["cpu", "gpu", "local", "one-node"])
def test_shipped_profile(name: str) -> None:
    assert load_profile(name).minutes >= 30


def test_every_key_is_documented_where_profiles_are() -> None:
    text = Path(str(Path(__file__).parents[2] / "slurm" / "profiles.toml")).read_text(encoding="utf-8")
    described = text.partition("[cpu]")[0]
    assert [key for key in Profile.model_fields if f" {key}" not in described] == []


def test_changes_override(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[night]\npartition = "long"\nsbatch = { reservation = "r" }\n')
    monkeypatch.setenv("HG3_PROFILES", str(tmp_path / "mine.toml"))
    found = load_profile("night", {"minutes": "30", "gpus": "2", "sbatch.gres": "gpu:a100:1", "setup": "a\nb"})
    assert (found.partition, found.minutes, found.gpus) == ("long", 30, 2)
    assert found.sbatch == {"reservation": "r", "gres": "gpu:a100:1"}
    assert found.setup == ("a", "b")


@pytest.mark.parametrize(
    ("text", "changes", "sentence"),
    [
        ("[x]\nminuts = 3\n", {}, "minuts: Extra inputs are not permitted; known keys are partition, account, qos"),
        ("[x]\n", {"minuts": "3"}, "--slurm knows no key 'minuts'; it knows partition, account, qos, constraint, gpus"),
        ("[x]\n", {"sbatch": "3"}, "--slurm knows no key 'sbatch'"),
        ("[x]\n", {"minutes": "many"}, "minutes: Input should be a valid integer"),
        ("[x]\n", {"minutes": "1"}, "grace_seconds 90 and a limit of 1 minutes; leave time to work"),
        ("[y]\n", {}, "profile 'x' is unknown; .*p.toml has y"),
        ("[x\n", {}, "are not TOML"),
    ],
)
def test_refusals(tmp_path: Path, text: str, changes: dict[str, str], sentence: str) -> None:
    (tmp_path / "p.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=sentence):
        load_profile("x", changes, tmp_path / "p.toml")


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(FileNotFoundError\); give a TOML file, or unset HG3_PROF"):
        load_profile("x", path=tmp_path / "none.toml")


def test_switch_of_sbatch_is_given_or_left_out() -> None:
    profile = load_profile("cpu", {"sbatch.exclusive": "true", "sbatch.requeue": "false", "sbatch.hint": "true story"})
    more = parameters("slurm", "name", profile)["slurm_additional_parameters"]
    assert more == {"exclusive": True, "hint": "true story"}  # which submitit writes as --exclusive, without a value


def test_what_this_machine_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = Profile(minutes=30, grace_seconds=7, gpus=2, setup=("export A='x y'", "export B=$A$A"))
    assert parameters("local", "name", profile) == {"timeout_min": 30, "signal_delay_s": 7}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
    assert gpus_here() == ["GPU-a", "GPU-b"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus_here() == []
    words = shlex.split(python_here(profile, "GPU-b"))
    say = "import os, signal; print(*(os.environ[key] for key in ('A', 'B', 'CUDA_VISIBLE_DEVICES')), os.getpid())"
    with subprocess.Popen([*words, "-c", say], stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate()[0].strip() == f"x y x yx y GPU-b {process.pid}"  # no shell keeps signals from it


def test_job_knows_when_the_signal_before_its_limit_is_due() -> None:
    words = shlex.split(python_here(Profile(minutes=30, grace_seconds=7), ""))
    began = int(time.time())
    say = f"import os; print(os.environ[{SIGNAL_AT!r}])"
    due = int(subprocess.run([*words, "-c", say], capture_output=True, text=True, check=True).stdout)
    assert began <= due - (30 * 60 - 7) <= time.time()


def test_what_submitit_is_asked_for() -> None:
    profile = Profile(partition="long", gpus=1, minutes=30, memory_gb=4, sbatch={"reservation": "r"})
    asked = parameters("slurm", "name", profile, ["7", "8"])
    assert asked["slurm_partition"] == "long" and asked["gpus_per_node"] == 1 and asked["timeout_min"] == 30
    assert asked["slurm_dependency"] == "afterany:7:8"
    assert asked["slurm_srun_args"] == [f"--cpus-per-task={profile.cpus}"]
    assert asked["slurm_additional_parameters"] == {"requeue": True, "reservation": "r"}
    assert "slurm_account" not in asked and "gpus_per_node" not in parameters("slurm", "name", Profile())
