"""The registry of models: a version names a checkpoint that is kept in a private folder, with its evaluation.

A checkpoint is made from patients, and its encoder holds quantiles of theirs. So no byte of it goes into a tracking
store, which others read: the store gets the checkpoint's hash and place, and the evaluation.
"""

import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from hg3 import disk
from hg3.cluster.places import LATER, STORE_FILE, answers, checked_uri, choose_store, sqlite_uri
from hg3.cluster.record import REPORT_FILES, preset_of
from hg3.errors import ConfigError, RunError
from hg3.training.checkpoint import best_checkpoint, checkpoint_hash, checkpoints
from hg3.training.run import HELD_FILES, HELD_FILES_UNDER_PRIVACY

PREFIX = "models:/"
RUN_TEXTS = ("config.toml", "schema.toml", "encoder.json")
KEPT_FILES = ("checkpoints/", "encoder.json")  # of those that a run's private.json speaks of


class Version(NamedTuple):
    """A registered checkpoint: `models:/NAME/VERSION`, the folder that holds it, and the hash that names it."""

    uri: str
    folder: Path
    checkpoint: str


def register_run(
    run: str | Path,
    name: str,
    report: str | Path | None = None,
    models: str | Path | None = None,
    store: str | None = None,
) -> Version:
    """Register the best checkpoint of `run` as the next version of model `name`, and return it.

    Parameters
    ----------
    report : the folder that `hg3 evaluate` made of a release of this run.
    models : where the checkpoint is kept; the folder `models` beside the run if absent.
    store : an MLflow URI; if absent, what MLFLOW_TRACKING_URI names, else `mlflow.db` beside the run.

    Raises
    ------
    Hg3Error
        If the run or the report cannot be read, or MLflow is not installed.
    """
    run = Path(run).resolve()
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise ConfigError(f"{name!r} was given as a model's name; it takes letters, digits, '.', '_' and '-'")
    best = best_checkpoint(run)
    found, scores = checkpoint_hash(best), _scores(report)
    folder = _kept(run, best, Path(models or run.parent / "models") / found[:16])
    from hg3.cluster.tracking import register, told

    files = [Path(report) / name for name in REPORT_FILES] if report else []
    tags = {"hg3.checkpoint": found, "hg3.folder": str(folder), "hg3.run": run.name, **scores}
    uri = _store_to_write(store, run.parent)
    with told(uri):
        number = register(uri, name, tags, files)
    return Version(f"{PREFIX}{name}/{number}", folder, found)


def _store_to_write(wanted: str | None, folder: Path) -> str:
    uri = checked_uri(wanted) if wanted else choose_store("auto", folder)
    if uri == LATER:
        raise ConfigError(f"{folder} is on a file system without locks, where no store can be; name one with --store")
    return uri


def _kept(run: Path, best: Path, folder: Path) -> Path:
    """Copy what generates into `folder`, private, whole or not at all; it can be used as a run is."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with disk.atomic_folder(folder) as temporary:
        for name in RUN_TEXTS:
            shutil.copyfile(run / name, temporary / name)
        shutil.copytree(best, temporary / "checkpoints" / best.name)
        held = HELD_FILES if preset_of(run).privacy is None else HELD_FILES_UNDER_PRIVACY
        disk.write_json(temporary / "private.json", {name: held[name] for name in KEPT_FILES if name in held})
    return folder


def _scores(report: str | Path | None) -> dict[str, str]:
    """Return what the gates say in a report, a tag each, after a look at its seal."""
    if report is None:
        return {}
    content = disk.read_sealed(Path(report) / "metrics.json", "a report of hg3")
    said = {f"gate {verdict['name']}": f"{verdict['score']} {verdict['state']}" for verdict in content["verdicts"]}
    return {re.sub(r"[^\w.\- ]", "_", key, flags=re.ASCII): value for key, value in said.items()}


def model_folder(uri: str, store: str | None = None) -> Path:
    """Return the folder of `models:/NAME/VERSION`, which `hg3.generate` takes as a run, its checkpoint unaltered.

    Parameters
    ----------
    store : an MLflow URI; if absent, what MLFLOW_TRACKING_URI names, else `mlflow.db` in runs/ or here.

    Raises
    ------
    Hg3Error
        If there is no such version, or its checkpoint is not there, or is another.
    """
    name, separator, number = uri.removeprefix(PREFIX).partition("/")
    if not separator or not name or not number.isdigit():
        raise ConfigError(f"{uri!r} was given; a registered model is models:/NAME/VERSION, for example models:/art/1")
    from hg3.cluster.tracking import told, version_tags

    place = checked_uri(store) if store else _usual_store()
    with told(place):
        tags = version_tags(place, name, number)
    folder = Path(tags.get("hg3.folder", ""))
    kept = checkpoints(folder)
    if len(kept) != 1 or checkpoint_hash(kept[0]) != tags.get("hg3.checkpoint"):
        raise RunError(f"{folder} does not hold the checkpoint of {uri}: it was removed or altered; register it anew")
    return folder


def _usual_store() -> str:
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if named and answers(checked_uri(named)):
        return named
    for path in (Path("runs") / STORE_FILE, Path(STORE_FILE)):
        if path.is_file():
            return sqlite_uri(path)
    raise RunError(
        f"there is no {STORE_FILE} in runs/ or here, and MLFLOW_TRACKING_URI names no server that answers; set it to "
        "the store that holds the model"
    )
