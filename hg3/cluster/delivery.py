"""What one run folder says, brought to one store: sent once, however often it is sent."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hg3 import disk
from hg3.cluster.record import (
    Tail,
    Value,
    change_record,
    files_of,
    name_of,
    params_of,
    read_record,
    tags_of,
    values_of,
)
from hg3.cluster.tracking import Store, chunks, told


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
        for some in chunks(list(params.items()), 100):
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


def merge(run: Path, uri: str) -> int:
    """Bring all that is tracked of a run into the store at `uri`; return how many numbers it lacked.

    Raises
    ------
    RunError
        If the store does not take it, or another process is at it.
    """
    delivery = Delivery(run, uri)
    with told(uri):
        delivery.push()
    return delivery.sent


def _parent_tag(run_id: str | None) -> dict[str, str]:
    return {"mlflow.parentRunId": run_id} if run_id else {}
