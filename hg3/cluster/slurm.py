"""What hg3 asks of SLURM's own commands; one question about all jobs, never one each."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hg3.errors import ClusterError

SECONDS = 60  # that a busy controller gets to answer
RETRY_SECONDS = 5
IDS_AT_ONCE = 1000  # of scancel, whose command line has an end
RUNNING = {"RUNNING", "CONFIGURING", "COMPLETING", "STAGE_OUT", "SIGNALING"}
WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "SUSPENDED"}
HELD = {"REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}  # in the queue, and never started until somebody releases it


class Seen(NamedTuple):
    """What SLURM says of a task: "running", "waiting", "held" or how it ended, in SLURM's word; the id of its array.

    why : what it waits for, if it does.
    """

    state: str
    job: str
    why: str | None = None


def tasks(names: Sequence[str]) -> dict[tuple[str, int], Seen]:
    """Return what SLURM knows of the tasks of the arrays `names`, by name and index; of ended ones, if sacct tells."""
    if not names:
        return {}
    wanted = "--name=" + ",".join(names)
    asked = "Name:|,ArrayJobID:|,ArrayTaskID:|,State:|,Reason:|"
    queue = _asked("squeue", "--me", "-h", "-r", wanted, "-t", "all", "-O", asked)
    try:
        ended = _asked("sacct", "-X", "-n", "-P", "-S", "now-60days", wanted, "-o", "JobName,JobID,State")
    except ClusterError:
        ended = ""  # a cluster without accounting
    return {**_read_ended(ended), **_read_queue(queue)}


def _read_queue(text: str) -> dict[tuple[str, int], Seen]:
    found = {}
    for line in text.splitlines():
        name, job, index, state, reason = (word.strip() for word in line.split("|")[:5])
        word, why = _word(state), reason.replace("_", " ")
        if word == "waiting" and "held" in why.lower():  # JobHeldUser, "launch failed requeued held"
            word = "held"
        said = None if why in ("", "None") or word not in ("waiting", "held") else why
        found[name, int(index) if index.isdecimal() else 0] = Seen(word, job, said)
    return found


def _read_ended(text: str) -> dict[tuple[str, int], Seen]:
    """Return what sacct says, whose ids are 7, 7_3 or, of those that wait, 7_[0-5], which squeue tells better."""
    found = {}
    for line in text.splitlines():
        name, job, state = line.split("|")[:3]
        array, _, index = job.partition("_")
        if not index or index.isdecimal():
            found[name, int(index or 0)] = Seen(_word(state), array)
    return found


def _word(state: str) -> str:
    state = (state.split() or ["UNKNOWN"])[0]  # "CANCELLED by 1000"
    for word, states in (("waiting", WAITING), ("held", HELD), ("running", RUNNING)):
        if state in states:
            return word
    return state


def largest_array() -> int:
    """Return how many tasks an array may have."""
    for line in _asked("scontrol", "show", "config").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "MaxArraySize":
            return max(int(value), 1)
    return 1001


def cancel(names: Sequence[str]) -> None:
    """Cancel the arrays `names`, waiting and running tasks alike; the last first, which may wait for an earlier one."""
    for name in reversed(names):  # scancel takes a single name
        _asked("scancel", "--me", f"--name={name}")


def cancel_tasks(jobs: Sequence[str]) -> None:
    """Cancel the tasks of the ids `jobs`; one that has ended in the meantime is none to complain of."""
    for first in range(0, len(jobs), IDS_AT_ONCE):
        _asked("scancel", "--quiet", *jobs[first : first + IDS_AT_ONCE])


def job_id() -> str | None:
    """Return the id of the task that this process is a part of, None outside SLURM."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID")


def own_job() -> str | None:
    """Return the id of the task that was submitted for this process alone; None where another has started it.

    So is a job of --cluster local or debug within an allocation of the user's, which is not hg3's to put back.
    """
    return job_id() if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" else None


def requeue(job: str, seconds: float) -> None:
    """Put the task that this process is back into the queue; where SLURM does not do it, try for so many seconds.

    The requeue ends every process of the task, `scontrol` among them, which ignores the signal so that it can finish.
    If it reports failure although it did its work, this process is ended before it asks again.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # children inherit what is ignored
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        try:
            subprocess.run(["scontrol", "requeue", job], check=True, timeout=min(SECONDS, left))
            return
        except (subprocess.SubprocessError, FileNotFoundError):
            time.sleep(RETRY_SECONDS)  # SLURM ends this process when the grace is over
    print(f"scontrol did not requeue for {seconds:.0f} s; job {job} is to be submitted again", file=sys.stderr)


def _asked(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except FileNotFoundError:
        raise ClusterError(f"there is no {command[0]} here; call it where SLURM is, or give --cluster local") from None
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{command[0]} did not answer within {SECONDS} s; try again later") from None
    if done.returncode:
        said = _last(done.stderr.splitlines()) or f"exit status {done.returncode}"
        raise ClusterError(f"{command[0]} refused: {said}")
    return done.stdout


def _last(lines: Iterable[str]) -> str:
    return next((line.strip() for line in reversed(list(lines)) if line.strip()), "")
