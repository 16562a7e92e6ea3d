"""What the tests on a cluster share: a cohort, a network of 50,000 parameters, and waiting for what must come."""

import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hg3.cluster.profiles import Profile, load_profile
from hg3.cluster.records import read_record
from hg3.cluster.state import Piece, pieces
from hg3.cluster.verbs import training_stage
from hg3.cluster.works import Stage, Work
from hg3.training.checkpoint import checkpoints
from hg3.training.run import train
from tests.training.cases import weight_hashes

SCHEMA = "art-hiv-v2"
CHANGES = {
    "network.width": "16",
    "network.levels": "2",
    "training.precision": "float32",
    "training.warmup": "2",
    "training.batch": "32",
    "training.validate_every": "50",
    "training.checkpoint_every": "10",
}
PATIENTS = 200
PATIENCE = 400.0  # seconds, of a busy machine


def profile(**changes: str) -> Profile:
    return load_profile("one-node", changes)


def trainings(table: Path, out: Path, seeds: Iterable[int], updates: int, **changes: str) -> Stage:
    """Return the training of seeds as the verb makes it."""
    stage = training_stage(table, out, list(seeds), SCHEMA, changes=CHANGES, updates=updates)
    return Stage(stage.name, stage.kind, stage.calls, profile(**changes))


def undisturbed(table: Path, out: Path, seed: int, updates: int) -> dict[str, str]:
    """Return the weights of a training that nothing happened to."""
    assert train(table, out, SCHEMA, changes=CHANGES, updates=updates, seed=seed)
    return weights(out)


def weights(run: Path) -> dict[str, str]:
    return weight_hashes(checkpoints(run)[-1])


def until(what: str, condition: Callable[[], Any], seconds: float = PATIENCE, every: float = 0.3) -> Any:
    """Wait until a condition holds and return it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(every)
    return found


def states(work: Work) -> list[str]:
    return [piece.state for piece in pieces(work)]


def settled(work: Work, seconds: float = PATIENCE) -> list[Piece]:
    """Wait until nothing of a work runs or waits, and return what became of it."""
    busy = {"running", "waiting"}

    def found() -> list[Piece]:
        seen = pieces(work)
        return [] if busy & {piece.state for piece in seen} else seen

    return list(until(f"{work.folder} settles", found, seconds, every=1.0))


def all_done(work: Work, seconds: float = PATIENCE) -> None:
    """Wait until a work has settled, and say what is not done."""
    assert [(piece.name, piece.state, piece.why) for piece in settled(work, seconds) if piece.state != "done"] == []


def starts(work: Work) -> int:
    """Return how often the jobs of a work were started, requeues included."""
    return sum(starts_of_each(work))


def starts_of_each(work: Work) -> list[int]:
    """Return how often each task of a work was started; a requeue adds to the log of its task."""
    logs = work.folder.glob("submission-*/*/*_log.out")
    return [log.read_text(encoding="utf-8").count("Loading pickle") for log in logs]


def ended(work: Work) -> bool:
    """Whether every job of a work has noted that it is done, which comes after all that it does."""
    records = [work.record(stage, index) for stage in work.stages for index in range(len(stage.calls))]
    return all(read_record(path).get("state") == "done" for path in records)


def preempt() -> None:
    """Push everything out of the node for a second."""
    sbatch("-p", "high", "--exclusive", "--mem=0", "-o", "/dev/null", "--wrap", "sleep 1")


def sbatch(*arguments: object) -> str:
    """Submit a script with plain sbatch and return its job id."""
    command = ["sbatch", "--parsable", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def is_over(job: str) -> bool:
    """Whether a job of plain sbatch waits and runs no longer."""
    asked = ["squeue", "-h", "-j", job, "-t", "pending,running,completing,configuring,suspended"]
    return not subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def accounted(*which: str) -> list[str]:
    """Return how each start of some jobs ended, as SLURM's accounting has it."""
    asked = ["sacct", "-D", "-X", "-n", "-P", *which, "-o", "State"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
