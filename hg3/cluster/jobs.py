"""The one module that knows submitit: jobs of plain data, started on SLURM or on this machine."""

import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import hg3
from hg3.cluster.profiles import Profile
from hg3.cluster.tasks import SIGNAL_AT, perform
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
    if cluster == "local":
        return _start_here(submitit, folder, jobs, profile)
    options = {"slurm_max_num_timeout": MOST_REQUEUES, "slurm_python": python_of(profile)}
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster, **options)
        executor.update_parameters(**{**parameters(cluster, name, profile, after), "slurm_setup": setup_of(profile)})
        if len(jobs) == 1:
            return [str(executor.submit(perform, jobs[0]).job_id)]
        return [str(job.job_id) for job in executor.map_array(perform, jobs)]
    except (submitit.core.utils.FailedJobError, RuntimeError) as error:
        raise ClusterError(f"the cluster refused the jobs: {' '.join(str(error).split())}") from None


def parameters(cluster: str, name: str, profile: Profile, after: Sequence[str] = ()) -> dict[str, Any]:
    """Return what submitit is asked for."""
    if cluster == "local":
        return {"timeout_min": profile.minutes, "signal_delay_s": profile.grace_seconds}
    asked: dict[str, Any] = {"name": name, "timeout_min": profile.minutes}
    more = {key: value for key, value in {"requeue": True, **profile.sbatch}.items() if value is not False}
    asked |= {"cpus_per_task": profile.cpus, "mem_gb": profile.memory_gb, "slurm_additional_parameters": more}
    asked |= {"slurm_srun_args": [f"--cpus-per-task={profile.cpus}"]}  # srun does not inherit it since SLURM 22.05
    asked |= {"slurm_signal_delay_s": profile.grace_seconds, "slurm_array_parallelism": profile.parallel}
    named = {key: getattr(profile, key) for key in ("partition", "account", "qos", "constraint")}
    named |= {"setup": list(profile.setup) or None, "dependency": f"afterany:{':'.join(after)}" if after else None}
    asked |= {f"slurm_{key}": value for key, value in named.items() if value is not None}
    return asked | ({"gpus_per_node": profile.gpus} if profile.gpus else {})


def _start_here(submitit: Any, folder: Path, jobs: Sequence[Steps], profile: Profile) -> list[str]:
    """Start a process for each job on this machine; its GPUs go round among them, one each."""
    gpus, ids = gpus_here(), []
    for number, job in enumerate(jobs):
        gpu = gpus[number % len(gpus)] if gpus else ""
        executor = submitit.LocalExecutor(folder, max_num_timeout=MOST_REQUEUES, python=python_here(profile, gpu))
        executor.update_parameters(**parameters("local", "", profile))
        ids.append(str(executor.submit(perform, job).job_id))
    return ids


def gpus_here() -> list[str]:
    """Return the GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(number) for number in range(torch.cuda.device_count())]
    return [word.strip() for word in named.split(",") if word.strip()]


def python_here(profile: Profile, gpu: str) -> str:
    """Return the shell words that start Python on this machine, after the lines of setup, with one GPU or none."""
    lines = (f"export CUDA_VISIBLE_DEVICES={shlex.quote(gpu)}", *setup_of(profile), 'exec "$@"')
    return shlex.join(["bash", "-c", "\n".join(lines), "bash"]) + " " + python_of(profile)


def setup_of(profile: Profile) -> list[str]:
    """Return the lines of shell that come before a task: at first one that notes when it is to be told to save."""
    return [f"export {SIGNAL_AT}=$(($(date +%s) + {profile.minutes * 60 - profile.grace_seconds}))", *profile.setup]


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
