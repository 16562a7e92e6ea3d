"""What runs in a job: pieces of work in turn, each with its record, and back into the queue when a signal comes."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from hg3.cluster import slurm
from hg3.cluster.kinds import KINDS
from hg3.cluster.records import IN_LOG, Record
from hg3.errors import ClusterError, Hg3Error
from hg3.training.signals import NUMBERS, Stopped, stop_on_signals

REQUEUE = 144  # the exit status on which submitit's local executor and slurm/container.sh start a task again
BY_SHELL = "HG3_REQUEUED_BY_SHELL"  # set by slurm/container.sh, which asks SLURM from outside the image
SIGNAL_AT = "HG3_SIGNAL_AT"  # when the time limit's signal is due, in seconds since 1970; the job's shell sets it
EARLY = 65.0  # seconds that it may come before, of which SLURM's own share is a minute
STOPPED = 130
LONGEST_GRACE = 600.0  # seconds
MOST_IDLE_STARTS = 5


def perform(steps: list[dict[str, Any]]) -> None:
    """Do the pieces of work `steps`, one after the other: {"kind", "call", "record"} each, plain data.

    What is done already is left alone, so that the same job may be started any number of times. An error is noted in
    the record and ends the job with it.
    """
    with stop_on_signals() as stopped:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)  # held back while Python started
        for step in steps:
            if not _perform(step, stopped):
                _go_on_later(stopped)


def _perform(step: dict[str, Any], stopped: Stopped) -> bool:
    """Do one piece of work; return False if a signal ended it, or came before it."""
    kind, call = KINDS[step["kind"]], step["call"]
    record = Record(Path(step["record"]), _job())
    record.begin()
    try:
        finished = not stopped() and kind.perform(call, record.tell, stopped)
        if not finished and _is_near_limit() and record.count_idle() >= MOST_IDLE_STARTS:
            raise ClusterError(
                f"{MOST_IDLE_STARTS} starts in a row reached the time limit before anything was done; give more "
                "minutes, or fewer grace_seconds, and submit what is missing"
            )
    except BaseException as error:
        record.end("failed", sentence(error))
        raise
    record.end("done" if finished else "stopped")
    return finished


def _job() -> str | None:
    """Return the id of this job as `hg3 jobs` knows it: SLURM's, or of one started here that of its process."""
    here = os.environ.get("SUBMITIT_EXECUTOR") == "local"
    return os.environ.get("SUBMITIT_LOCAL_JOB_ID") if here else slurm.job_id()


def _is_near_limit() -> bool:
    """Whether a signal that has come may be that of the time limit, and not of a job of more weight."""
    due = os.environ.get(SIGNAL_AT)
    return due is None or time.time() >= float(due) - EARLY


def sentence(error: BaseException) -> str:
    """Return an error in one line; of those that hg3 did not word itself only the kind, for a text may hold data."""
    if isinstance(error, Hg3Error):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno:
        where = f" ({error.filename})" if error.filename else ""
        return f"the system refused: {os.strerror(error.errno)}{where}"
    return f"{type(error).__name__}{IN_LOG}"


def _go_on_later(stopped: Stopped) -> None:
    """End this process so that the cluster starts the same job again, if it was not cancelled.

    USR2 says that the time limit is near or that a job of more weight needs the node: then this one goes back into the
    queue. SIGTERM alone may as well be a cancellation: SLURM, which knows, ends this process when the grace is over,
    and queues it again itself if it was to make room.
    """
    job = slurm.own_job()
    if job is None:
        sys.exit(REQUEUE if signal.SIGUSR2 in stopped.caught else STOPPED)
    until = time.monotonic() + LONGEST_GRACE
    while signal.SIGUSR2 not in stopped.caught and time.monotonic() < until:
        time.sleep(0.2)
    if os.environ.get(BY_SHELL):
        sys.exit(REQUEUE)
    slurm.requeue(job, LONGEST_GRACE)
    sys.exit(STOPPED)
