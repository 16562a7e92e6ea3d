"""The kinds of work that jobs do: each a function of plain data, each judged by what it left on disk."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hg3 import disk
from hg3.cluster.calls import Call, Stop, StoppedError, Tell
from hg3.cluster.choice import SCORE, chosen_run
from hg3.cluster.merge import attach
from hg3.cluster.record import RECORD
from hg3.cluster.seeds import is_trained, train_seed
from hg3.errors import RunError
from hg3.release.making import PLAN
from hg3.release.manifest import INCOMPLETE, SUMS
from hg3.release.share import generate_share, shares_made
from hg3.release.writer import generate


class Kind(NamedTuple):
    """How a piece of work is done (False if a signal ended it early), and which of a stage's pieces are done."""

    perform: Callable[[Call, Tell, Stop], bool]
    are_done: Callable[[Sequence[Call]], list[bool]]


def each(is_done: Callable[[Call], bool]) -> Callable[[Sequence[Call]], list[bool]]:
    """Return what asks `is_done` of every piece."""
    return lambda calls: [is_done(call) for call in calls]


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
        mix=call.get("mix", False),
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
    """Make a small release of a run and compare it with the run's validation patients; False if a signal came."""
    from hg3.release.evaluate import evaluate_release

    run, release, out = (Path(call[key]) for key in ("run", "release", "out"))
    if not disk.appears(lambda: is_trained({**call, "out": str(run)}), stop):
        return _stopped(stop, f"{run} is not trained to its end, so it cannot be scored")
    release.parent.mkdir(parents=True, exist_ok=True)

    def report(entry: dict[str, Any]) -> None:
        tell(entry["patients"], entry["of"], 0)
        _leave_if(stop)

    try:
        # mixed, for whichever node goes on with it: it is made to be compared once, and never released
        generate(run, release, call["patients"], mix=True, report=report)
        tell(call["patients"], call["patients"])
        evaluate_release(release, out, run=run, gates=call["gates"], held="validation", report=_between(stop))
    except StoppedError:
        return False
    return True


def _leave_if(stop: Stop) -> None:
    if stop():
        raise StoppedError


def _between(stop: Stop) -> Callable[[str, dict[str, Any]], None]:
    """Return what an evaluation reports to before each section, to be left there after a signal."""

    def report(stage: str, entry: dict[str, Any]) -> None:
        if entry["done"] < entry["of"]:  # after the last one, writing it down takes seconds
            _leave_if(stop)

    return report


def _stopped(stop: Stop, problem: str) -> bool:
    """Return False if a signal ended the wait for another stage's files; raise `problem` if they did not appear."""
    if stop():
        return False
    raise RunError(f"{problem}, nor did that change within {disk.SLOWEST_S:.0f} s; submit what is missing")


def is_scored(call: Call) -> bool:
    """Whether a run has been compared with its validation patients."""
    return (Path(call["out"]) / SCORE).is_file()


def judge_release(call: Call, tell: Tell, stop: Stop) -> bool:
    """Evaluate a release on the hold-out and certify it, whatever the verdict; False if a signal came before."""
    from hg3.release.certify import certify_release
    from hg3.release.evaluate import evaluate_release

    if not disk.appears(lambda: is_released({"out": call["release"]}), stop):
        return _stopped(stop, f"{call['release']} is not complete, so it cannot be judged")
    run = run_of(call)
    asked = {"utility": call["utility"], "gates": call["gates"]}
    try:
        evaluate_release(call["release"], call["out"], run=run, report=_between(stop), **asked)
    except StoppedError:
        return False
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
