"""What the cluster says of the jobs of a work: each piece's last one, after one question about all of them."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from hg3.cluster import slurm
from hg3.cluster.works import Array, Work, read_arrays, submissions
from hg3.errors import ClusterError


@dataclass(frozen=True)
class Sight:
    """What the cluster says of the job that a piece of work was last given to; `log` is where its errors go.

    alone : whether the job does nothing else. reason : what it waits for, if it does.
    """

    state: str
    job: str | None
    alone: bool
    log: Path | None
    reason: str | None = None

    def why(self) -> str | None:
        """Return how the job ended, and the last line of its log; of one that is held, why, and what to do."""
        if self.state == "held":
            return f"{self.reason or 'held'}: --resume submits it again, scontrol release {self.job} lets it go on"
        word = None if self.state in ("COMPLETED", "unknown") else self.state
        last = None
        if self.log is not None and self.log.is_file():
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            last = next((line.strip() for line in reversed(lines) if line.strip()), None)
        return ": ".join(text for text in (word, last) if text) or None


UNSEEN = Sight("unknown", None, True, None)


def seen_by_cluster(work: Work) -> dict[tuple[str, int], Sight]:
    """Return what the cluster says of each piece, (stage, index); of several jobs the one that is active, or the last.

    Those of --cluster local that another machine has started are "elsewhere".
    """
    arrays = [(folder, array) for folder in submissions(work) for array in read_arrays(folder)]
    known = slurm.tasks([array.name for _, array in arrays]) if work.cluster == "slurm" else {}
    found: dict[tuple[str, int], Sight] = {}
    for folder, array in arrays:
        for place, steps in enumerate(array.jobs):
            if work.cluster == "slurm":
                seen = known.get((array.name, place))
                sight = _sight(folder, array, place, seen, len(steps) == 1)
            else:
                sight = _local_sight(folder, array, place, len(steps) == 1)
            for step in steps:
                if step not in found or found[step].state not in ("running", "waiting"):
                    found[step] = sight
    return found


def _sight(folder: Path, array: Array, place: int, seen: slurm.Seen | None, alone: bool) -> Sight:
    if seen is None:
        return UNSEEN
    job = f"{seen.job}_{place}" if len(array.jobs) > 1 else seen.job
    return Sight(seen.state, job, alone, folder / array.name / f"{job}_0_log.err", seen.why)


def _local_sight(folder: Path, array: Array, place: int, alone: bool) -> Sight:
    """Return what this machine says of a job that was started here: its id is that of its process."""
    if place >= len(array.ids):
        return Sight("unknown", None, alone, None)
    host, _, process = array.ids[place].rpartition(":")
    log = folder / array.name / f"{process}_0_log.err"
    if host != socket.gethostname():
        return Sight("elsewhere", process, alone, log, host)
    return Sight("running" if _is_submitit(int(process)) else "unknown", process, alone, log)


def _is_submitit(process: int) -> bool:
    """Whether a process is there and is a job's, for ids are used again."""
    try:
        os.kill(process, 0)
        return b"submitit" in Path(f"/proc/{process}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False


def local_processes(work: Work) -> list[int]:
    """Return the processes of local jobs that live.

    Raises
    ------
    ClusterError
        If some were started on another machine than this.
    """
    sights = list(seen_by_cluster(work).values())
    for sight in sights:
        if sight.state == "elsewhere":
            raise elsewhere(work, str(sight.reason))
    return sorted({int(sight.job) for sight in sights if sight.state == "running" and sight.job})


def elsewhere(work: Work, host: str) -> ClusterError:
    """Return the error that says where the jobs of a work can be seen."""
    return ClusterError(
        f"the jobs of {work.folder} were started on {host} and this is {socket.gethostname()}, from where they cannot "
        f"be seen: ask on {host}; if it is no more, remove {work.folder} and submit again, which goes on with what is "
        "made"
    )
