"""MLflow: the one module that imports it, and only when a store is opened."""

import fcntl
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hg3 import disk
from hg3.cluster.places import sqlite_path
from hg3.cluster.record import (
    EXPERIMENT,
    Tail,
    Value,
    change_record,
    files_of,
    name_of,
    now_ms,
    params_of,
    read_record,
    tags_of,
    values_of,
)
from hg3.errors import MissingLibraryError, RunError

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
        for some in _chunks(list(values), BATCH):
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


class Delivery:
    """What one run folder says, brought to one store: whatever the store has already is not sent again."""

    def __init__(self, run: Path, uri: str) -> None:
        self.run, self.uri = run, uri
        self.store: Store | None = None
        self.sent = 0  # numbers, by this object

    def push(self) -> None:
        """Send what the store lacks; after an error the next push asks the store what it got.

        Raises
        ------
        RunError
            If another process is at it.
        Exception
            Whatever MLflow raises.
        """
        with disk.lock(self.run / ".delivery.lock", "run folder"):
            try:
                self._push()
            except BaseException:
                self.store = None
                raise

    def _push(self) -> None:
        record = read_record(self.run)
        if self.store is None:
            self._open(record)
        self._send_metrics()
        self._send_files(record)
        self._send_tags({**tags_of(self.run, record), **_parent_tag(self.parent)})
        self._send_status(record)

    def _open(self, record: dict[str, Any]) -> None:
        self.store = store = Store(self.uri, record["experiment"])
        self.parent = record["parent"] and store.parent(record["parent"], record["parent_name"], {}, record["started"])
        tags = {**tags_of(self.run, record), **_parent_tag(self.parent)}
        self.run_id = store.run(record["id"], name_of(self.run, record), tags, record["started"])
        if record["runs"].get(self.uri) != self.run_id:
            change_record(self.run, runs={**record["runs"], self.uri: self.run_id})
        there = store.client.get_run(self.run_id)
        self.tags, self.status = dict(there.data.tags), ""
        params = {key: value for key, value in params_of(self.run).items() if key not in there.data.params}
        for some in _chunks(list(params.items()), 100):
            store.client.log_batch(self.run_id, params=[store.entities.Param(*pair) for pair in some])
        self.there = store.values(self.run_id, there.data.metrics)
        self.tails = (Tail(self.run / "metrics.jsonl"), Tail(self.run / "system.jsonl"))

    def _send_metrics(self) -> None:
        assert self.store is not None
        new = {value: at for value, at in self._read() if value not in self.there}
        self.store.send(self.run_id, new.items())
        self.there |= new.keys()
        self.sent += len(new)

    def _read(self) -> Iterator[tuple[Value, int]]:
        """Yield the new numbers with their times; those of updates have none of their own, but their file's."""
        metrics, system = self.tails
        at = int(metrics.path.stat().st_mtime * 1000) if metrics.path.is_file() else 0
        for entry in metrics.read():
            yield from ((value, at) for value in values_of(entry, entry["update"]))
        for entry in system.read():
            yield from ((value, entry["time"]) for value in values_of(entry, entry["step"]))

    def _send_files(self, record: dict[str, Any]) -> None:
        assert self.store is not None
        for name, path in files_of(self.run, record).items():
            key, digest = f"hg3.file.{name}", disk.sha256_of(path)
            if self.tags.get(key) != digest:
                folder = name.rpartition("/")[0]
                self.store.client.log_artifact(self.run_id, str(path), folder or None)
                self._send_tags({key: digest})

    def _send_tags(self, tags: dict[str, str]) -> None:
        assert self.store is not None
        new = {key: value for key, value in tags.items() if self.tags.get(key) != value}
        if new:
            self.store.client.log_batch(self.run_id, tags=[self.store.entities.RunTag(*pair) for pair in new.items()])
        self.tags |= new

    def _send_status(self, record: dict[str, Any]) -> None:
        assert self.store is not None
        if record["status"] == self.status:
            return
        if record["status"] in ("RUNNING", "SCHEDULED"):
            self.store.client.update_run(self.run_id, record["status"])
        else:
            self.store.client.set_terminated(self.run_id, record["status"], record["ended"])
        self.status = record["status"]


def register(uri: str, name: str, tags: dict[str, str], files: list[Path]) -> str:
    """Make the next version of model `name`, with `tags`, and `files` as artifacts; return its number."""
    store = Store(uri)
    client, found = store.client, tags["hg3.checkpoint"]
    run_id = store.run(f"model {name} {found}", f"model {name}", {}, now_ms())
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
    _mlflow()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return subprocess.run([*command, "--backend-store-uri", uri], check=False).returncode


def make_parent(uri: str, identity: str, name: str, tags: dict[str, str]) -> None:
    """Make store, experiment and the run of a submission, so that no two jobs make them at once."""
    Store(uri).parent(identity, name, tags, now_ms())


def merge(run: Path, uri: str) -> int:
    """Bring all that is tracked of a run into the store at `uri`; return how many numbers it lacked."""
    delivery = Delivery(run, uri)
    delivery.push()
    return delivery.sent


def _chunks(values: list[Any], size: int) -> Iterator[list[Any]]:
    yield from (values[i : i + size] for i in range(0, len(values), size))


def _parent_tag(run_id: str | None) -> dict[str, str]:
    return {"mlflow.parentRunId": run_id} if run_id else {}


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
