"""make gpu-check: what it says without a GPU, and that it goes on whatever a step does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_check import FEW_TESTS, ROOT, STEPS, TESTS, Step, check

TARGETS = [{"what": "copy bandwidth, without noise", "figure": 0.91234, "target": 0.9, "met": True}]
WRITE = "import json, sys; json.dump({'targets': %r}, open(sys.argv[1], 'w'))"
LATE_CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"


def program(code: str, name: str = "one", kept_s: int = 20) -> Step:
    return Step(name, (sys.executable, "-c", code, "{json}"), kept_s)


def count(targets: Any = TARGETS) -> Step:
    return program(WRITE % (targets,), "count")


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
        program(WRITE % (TARGETS,) + "; raise SystemExit(3)", "late"),
        Step("absent", ("hg3-no-such-program",), 20),
        count(),
    )
    outcomes = check(tmp_path / "out", steps)
    assert [outcome.result for outcome in outcomes] == [
        "failed with status 1",
        "failed with status 3",
        "not run: hg3-no-such-program is not on PATH",
        "passed",
    ]
    assert [outcome.targets for outcome in outcomes] == [[], TARGETS, [], TARGETS]
    assert (tmp_path / "out" / "broken.log").read_text() == "no such thing\n"
    written = json.loads((tmp_path / "out" / "gpu-check.json").read_text())["outcomes"]
    assert [(row["step"], row["targets"]) for row in written] == [(o.step, o.targets) for o in outcomes]
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.split() == ["copy", "bandwidth,", "without", "noise", "0.9123", "0.9", "yes"]


def test_a_step_takes_no_time_that_is_kept_for_those_after_it(tmp_path: Path) -> None:
    """An endless one is stopped with whatever it has started, and what comes next has its time."""
    steps = (program(LATE_CHILD, "endless", kept_s=6), program("import time; time.sleep(1)", "next", kept_s=30))
    outcomes = check(tmp_path / "out", steps, total_s=36)
    assert outcomes[0].result.startswith("stopped after ") and outcomes[0].seconds < 20
    assert outcomes[1].result == "passed"


def test_without_time_no_step_is_begun(tmp_path: Path) -> None:
    (outcome,) = check(tmp_path / "out", (count(),), total_s=1)
    assert (outcome.result, outcome.targets) == ("not run: no time left", [])


def test_figures_of_an_earlier_run_are_not_shown(tmp_path: Path) -> None:
    check(tmp_path / "out", (count(),))
    (outcome,) = check(tmp_path / "out", (program("pass", "count"),))
    assert outcome.targets == []


@pytest.mark.parametrize("targets", [{"ratio": 4.0}, [{"what": "half"}], None, "many"], ids=str)
def test_targets_of_another_form_are_none(tmp_path: Path, targets: object) -> None:
    (outcome,) = check(tmp_path / "out", (count(targets),))
    assert (outcome.result, outcome.targets) == ("passed", [])


def test_a_folder_of_something_else_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SystemExit, match="holds something else than an earlier make gpu-check: name another folder"):
        check(tmp_path, (count(),))
    assert (tmp_path / "thesis.tex").exists()


def test_every_step_has_its_share_of_nine_minutes() -> None:
    """None cuts another; a sanitizer comes after the figures, and last what has written some wherever it is stopped."""
    assert gpu_check.TOTAL_S == 9 * 60 == sum(step.kept_s for step in STEPS)
    names = [step.name for step in STEPS]
    assert names[:2] == ["build", "tests"] and names[-1] == "scale"
    assert max(map(names.index, ("reverse_step", "generate", "train"))) < names.index("memcheck")


def test_the_tests_that_it_names_are_there() -> None:
    """Those of the kernel alone run under the sanitizers; and every one that needs a GPU is among the others."""
    chosen = [word for word in TESTS if word.endswith(".py")]
    assert [word for word in FEW_TESTS if word.endswith(".py")] == chosen[:1]
    users = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py") if "NEEDS_GPU" in text(path)}
    users |= {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py") if "@DEVICES" in text(path)}
    assert users == set(chosen)


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path != Path(__file__) else ""
