"""Tracked trainings for tests: a real MLflow server, and what a store holds of a run."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hg3.cluster.places import answers, sqlite_uri
from hg3.cluster.record import read_record

START_S = 90.0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def server(store: Path, port: int) -> Iterator[str]:
    """Run MLflow's own server on a sqlite store, and kill it in the end without a word."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", sqlite_uri(store), "--artifacts-destination", str(store.with_name("artifacts"))]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(command, env=environment, start_new_session=True, **quiet)  # type: ignore[call-overload]
    uri, until = f"http://127.0.0.1:{port}", time.monotonic() + START_S
    try:
        while not answers(uri):
            assert process.poll() is None and time.monotonic() < until, "the server does not come up"
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def expected(run: Path) -> list[tuple[str, int, float]]:
    """Return each number of metrics.jsonl as a store must hold it, once."""
    return sorted((k, e["update"], v) for e in lines(run) for k, v in e.items() if k not in ("update", "total"))


def found(run: Path, uri: str) -> list[tuple[str, int, float]]:
    """Return each number of a run that the store at `uri` holds, but for those of the system."""
    import mlflow

    client, run_id = mlflow.MlflowClient(uri), read_record(run)["runs"][uri]
    keys = [key for key in client.get_run(run_id).data.metrics if not key.startswith("system/")]
    return sorted((m.key, m.step, m.value) for key in keys for m in client.get_metric_history(run_id, key))
