"""Tracking beside a training: a thread reads what the run folder says and sends it, whatever becomes of the store."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hg3.cluster.places import LATER, choose_store
from hg3.cluster.record import EXPERIMENT, begin_record, change_record, environment_tags, now_ms
from hg3.cluster.resources import Meter
from hg3.errors import Hg3Error, MissingLibraryError

EVERY_S = 5.0
LONGEST_WAIT_S = 60.0  # between two attempts on a store that does not answer
CLOSE_S = 30.0  # at most, for the last of it
PAUSE_S = 5.0  # the same, of a job that will go on: its grace may be short, and what is left goes with the next start
Plan = dict[str, Any]


def plan_tracking(wanted: str, folder: Path) -> Plan:
    """Return where one training is tracked: {"uri", "experiment"}; `wanted` is that of `choose_store`."""
    uri = choose_store(wanted, folder)
    if uri != LATER and find_spec("mlflow") is None:
        raise MissingLibraryError(
            "tracking needs MLflow, which is not installed: pip install 'hg3[tracking]', or --track later and "
            "hg3 track merge where it is"
        )
    return {"uri": uri, "experiment": EXPERIMENT}


def plan_submission(wanted: str, folder: Path, name: str, **tags: str) -> Plan:
    """Return the plan of a submission, plain data for its jobs, with store, experiment and parent run made.

    Parameters
    ----------
    wanted, folder : as for `choose_store`; folder holds the runs.
    name : of the parent run. tags : more of its tags.
    """
    plan = {**plan_tracking(wanted, folder), "id": uuid.uuid4().hex, "name": name}
    if plan["uri"] != LATER:
        from hg3.cluster.tracking import make_parent

        make_parent(plan["uri"], plan["id"], name, {**environment_tags(), **tags})
    return plan


class Tracker:
    """The tracking of one training; `report` is what `hg3.train` takes."""

    def __init__(self, run: Path, plan: Plan) -> None:
        self.run, self.plan = run, plan
        self.status = "FAILED"  # of an end that nobody announces
        self.problem: str | None = None  # why the last attempt failed, if it did
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None
        self.begun = False

    def report(self, entry: dict[str, Any]) -> None:
        """Begin with the first update, before which a training may still be refused."""
        if not self.plan or self.begun:
            return
        self.begun = True
        try:
            begin_record(self.run, self.plan)
        except (Hg3Error, OSError) as error:
            self.problem = str(error)
            return
        self.thread = threading.Thread(target=self._follow, name="hg3-tracking", daemon=True)
        self.thread.start()

    def close(self) -> str | None:
        """End in half a minute at most, or in seconds if the training will go on; say what was not delivered."""
        if self.thread is not None:
            with suppress(Hg3Error, OSError):  # a full disk has its own sentence, of the training
                change_record(self.run, status=self.status, ended=now_ms())
            self.ended.set()
            self.thread.join(PAUSE_S if self.status == "SCHEDULED" else CLOSE_S)
            if self.thread.is_alive():
                self.problem = "it does not answer"
        return self.problem and (
            f"not all could be tracked at {self.plan['uri']} ({self.problem}); nothing is lost: "
            f"hg3 track merge {self.run} sends the rest"
        )

    def _follow(self) -> None:
        meter, delivery, wait = Meter(self.run / "system.jsonl"), None, EVERY_S
        while not self.ended.wait(wait):
            with suppress(OSError):
                meter.write()
            delivery = self._deliver(delivery)
            wait = EVERY_S if self.problem is None else min(2 * wait, LONGEST_WAIT_S)
        self._deliver(delivery)

    def _deliver(self, delivery: Any) -> Any:
        """Send what is new; what cannot be sent waits in the run folder."""
        if self.plan["uri"] == LATER:
            return None
        try:
            if delivery is None:
                from hg3.cluster.delivery import Delivery

                delivery = Delivery(self.run, self.plan["uri"])
            delivery.push()
            self.problem = None
        except Exception as error:  # whatever it is, the training has nothing to do with it
            self.problem = type(error).__name__
        return delivery


@contextmanager
def tracked(run: Path, plan: Plan | None, warn: Callable[[str], None] = lambda sentence: None) -> Iterator[Tracker]:
    """Yield the tracker of a training; the block sets its `status` to FINISHED, or to SCHEDULED if it will go on."""
    tracker = Tracker(run, plan or {})
    try:
        yield tracker
    finally:
        left = tracker.close()
        if left:
            warn(left)
