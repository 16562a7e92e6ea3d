"""What a run folder says of itself to a tracking store: everything that is tracked is read from it, and from it only.

So nothing needs a buffer: a training writes metrics.jsonl whatever becomes of the store, and what the store lacks can
be sent at any time, by the job, by the one that resumes it, or by `hg3 track merge`. Files that hold values of
patients are never read here: split.json gives its table's hash and nothing else.
"""

import fcntl
import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from hg3 import __version__, disk
from hg3.cluster import slurm
from hg3.config import Preset, parse_preset
from hg3.errors import RunError

FORMAT = 1
RECORD = "tracking.json"
EXPERIMENT = "hg3"
# All that is ever sent as a file. None of it holds a patient's value: a report suppresses, a manifest holds sums.
RUN_FILES = ("config.toml", "loss.png")
RELEASE_FILES = ("manifest.json", "certificate.json")
REPORT_FILES = ("report.html", "metrics.json")
NOT_METRICS = ("update", "total", "step", "time")


class Value(NamedTuple):
    """One number of one metric at one step; `repr` so that NaN equals NaN."""

    key: str
    step: int
    number: str


class Tail:
    """The whole lines that a JSON-lines file has got since they were last read; all of them if it was replaced."""

    def __init__(self, path: Path) -> None:
        self.path, self.place, self.inode = path, 0, 0

    def read(self) -> list[dict[str, Any]]:
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self.inode or status.st_size < self.place:
                    self.place, self.inode = 0, status.st_ino
                file.seek(self.place)
                content = file.read()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self.place += len(whole)
        return [entry for line in whole.splitlines() if (entry := _entry(line)) is not None]


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return the content of a line; None of one that a kill or a full disk has cut, and the next was glued to."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def values_of(entry: dict[str, Any], step: int) -> Iterator[Value]:
    """Yield the numbers of a line of metrics.jsonl or system.jsonl; null, which is not finite, is NaN."""
    for key, number in entry.items():
        if key not in NOT_METRICS:
            yield Value(key, step, repr(float("nan") if number is None else float(number)))


def read_record(run: Path) -> dict[str, Any]:
    """Return tracking.json of a run.

    Raises
    ------
    RunError
        If there is none, or it was written by a newer hg3.
    """
    record = disk.read_json(run / RECORD, "a tracked run")
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise RunError(f"{run / RECORD} is altered or of a newer hg3: this one reads format {FORMAT}; update hg3")
    return record


def begin_record(run: Path, plan: dict[str, Any]) -> None:
    """Note in tracking.json that a job works on `run`; a run that was tracked before keeps its identity."""
    if (run / RECORD).is_file():
        record = read_record(run)
    else:
        parent = plan.get("id")
        record = {"format": FORMAT, "id": uuid.uuid4().hex, "parent": parent, "runs": {}, "jobs": [], "attached": []}
        record |= {"started": now_ms(), "experiment": plan["experiment"], "parent_name": plan.get("name")}
    job = slurm.job_id()
    jobs = [*record["jobs"], job] if job and job not in record["jobs"] else record["jobs"]  # not at every requeue
    tags = {**record.get("tags", {}), **environment_tags()}
    disk.write_json(run / RECORD, {**record, "uri": plan["uri"], "jobs": jobs, "tags": tags, "status": "RUNNING"})


def change_record(run: Path, **changes: Any) -> dict[str, Any]:
    """Write tracking.json with `changes`, and return it; one thread or process after the other."""
    with (run / ".tracking.lock").open("a") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        record = {**read_record(run), **changes}
        disk.write_json(run / RECORD, record)
    return record


def name_of(run: Path, record: dict[str, Any]) -> str:
    """Return what a run is called in a store: its seed below a submission, its folder otherwise."""
    return f"seed {_split_head(run).get('seed')}" if record["parent"] else run.resolve().name


def preset_of(run: Path) -> Preset:
    """Return the resolved preset of a run."""
    return parse_preset((run / "config.toml").read_text(encoding="utf-8"), str(run / "config.toml"), {})


def params_of(run: Path) -> dict[str, str]:
    """Return the resolved preset as `part.key`, and the seed."""
    preset = preset_of(run).model_dump(mode="json", exclude_none=True)
    flat = {"preset": preset["name"], "seed": _split_head(run).get("seed")}
    for part, content in preset.items():
        if isinstance(content, dict):
            flat |= {f"{part}.{key}": value for key, value in content.items()}
    return {key: str(value) for key, value in flat.items()}


def tags_of(run: Path, record: dict[str, Any]) -> dict[str, str]:
    """Return what tells where a run comes from: code, data, container, jobs.

    Not the data of a private training: a hash of its table tells for certain whether a guessed table is it.
    """
    tags = {"hg3.id": record["id"], **record["tags"]}
    table = _split_head(run).get("table", {})
    tags |= {"data_sha256": table["sha256"]} if "sha256" in table and preset_of(run).privacy is None else {}
    return tags | ({"slurm_job_ids": " ".join(record["jobs"])} if record["jobs"] else {})


def files_of(run: Path, record: dict[str, Any]) -> dict[str, Path]:
    """Return the files that are tracked, by the place that they have among a run's artifacts."""
    found = {name: run / name for name in RUN_FILES}
    for folder in map(Path, record["attached"]):
        found |= {f"{folder.name}/{name}": folder / name for name in (*RELEASE_FILES, *REPORT_FILES)}
    return {name: path for name, path in found.items() if path.is_file()}


def environment_tags() -> dict[str, str]:
    """Return commit, version and container of this process."""
    tags = {"hg3.version": __version__, "mlflow.source.git.commit": commit(), "container_digest": container_digest()}
    return {key: value for key, value in tags.items() if value}


def commit() -> str | None:
    """Return the git commit of hg3, "-dirty" behind it where files were changed: of a container, or of a checkout."""
    if given := os.environ.get("HG3_COMMIT"):
        return given
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    asked = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def container_digest() -> str | None:
    """Return the image's digest, which slurm/container.sh hands in; its name where it did not."""
    named = os.environ.get("APPTAINER_NAME") or os.environ.get("SINGULARITY_NAME")
    return os.environ.get("HG3_CONTAINER_DIGEST") or named


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _split_head(run: Path) -> dict[str, Any]:
    """Return seed and table's hash of split.json, and nothing of its patients."""
    content = disk.read_json(run / "split.json", "a run of hg3")
    return {"seed": content["seed"], "table": {"sha256": content["table"]["sha256"]}}
