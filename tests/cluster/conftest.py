"""A real SLURM of one node for the tests marked `cluster`, brought up by the project's own script."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SLURM = Path(__file__).parents[2] / "slurm"
CANNOT = 2  # exit status of the script where a machine lacks something


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Bring up the cluster, point SLURM's commands to it, and yield its folder; skip where it cannot be."""
    home = tmp_path_factory.mktemp("slurm") / "node"
    env = {**os.environ, "HG3_SLURM_DIR": str(home), "HG3_SLURM_PORT": os.environ.get("HG3_SLURM_PORT", "6917")}
    up = subprocess.run([SLURM / "one-node-up.sh", "--install"], env=env, capture_output=True, text=True, check=False)
    if up.returncode == CANNOT:
        pytest.skip(f"no SLURM to test on: {up.stderr.strip().splitlines()[-1]}")
    assert up.returncode == 0, up.stderr
    changed = {"SLURM_CONF": str(home / "slurm.conf"), "OMP_NUM_THREADS": "1"}
    changed["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where hg3 is, for jobs of plain sbatch
    before = {key: os.environ.get(key) for key in changed}
    os.environ.update(changed)
    yield home
    subprocess.run([SLURM / "one-node-down.sh"], env=env, check=False)
    for key, value in before.items():
        os.environ.pop(key) if value is None else os.environ.update({key: value})
