"""make gpu-check: what it says without a GPU, and that it goes on whatever a step does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_check import ROOT, STEPS, Step, check

COUNT = "import json, sys; json.dump({'ratio': 4.25}, open(sys.argv[1], 'w'))"
LATE_CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"


def program(code: str, name: str = "one", limit_s: int = 20) -> Step:
    return Step(name, (sys.executable, "-c", code, "{json}"), limit_s)


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", "--out", str(tmp_path / "out")],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("hg3: torch 2.") and "sees no CUDA device here: run make gpu-check where" in sentence
    assert not (tmp_path / "out").exists()


def test_a_step_that_fails_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = (
        program("raise SystemExit('no such thing')", "broken"),
        program(LATE_CHILD, "endless", limit_s=1),
        Step("absent", ("hg3-no-such-program",), 20),
        program(COUNT, "count"),
    )
    outcomes = check(tmp_path / "out", steps)
    assert [outcome.result for outcome in outcomes] == [
        "failed with status 1",
        "stopped after 1 s",
        "not run: hg3-no-such-program is not on PATH",
        "passed",
    ]
    assert [outcome.ratio for outcome in outcomes] == [None, None, None, 4.25]
    assert (tmp_path / "out" / "broken.log").read_text() == "no such thing\n"
    written = json.loads((tmp_path / "out" / "gpu-check.json").read_text())["outcomes"]
    assert [row["step"] for row in written] == ["broken", "endless", "absent", "count"]
    assert capsys.readouterr().out.splitlines()[-1].split()[::2] == ["count", "4.25"]


def test_what_is_left_of_the_time_bounds_every_step(tmp_path: Path) -> None:
    assert [outcome.result for outcome in check(tmp_path / "out", (program(COUNT),), total_s=1)] == [
        "not run: no time left"
    ]


def test_figures_of_an_earlier_run_are_not_shown(tmp_path: Path) -> None:
    check(tmp_path / "out", (program(COUNT),))
    assert [outcome.ratio for outcome in check(tmp_path / "out", (program("pass"),))] == [None]


def test_a_folder_of_something_else_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SystemExit, match="holds something else than an earlier make gpu-check: name another folder"):
        check(tmp_path, (program(COUNT),))
    assert (tmp_path / "thesis.tex").exists()


def test_all_of_it_takes_nine_minutes_at_most() -> None:
    """The limits alone add up to more: what comes late is cut, and the kernel's tests come before what may be."""
    assert gpu_check.TOTAL_S <= 9 * 60
    first = [step.name for step in STEPS[:3]]
    assert first == ["build", "tests", "reverse_step"]
    assert sum(step.limit_s for step in STEPS[:3]) < gpu_check.TOTAL_S
