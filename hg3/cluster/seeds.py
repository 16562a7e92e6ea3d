"""One seed as a job trains it, and whether that is done."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from hg3 import disk
from hg3.cluster.calls import Call, Stop, Tell
from hg3.cluster.follow import tracked
from hg3.cluster.record import RECORD, read_record
from hg3.config import parse_preset
from hg3.errors import RunError
from hg3.training.checkpoint import checkpoints
from hg3.training.run import train


def train_seed(call: Call, tell: Tell, stop: Stop) -> bool:
    """Train one seed, from its last checkpoint if there is one; return False if a signal ended it."""
    out = Path(call["out"])
    out.parent.mkdir(parents=True, exist_ok=True)
    # whose holder was killed, or its node lost, a lock may outlive for a while
    if not disk.appears(lambda: disk.is_free(out / ".lock"), stop) and stop():
        return False
    begun = (out / "config.toml").is_file()
    settings = {} if begun else {"schema": call["schema"], "preset": call["preset"], "changes": call["changes"]}
    length = {"updates": call["updates"]} if call["updates"] else {"minutes": call["minutes"]}
    warn = partial(print, file=sys.stderr)
    with tracked(out, call.get("tracking"), warn) as tracker:

        def both(entry: dict[str, Any]) -> None:
            tell(entry["update"], entry["total"])
            tracker.report(entry)

        told: dict[str, Any] = {"report": both, "warn": warn}
        finished = train(call["table"], out, seed=call["seed"], resume=begun, **told, **settings, **length)
        if finished:
            tracker.report({})  # of a start that had no update to make, but that the store has not been told of
        tracker.status = "FINISHED" if finished else "SCHEDULED"
    return finished


def is_trained(call: Call) -> bool:
    """Whether a training is at its end, and all is written and noted that comes after its last checkpoint."""
    run = Path(call["out"])
    found = checkpoints(run)
    if not found:
        return False
    try:
        state = disk.read_json(found[-1] / "state.json", "a checkpoint of hg3")
        config = (found[-1] / "config.toml").read_text(encoding="utf-8")
        if not _is_at_its_end(state, config, call["updates"]):
            return False
        drawn = _is_private(config) or _is_drawn(run, found[-1])
    except (OSError, RunError):  # on its way
        return False
    return drawn and ("tracking" not in call or _is_noted(run))


def _is_at_its_end(state: dict[str, Any], config: str, updates: int | None) -> bool:
    """Whether a checkpoint is at the total, or validation had stopped improving there."""
    total = updates or state["total"]
    patience = parse_preset(config, "config.toml", {}).training.patience
    return bool(total and state["update"] >= total) or state["validations_without_progress"] >= patience


def _is_private(config: str) -> bool:
    return parse_preset(config, "config.toml", {}).privacy is not None


def _is_drawn(run: Path, checkpoint: Path) -> bool:
    """Whether the loss curve was drawn after a checkpoint, and not when an earlier start was stopped."""
    return (run / "loss.png").stat().st_mtime >= (checkpoint / "state.json").stat().st_mtime


def _is_noted(run: Path) -> bool:
    """Whether tracking.json says that the run has ended; one that is altered, no further start would mend."""
    if not (run / RECORD).is_file():
        return False
    try:
        return read_record(run).get("status") not in ("RUNNING", "SCHEDULED")
    except RunError:
        return True
