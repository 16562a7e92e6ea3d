"""The image: no container tool is needed to read its definition, check its scripts, and run what installs it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEFINITION = ROOT / "Singularity.def"
pytestmark = pytest.mark.skipif(not DEFINITION.is_file(), reason="the definition comes with a clone only")
SCRIPTS = ("post", "environment", "test", "runscript")
FILES = ("slurm/container.sh", "slurm/install.sh")
BASH = ("slurm/train.sbatch", "slurm/generate.sbatch", "slurm/one-node-up.sh", "slurm/one-node-down.sh")
NOT_IN_THE_IMAGE = {"runs", "build"}


def sections() -> dict[str, str]:
    """Return the text of each section of the definition; "" is the header."""
    found, name = {"": ""}, ""
    for line in DEFINITION.read_text(encoding="utf-8").splitlines():
        if line.startswith("%"):
            name = line[1:].strip()
            assert name not in found, f"%{name} is there twice"
            found[name] = ""
        else:
            found[name] += line.removeprefix("    ") + "\n"
    return found


def arguments() -> dict[str, str]:
    return dict(line.split("=", 1) for line in sections()["arguments"].split("\n") if line)


def script(name: str) -> str:
    """Return a section with the arguments put in, as the tool does before a shell sees it."""
    return re.sub(r"{{ (\w+) }}", lambda match: arguments()[match[1]], sections()[name])


def test_sections_and_arguments() -> None:
    assert set(sections()) == {"", "arguments", "files", *SCRIPTS, "labels", "help"}
    assert set(re.findall(r"{{ (\w+) }}", DEFINITION.read_text())) == set(arguments())
    assert re.search(r"@sha256:[0-9a-f]{64}$", arguments()["BASE"])
    header = dict(line.split(": ", 1) for line in script("").split("\n") if line and not line.startswith("#"))
    assert header == {"Bootstrap": "docker", "From": arguments()["BASE"]}
    assert script("runscript").strip() == 'exec /opt/venv/bin/hg3 "$@"'
    labels = script("labels") + script("post")
    assert "org.opencontainers.image.revision" in labels and "org.opencontainers.image.version" in labels
    assert re.fullmatch(r"\d+\.\d(;\d+\.\d)*\+PTX", arguments()["ARCHITECTURES"])


def test_all_of_a_clone_goes_in() -> None:
    """What git tracks at the top is copied, or listed here as left out; a test in the image may need any of it."""
    pairs = [line.split() for line in sections()["files"].split("\n") if line]
    assert all(target == f"/opt/hg3/{source}" and (ROOT / source).exists() for source, target in pairs)
    asked = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False)
    if asked.returncode:
        pytest.skip("this is no clone")
    tracked = {path.split("/")[0] for path in asked.stdout.split("\n") if path}
    assert tracked - {source for source, _ in pairs} <= NOT_IN_THE_IMAGE


def shellcheck() -> str | None:
    return shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.mark.parametrize("name", [*SCRIPTS, *FILES])
def test_shell_is_sound(name: str) -> None:
    text = script(name) if name in SCRIPTS else (ROOT / name).read_text(encoding="utf-8")
    parsed = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (parsed.returncode, parsed.stderr) == (0, "")
    checker = shellcheck()
    if checker is None:
        pytest.skip("shellcheck is not installed")
    wanted = [checker, "--shell=sh", "--exclude=SC2154", "-"]  # APPTAINER_LABELS and the like come from the tool
    checked = subprocess.run(wanted, input=text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("name", BASH)
def test_bash_is_sound(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    parsed = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (parsed.returncode, parsed.stderr) == (0, "")
    checker = shellcheck()
    if checker is None:
        pytest.skip("shellcheck is not installed")
    checked = subprocess.run([checker, "--shell=bash", "-"], input=text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_every_script_is_looked_at() -> None:
    found = {f"slurm/{path.name}" for path in (ROOT / "slurm").iterdir() if path.suffix in (".sh", ".sbatch")}
    assert found == {*FILES, *BASH}


TOOL = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word"; done
"""


@pytest.fixture
def tool(tmp_path: Path) -> dict[str, str]:
    """An environment whose apptainer prints what it was called with: no container, and no claim that there is one."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "apptainer").write_text(TOOL)
    (tmp_path / "bin" / "apptainer").chmod(0o755)
    own = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SUBMITIT_"))}
    return {**own, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}


def test_entering_passes_words_on_and_names_the_image(tool: dict[str, str], tmp_path: Path) -> None:
    image = tmp_path / "one image.sif"
    image.with_name("one image.sif.sha256").write_text("ab" * 32 + "\n")
    command = ["sh", str(ROOT / "slurm/container.sh"), str(image), "python", "-c", "print('a b')"]
    words = subprocess.run(command, env=tool, capture_output=True, text=True, check=True).stdout.splitlines()
    assert words[0] == "exec" and words[-4:] == [str(image), "python", "-c", "print('a b')"]
    assert words[words.index("--env") + 1] == "HG3_CONTAINER_DIGEST=sha256:" + "ab" * 32
    assert ("--nv" in words) == Path("/dev/nvidiactl").exists()


def test_build_leaves_the_image_where_its_path_says(tool: dict[str, str], tmp_path: Path) -> None:
    """Whatever folder it is called from: the definition is built from the root of the clone."""
    (tmp_path / "bin" / "apptainer").write_text(TOOL + 'touch "$4"\n')
    command = ["sh", str(ROOT / "slurm/container.sh"), "build", "hg3.sif"]
    subprocess.run(command, env=tool, cwd=tmp_path, capture_output=True, check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "hg3.sif", "hg3.sif.sha256"}


IN_IMAGE = """#!/bin/bash
# Stands for the tool, without an image: runs the command with what --env says, as the image's process would.
shift
while [ "${1#--}" != "$1" ]; do
  if [ "$1" = --env ]; then export "$2"; shift; fi
  shift
done
shift
exec "$@"
"""
GO_ON = """import os, signal, sys, time
caught = []
signal.signal(signal.SIGUSR2, lambda *_: caught.append(1))
print("ready", os.environ.get("HG3_REQUEUED_BY_SHELL"), flush=True)
while not caught:
    time.sleep(0.01)
sys.exit(144)
"""


JOB = {"SLURM_JOB_ID": "9", "SUBMITIT_EXECUTOR": "slurm"}


@pytest.mark.parametrize("array", [True, False])
def test_signal_to_the_shell_alone_puts_a_job_back(tool: dict[str, str], tmp_path: Path, array: bool) -> None:
    """SLURM is asked outside the image, which knows nothing of it, and again if it refuses."""
    (tmp_path / "bin" / "apptainer").write_text(IN_IMAGE)
    (tmp_path / "bin" / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ntest -e {tmp_path}/again\n')
    (tmp_path / "bin" / "sleep").write_text(f"#!/bin/sh\ntouch {tmp_path}/again\n")
    for name in ("scontrol", "sleep"):
        (tmp_path / "bin" / name).chmod(0o755)
    job = {**JOB, **({"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"} if array else {})}
    command = ["sh", str(ROOT / "slurm/container.sh"), "image.sif", sys.executable, "-c", GO_ON]
    with subprocess.Popen(command, env={**tool, **job}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline().split() == ["ready", "1"]
        process.send_signal(signal.SIGUSR2)
        assert process.wait(60) == 144
    assert (tmp_path / "asked").read_text().splitlines() == [f"requeue {'7_2' if array else 9}"] * 2


def test_job_that_ended_is_not_put_back(tool: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin" / "apptainer").write_text(IN_IMAGE)
    (tmp_path / "bin" / "scontrol").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    for code in (0, 3):
        command = ["sh", str(ROOT / "slurm/container.sh"), "image.sif", "sh", "-c", f"exit {code}"]
        assert subprocess.run(command, env={**tool, **JOB}, check=False).returncode == code
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("executor", [{}, {"SUBMITIT_EXECUTOR": "local"}])
def test_allocation_of_the_user_is_never_put_back(
    tool: dict[str, str], tmp_path: Path, executor: dict[str, str]
) -> None:
    """Status 144 is for whoever started this, as submitit's own controller of --cluster local."""
    (tmp_path / "bin" / "apptainer").write_text(IN_IMAGE)
    (tmp_path / "bin" / "scontrol").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    command = ["sh", str(ROOT / "slurm/container.sh"), "image.sif", "sh", "-c", "exit 144"]
    env = {**tool, "SLURM_JOB_ID": "9", **executor}
    assert subprocess.run(command, env=env, check=False, timeout=60).returncode == 144
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("ready", [True, False], ids=["held back by the child", "before the child can hold it back"])
def test_signal_before_there_is_a_child_is_not_lost(tool: dict[str, str], tmp_path: Path, ready: bool) -> None:
    """It comes while the shell looks at the image's sum; a child that does not hold it back is ended by it."""
    (tmp_path / "image.sif.sha256").write_text("ab" * 32 + "\n")
    (tmp_path / "bin" / "apptainer").write_text(IN_IMAGE)
    (tmp_path / "bin" / "find").write_text(f"#!/bin/sh\nkill -USR2 $(cat {tmp_path}/shell)\n")
    (tmp_path / "bin" / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    for name in ("find", "scontrol"):
        (tmp_path / "bin" / name).chmod(0o755)
    own = f'echo $$ > {tmp_path}/shell; exec sh "$0" "$@"'
    waits = ["trap 'exit 144' USR2; while :; do sleep 0.1; done"] if ready else ["while :; do sleep 0.1; done"]
    command = ["sh", "-c", own, str(ROOT / "slurm/container.sh"), str(tmp_path / "image.sif"), "sh", "-c", *waits]
    ended = subprocess.run(command, env={**tool, **JOB}, check=False, timeout=60)
    assert ended.returncode in ((144, 140) if ready else (140,))
    assert (tmp_path / "asked").read_text().splitlines() == ["requeue 9"]


def test_sum_of_an_image_that_was_replaced_is_not_told(tool: dict[str, str], tmp_path: Path) -> None:
    image, noted = tmp_path / "image.sif", tmp_path / "image.sif.sha256"
    command = ["sh", str(ROOT / "slurm/container.sh"), str(image), "true"]
    for path in (image, noted):
        path.write_text("ab" * 32 + "\n")
    os.utime(noted, (1000, 1000))
    assert "--env" not in subprocess.run(command, env=tool, capture_output=True, text=True, check=True).stdout
    os.utime(image, (1000, 1000))
    assert "--env" in subprocess.run(command, env=tool, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("words", [[], ["image.sif"]])
def test_entering_says_what_it_wants(tool: dict[str, str], words: list[str]) -> None:
    command = ["sh", str(ROOT / "slurm/container.sh"), *words]
    ended = subprocess.run(command, env=tool, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and ended.stderr.startswith("usage: ")


def test_without_a_tool_it_says_so(tmp_path: Path) -> None:
    for name in ("sh", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    command = [str(tmp_path / "sh"), str(ROOT / "slurm/container.sh"), "image.sif", "true"]
    ended = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and "neither apptainer nor singularity is here" in ended.stderr


@pytest.mark.slow
def test_install_gives_a_working_hg3(tmp_path: Path) -> None:
    """What %post does after the system's packages, in a clean environment, on exactly the files that go in."""
    source, environment = tmp_path / "hg3", tmp_path / "venv"
    source.mkdir()
    leave = shutil.ignore_patterns("__pycache__", "*.so")
    for name in (line.split()[0] for line in sections()["files"].split("\n") if line):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=leave)
        else:
            shutil.copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    post = re.sub(r"/opt/hg3\b", str(source), script("post")).replace("/opt/venv", str(environment))
    install = next(line for line in post.splitlines() if "install.sh" in line)
    index = index_of_torch()
    install = install.replace(arguments()["TORCH_INDEX"], index).replace('"cuda"', '"cpu"')
    ended = subprocess.run(["sh", "-eu", "-c", install], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    doctor = subprocess.run([environment / "bin/hg3", "doctor", "--json"], capture_output=True, check=True, cwd="/")
    assert json.loads(doctor.stdout)["extension"] is not None
    tests = [
        str(environment / "bin/python"),
        "-m",
        "pytest",
        "-q",
        "-m",
        "not slow and not cluster",
        "-p",
        "no:cacheprovider",
    ]
    few = ["tests/test_imports.py", "tests/sampling/test_ops.py"]
    ended = subprocess.run([*tests, *few], cwd=source, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def index_of_torch() -> str:
    """Return the index that this environment's torch came from; '' where pip's own had it."""
    record = ROOT / ".venv" / ".hg3-torch-index"
    return os.environ.get("TORCH_INDEX") or (record.read_text().strip() if record.is_file() else "")
