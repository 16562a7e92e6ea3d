"""Training in two processes, as torchrun starts them, with gloo: the curve of one process, and one writer."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from hg3.training import run as verb
from hg3.training.checkpoint import checkpoints, read_state
from hg3.training.distributed import Processes
from tests.runs import options
from tests.table.cases import make_schema, tiny_columns
from tests.training.cases import (
    TINY,
    UPDATES,
    Inputs,
    make_inputs,
    make_private_inputs,
    tiny_train,
    weight_hashes,
)

pytestmark = pytest.mark.slow  # two processes import torch


def torchrun(inputs: Inputs, out: Path, *more: object, count: int = 2) -> "subprocess.Popen[str]":
    """Start `hg3 train` in `count` processes."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m", "hg3"]
    wish = ["train", str(inputs.table), "--out", str(out), *map(str, more)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*start, *wish], env=environment, **pipes)


def fresh(inputs: Inputs, changes: dict[str, str], updates: int) -> list[str]:
    return ["--schema", str(inputs.schema), "--updates", str(updates), *options(TINY | changes)]


def curve(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


PUBLISHED = {
    "network.kind": "health-gym-v3",
    "loss.kind": "health-gym-v3",
    "heads.real": "eps",
    "heads.category": "eps",
    "training.condition": "0",
    "network.pad_to": "16",
}


@pytest.mark.parametrize(
    "changes", [{}, {"training.batch": "9"}, PUBLISHED], ids=["hg3", "a slice of 4 and one of 5", "published"]
)
def test_two_processes_give_the_curve_of_one(tmp_path: Path, changes: dict[str, str]) -> None:
    columns = [column | {"static": False} for column in tiny_columns()] if changes == PUBLISHED else tiny_columns()
    inputs = make_inputs(tmp_path, schema=make_schema(columns, name="tiny"))
    tiny_train(inputs, tmp_path / "one", changes=changes)
    ended = torchrun(inputs, tmp_path / "two", *fresh(inputs, changes, UPDATES))
    said = ended.communicate()
    assert ended.returncode == 0, said
    assert said[0].count("trained; run in") == 1  # the first process alone speaks
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert len(one) == len(two) >= 3
    assert any("attack" in line for line in one) == (changes != PUBLISHED)  # whose loss is of no patient alone
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=1e-5, abs=1e-7)
    assert read_state(checkpoints(tmp_path / "two")[-1])["update"] == UPDATES


def test_stopped_together_and_resumed(inputs: Inputs, tmp_path: Path) -> None:
    """A signal to one process stops both at one update, and what goes on ends with an undisturbed run's weights."""
    changes = {"training.validate_every": "150"}
    undisturbed = torchrun(inputs, tmp_path / "whole", *fresh(inputs, changes, 300))
    begun = torchrun(inputs, tmp_path / "run", *fresh(inputs, changes, 300))
    until = time.monotonic() + 120
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.is_file() and metrics.stat().st_size) and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(int(children(begun.pid)[-1]), signal.SIGTERM)
    said = begun.communicate()[1]
    assert "NO_OTHER_FAILURES" in said and said.count("exitcode  : 130") == 1, said  # the leader's; the other's is 0
    stopped = read_state(checkpoints(tmp_path / "run")[-1])["update"]
    assert begun.returncode != 0 and 0 < stopped < 300
    resumed = torchrun(inputs, tmp_path / "run", "--resume")
    assert (resumed.communicate(), undisturbed.communicate()) and resumed.returncode == undisturbed.returncode == 0
    last = [checkpoints(tmp_path / name)[-1] for name in ("run", "whole")]
    assert weight_hashes(last[0]) == weight_hashes(last[1])


def test_leader_is_waited_for_until_it_has_saved(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Watched(Processes):
        def wait(self) -> None:
            seen.append(len(checkpoints(tmp_path / "run")))

    monkeypatch.setattr(verb, "processes", lambda device: nullcontext(Watched(device=device)))
    tiny_train(inputs, tmp_path / "run")
    assert seen[0] == 0 and seen[-1] > 0


def children(process: int) -> list[str]:
    """Return the processes that `process` has started, in their order."""
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def test_private_training_is_refused(tmp_path: Path) -> None:
    inputs = make_private_inputs(tmp_path / "private")
    ended = torchrun(inputs, tmp_path / "run", *fresh(inputs, {"privacy.epsilon": "8"}, 3))
    said = ended.communicate()[1]
    assert ended.returncode != 0 and "a private training runs in one process" in said
    assert not (tmp_path / "run").exists()
