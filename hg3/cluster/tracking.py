"""MLflow: the one module that imports it, and only when a store is opened."""

import fcntl
import logging
import os
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hg3.cluster.places import sqlite_path
from hg3.cluster.record import EXPERIMENT, Value, now_ms
from hg3.errors import Hg3Error, MissingLibraryError, RunError

BATCH = 1000  # metrics in a request, the most that MLflow takes
# A request that gets no answer is given up soon: what it was to bring is sent again at the next push.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true"}  # nothing leaves for the makers of MLflow


class Store:
    """A tracking store: a server, or a database, whose schema is made if it is new."""

    def __init__(self, uri: str, experiment: str = EXPERIMENT) -> None:
        mlflow = _mlflow()
        self.uri, self.entities = uri, mlflow.entities
        with _making(uri):
            self.client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
            self.experiment = self._experiment(experiment)

    def run(self, identity: str, name: str, tags: dict[str, str], started: int) -> str:
        """Return the run whose tag hg3.id is `identity`; it is made if it is not there."""
        found = self.client.search_runs([self.experiment], f"tags.`hg3.id` = '{identity}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        made = self.client.create_run(self.experiment, started, {"hg3.id": identity, **tags}, name)
        return str(made.info.run_id)

    def values(self, run_id: str, keys: Iterable[str]) -> set[Value]:
        """Return all that the store has of the metrics `keys` of a run."""
        history = (metric for key in keys for metric in self.client.get_metric_history(run_id, key))
        return {Value(metric.key, metric.step, repr(float(metric.value))) for metric in history}

    def send(self, run_id: str, values: Iterable[tuple[Value, int]]) -> None:
        """Send numbers with their times in milliseconds."""
        for some in chunks(list(values), BATCH):
            metrics = [self.entities.Metric(v.key, float(v.number), at, v.step) for v, at in some]
            self.client.log_batch(run_id, metrics=metrics)

    def parent(self, identity: str, name: str, tags: dict[str, str], started: int) -> str:
        """Return the run of a submission, which is finished as soon as it is made: its jobs have runs of their own."""
        run_id = self.run(identity, name, tags, started)
        self.client.set_terminated(run_id, "FINISHED", started)
        return run_id

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        path = sqlite_path(self.uri)
        if path is None:
            return str(self.client.create_experiment(name))  # a server knows where it keeps files
        artifacts = path.with_name("mlartifacts")
        artifacts.mkdir(mode=0o700, exist_ok=True)
        return str(self.client.create_experiment(name, artifacts.as_uri()))


def register(uri: str, name: str, tags: dict[str, str], files: list[Path]) -> str:
    """Make the next version of model `name`, with `tags`, and `files` as artifacts; return its number."""
    store = Store(uri)
    client, found = store.client, tags["hg3.checkpoint"]
    identity = f"model {name} {found} {uuid.uuid4().hex}"  # of a version: the next one has files of its own
    run_id = store.run(identity, f"model {name}", {}, now_ms())
    for path in files:
        client.log_artifact(run_id, str(path), "model")
    client.set_terminated(run_id, "FINISHED")
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    made = client.create_model_version(name, f"runs:/{run_id}/model", run_id, tags=tags)
    return str(made.version)


def version_tags(uri: str, name: str, number: str) -> dict[str, str]:
    """Return the tags of a version of a model.

    Raises
    ------
    RunError
        If there is no such version.
    """
    store = Store(uri)
    found = [v for v in store.client.search_model_versions(f"name = '{name}'") if str(v.version) == number]
    if not found:
        raise RunError(f"{uri} has no version {number} of a model {name!r}; MLFLOW_TRACKING_URI names another store")
    return dict(found[0].tags)


def serve(uri: str, port: int) -> int:
    """Show the store at `uri` on this machine's loopback, to nobody else, until it is interrupted."""
    if find_spec("mlflow") is None:
        raise MissingLibraryError("a store is shown by MLflow, which is not installed: pip install 'hg3[tracking]'")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return subprocess.run([*command, "--backend-store-uri", uri], check=False).returncode


def make_parent(uri: str, identity: str, name: str, tags: dict[str, str]) -> None:
    """Make store, experiment and the run of a submission, so that no two jobs make them at once."""
    with told(uri):
        Store(uri).parent(identity, name, tags, now_ms())


@contextmanager
def told(uri: str) -> Iterator[None]:
    """Turn what MLflow raises, which may be anything, into a sentence.

    Raises
    ------
    RunError
        If something was raised that is not hg3's own.
    """
    try:
        yield
    except Hg3Error:
        raise
    except Exception as error:
        said = next(iter(str(error).splitlines()), "")[:200]
        raise RunError(f"{uri} failed ({type(error).__name__}: {said}); see to it and call the same again") from error


def chunks(values: list[Any], size: int) -> Iterator[list[Any]]:
    """Yield `values` in lists of at most `size`."""
    yield from (values[i : i + size] for i in range(0, len(values), size))


def _mlflow() -> Any:
    for key, value in {**PATIENCE, **QUIET}.items():
        os.environ.setdefault(key, value)
    try:
        import mlflow
    except ImportError as error:
        raise MissingLibraryError(
            f"tracking needs MLflow, which cannot be imported ({error}): pip install 'hg3[tracking]', or go without"
        ) from None
    for name in ("alembic", "mlflow.store.db.utils"):  # pages about every table of a new store
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow


@contextmanager
def _making(uri: str) -> Iterator[None]:
    """Let one process at a time make the tables of a sqlite store; two at once break it."""
    path = sqlite_path(uri)
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not path.exists():
            path.touch(mode=0o600)  # losses on patients: their group reads them only if it is let
        yield
