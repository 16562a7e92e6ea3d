"""Speeds that were measured before: what releases and trainings beside the place of a new one say of theirs."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from hg3 import disk
from hg3.cluster.calls import Call
from hg3.cluster.profiles import Profile
from hg3.cluster.records import read_record
from hg3.cluster.works import JOBS, Stage, read_work
from hg3.errors import Hg3Error

SETTINGS = ("table", "schema", "preset", "changes")  # of a training, which its speed depends on


class Measured(NamedTuple):
    """What one task reached: patients or updates a second, bytes a patient, and where that was."""

    per_second: float
    size: float
    where: str


def device_type(profile: Profile) -> str:
    """Return the kind of device, as torch names it, that a task of SLURM with this profile computes on."""
    options = " ".join(f"{key}={value}" for key, value in profile.sbatch.items())
    return "cuda" if profile.gpus or "gpu" in options else "cpu"


def release_measured(plan: dict[str, Any], device: str, run: Path, out: Path) -> Measured | None:
    """Return the speed of the largest release of the same checkpoint and sampler on that kind of device, if any.

    It is looked for beside `out` and, of a run of a pipeline, among the releases that its seeds were scored by.
    """
    notes = [*out.parent.glob("*/manifest.json"), *run.parent.parent.glob("scores/*/release/manifest.json")]
    found: list[tuple[int, Measured]] = []
    for path in notes:
        with suppress(Hg3Error, OSError, KeyError, TypeError, ZeroDivisionError):  # another's, or in the making
            manifest = disk.read_json(path, "a release of hg3")
            if _is_made_alike(manifest, plan, device):
                found.append((manifest["patients"], _of_release(path.parent, manifest)))
    return max(found)[1] if found else None


def _is_made_alike(manifest: dict[str, Any], plan: dict[str, Any], device: str) -> bool:
    same = all(manifest[key] == plan[key] for key in ("checkpoint", "sampler"))
    compiled = [one["compile"] != "none" for one in (manifest, plan)]
    return same and compiled[0] == compiled[1] and manifest["device"]["type"] == device


def _of_release(release: Path, manifest: dict[str, Any]) -> Measured:
    seconds = disk.read_json(release / "provenance.json", "a release of hg3")["sampling_seconds"]
    size = sum((release / part["file"]).stat().st_size for part in manifest["parts"])
    patients = manifest["patients"]
    return Measured(patients / seconds, size / patients, f"{release.name}, on {manifest['device']['model']}")


def training_measured(stage: Stage, out: Path) -> Measured | None:
    """Return the speed of a training of the same settings, of a submission beside `out`, on the same kind of device."""
    wanted = _settings(stage.calls[0])
    for other, call, speed in _trainings(out.absolute().parent):
        if _settings(call) == wanted and device_type(other.profile) == device_type(stage.profile):
            return Measured(speed, 0.0, call["out"])
    return None


def _settings(call: Call) -> Sequence[Any]:
    return [call.get(key) for key in SETTINGS]


def _trainings(folder: Path) -> Iterator[tuple[Stage, Call, float]]:
    """Yield what was submitted in `folder` to be trained, as far as it has noted a speed."""
    for place in sorted(folder.glob(f"*{JOBS}")):
        with suppress(Hg3Error):
            work = read_work(place.with_name(place.name.removesuffix(JOBS)))
            for stage in (stage for stage in work.stages if stage.kind == "train"):
                for index, call in enumerate(stage.calls):
                    if speed := read_record(work.record(stage, index)).get("per_second"):
                        yield stage, call, speed
