"""The one module that knows submitit: jobs of plain data, started on SLURM or on this machine."""

import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hg3
from hg3.cluster.profiles import Profile
from hg3.cluster.tasks import perform
from hg3.errors import ClusterError, MissingLibraryError

# Python takes seconds until a job's handlers are there, and a signal that finds none ends it. So this holds signals
# back and becomes the Python that follows; `perform` lets them in. What is held back is not lost over exec.
HOLD_SIGNALS = (
    "import os, signal, sys; "
    "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM}); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
CONTAINER_SCRIPT = Path(hg3.__file__).parents[1] / "slurm" / "container.sh"
MOST_REQUEUES = 1000  # submitit's own count; hg3 queues a job again itself
Steps = list[dict[str, Any]]


def start(
    cluster: str, folder: Path, name: str, jobs: Sequence[Steps], profile: Profile, after: Sequence[str] = ()
) -> list[str]:
    """Start one array of jobs and return their ids; `folder` gets their logs and must be fresh.

    Parameters
    ----------
    cluster : "slurm" or "local".
    name : of the array, by which it is found again whoever submitted it.
    after : ids of arrays that must have ended before.
    """
    submitit = _submitit()
    logging.getLogger("submitit").setLevel(logging.WARNING)
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster, **_options(cluster, profile))
        executor.update_parameters(**parameters(cluster, name, profile, after))
        if len(jobs) == 1:
            return [str(executor.submit(perform, jobs[0]).job_id)]
        return [str(job.job_id) for job in executor.map_array(perform, jobs)]
    except (submitit.core.utils.FailedJobError, RuntimeError) as error:
        raise ClusterError(f"the cluster refused the jobs: {' '.join(str(error).split())}") from None


def parameters(cluster: str, name: str, profile: Profile, after: Sequence[str] = ()) -> dict[str, Any]:
    """Return what submitit is asked for."""
    asked: dict[str, Any] = {"name": name, "timeout_min": profile.minutes}
    setup = list(profile.setup) if cluster == "slurm" else []
    if cluster == "local":
        return asked | {"gpus_per_node": profile.gpus, "local_setup": setup}
    more = {"requeue": True, **profile.sbatch}
    asked |= {"cpus_per_task": profile.cpus, "mem_gb": profile.memory_gb, "slurm_additional_parameters": more}
    asked |= {"slurm_srun_args": [f"--cpus-per-task={profile.cpus}"]}  # srun does not inherit it since SLURM 22.05
    asked |= {"slurm_signal_delay_s": profile.grace_seconds, "slurm_array_parallelism": profile.parallel}
    named = {key: getattr(profile, key) for key in ("partition", "account", "qos", "constraint")}
    named |= {"setup": setup or None, "dependency": f"afterany:{':'.join(after)}" if after else None}
    asked |= {f"slurm_{key}": value for key, value in named.items() if value is not None}
    return asked | ({"gpus_per_node": profile.gpus} if profile.gpus else {})


def _options(cluster: str, profile: Profile) -> dict[str, Any]:
    if cluster == "local":
        return {"local_max_num_timeout": MOST_REQUEUES, "local_python": python_of(Profile())}
    return {"slurm_max_num_timeout": MOST_REQUEUES, "slurm_python": python_of(profile)}


def python_of(profile: Profile) -> str:
    """Return the shell words that start Python in a job."""
    held = ["-I", "-S", "-c", HOLD_SIGNALS]
    if profile.container is None:
        return shlex.join([sys.executable, *held])
    if not CONTAINER_SCRIPT.is_file():
        raise ClusterError(f"a container needs {CONTAINER_SCRIPT}, which comes with a clone of hg3; submit from one")
    return shlex.join([str(CONTAINER_SCRIPT), profile.container, "python", *held])


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise MissingLibraryError("jobs need submitit; install hg3[cluster]") from None
    return submitit
