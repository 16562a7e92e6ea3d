"""The kinds of work that jobs do: each a function of plain data, each judged by what it left on disk."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hg3 import disk
from hg3.cluster.choice import SCORE, chosen_run
from hg3.cluster.follow import tracked
from hg3.cluster.merge import attach
from hg3.cluster.record import RECORD
from hg3.config import parse_preset
from hg3.errors import RunError
from hg3.release.manifest import INCOMPLETE, SUMS
from hg3.release.share import generate_share, shares_made
from hg3.release.writer import PLAN, generate
from hg3.training.checkpoint import checkpoints
from hg3.training.run import train

Call = dict[str, Any]  # arguments of one piece of work: plain data, as work.json holds it
Stop = Callable[[], bool]


class Tell(Protocol):
    """Takes how much is done, of how much, and how much of it a stop would leave; all of it if not said."""

    def __call__(self, done: int, total: int | None, kept: int | None = None) -> None: ...


class Kind(NamedTuple):
    """How a piece of work is done (False if a signal ended it early), and which of a stage's pieces are done."""

    perform: Callable[[Call, Tell, Stop], bool]
    are_done: Callable[[Sequence[Call]], list[bool]]


def each(is_done: Callable[[Call], bool]) -> Callable[[Sequence[Call]], list[bool]]:
    """Return what asks `is_done` of every piece."""
    return lambda calls: [is_done(call) for call in calls]


def train_seed(call: Call, tell: Tell, stop: Stop) -> bool:
    """Train one seed, from its last checkpoint if there is one."""
    out = Path(call["out"])
    out.parent.mkdir(parents=True, exist_ok=True)
    begun = (out / "config.toml").is_file()
    settings = {} if begun else {"schema": call["schema"], "preset": call["preset"], "changes": call["changes"]}
    length = {"updates": call["updates"]} if call["updates"] else {"minutes": call["minutes"]}
    with tracked(out, call.get("tracking"), partial(print, file=sys.stderr)) as tracker:

        def both(entry: dict[str, Any]) -> None:
            tell(entry["update"], entry["total"])
            tracker.report(entry)

        finished = train(call["table"], out, seed=call["seed"], resume=begun, report=both, **settings, **length)
        tracker.status = "FINISHED" if finished else "SCHEDULED"
    return finished


def is_trained(call: Call) -> bool:
    """Whether a run's last checkpoint is at its total, or validation had stopped improving there."""
    found = checkpoints(Path(call["out"]))
    if not found:
        return False
    try:
        state = disk.read_json(found[-1] / "state.json", "a checkpoint of hg3")
        config = (found[-1] / "config.toml").read_text(encoding="utf-8")
    except (OSError, RunError):  # on its way
        return False
    total = call["updates"] or state["total"]
    return bool(total and state["update"] >= total) or state["validations_without_progress"] >= patience_of(config)


def patience_of(config: str) -> int:
    """Return after how many validations without progress the run of this config.toml ends."""
    return parse_preset(config, "config.toml", {}).training.patience


def generate_parts(call: Call, tell: Tell, stop: Stop) -> bool:
    """Make parts of a release until none is free; False if a signal came before."""
    out = Path(call["out"])
    out.parent.mkdir(parents=True, exist_ok=True)
    generate_share(
        run_of(call),
        out,
        call["patients"],
        call["seed"],
        task=(call["task"], call["tasks"]),
        should_stop=stop,
        report=lambda entry: tell(entry["patients"], None, entry["kept"]),
        compile=call["compile"],
        **call["asked"],
    )
    return not stop() or is_released(call)


def are_shared_out(calls: Sequence[Call]) -> list[bool]:
    """Return whether each task's share of a release is made, by whomever."""
    made = shares_made(Path(calls[0]["out"]), calls[0]["tasks"])
    return [made[call["task"]] for call in calls]


def run_of(call: Call) -> Path:
    """Return the run that a release is made from: the one given, or the best of several."""
    return Path(call["run"]) if call.get("choice") is None else chosen_run(call["choice"])


def is_released(call: Call) -> bool:
    """Whether the release is complete, and nothing of its making is left."""
    return is_whole(call) and not (Path(call["out"]) / INCOMPLETE).exists()


def is_whole(call: Call) -> bool:
    """Whether the release is complete, be it that whoever completed it, or was to repair it, was killed at it."""
    out = Path(call["out"])
    return (out / SUMS).is_file() and not (out / INCOMPLETE / PLAN).exists()


def score_seed(call: Call, tell: Tell, stop: Stop) -> bool:
    """Make a small release of a run and compare it with the run's validation patients."""
    from hg3.release.evaluate import evaluate_release

    run, release, out = (Path(call[key]) for key in ("run", "release", "out"))
    if not disk.appears(lambda: is_trained({**call, "out": str(run)}), stop):
        return _stopped(stop, f"{run} is not trained to its end, so it cannot be scored")
    release.parent.mkdir(parents=True, exist_ok=True)
    generate(run, release, call["patients"], report=lambda entry: tell(entry["patients"], entry["of"]))
    evaluate_release(release, out, run=run, gates=call["gates"], held="validation")
    return True


def _stopped(stop: Stop, problem: str) -> bool:
    """Return False if a signal ended the wait for another stage's files; raise `problem` if they did not appear."""
    if stop():
        return False
    raise RunError(f"{problem}, nor did that change within {disk.SLOWEST_S:.0f} s; submit what is missing")


def is_scored(call: Call) -> bool:
    """Whether a run has been compared with its validation patients."""
    return (Path(call["out"]) / SCORE).is_file()


def judge_release(call: Call, tell: Tell, stop: Stop) -> bool:
    """Evaluate a release on the hold-out and certify it, whatever the verdict."""
    from hg3.release.certify import certify_release
    from hg3.release.evaluate import evaluate_release

    if not disk.appears(lambda: is_released({"out": call["release"]}), stop):
        return _stopped(stop, f"{call['release']} is not complete, so it cannot be judged")
    run = run_of(call)
    evaluate_release(call["release"], call["out"], run=run, utility=call["utility"], gates=call["gates"])
    if (run / RECORD).is_file():  # before the certificate, after which nobody comes back here
        attach(run, [call["release"], call["out"]])
    certify_release(call["release"], call["out"], call["gates"], force=True)
    return True


def is_judged(call: Call) -> bool:
    """Whether the release has its certificate."""
    return (Path(call["release"]) / "certificate.json").is_file()


KINDS = {
    "train": Kind(train_seed, each(is_trained)),
    "generate": Kind(generate_parts, are_shared_out),
    "score": Kind(score_seed, each(is_scored)),
    "judge": Kind(judge_release, each(is_judged)),
}
