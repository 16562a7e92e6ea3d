"""The verb generate: a run becomes a release, in shards, in any order, through kills, always the same bytes."""

import hashlib
import json
import os
import platform
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hg3 import disk
from hg3.errors import ConfigError, ReleaseError, RunError
from hg3.release.card import card, dictionary_rows
from hg3.release.conditions import condition_of
from hg3.release.croissant import croissant
from hg3.release.manifest import INCOMPLETE, PROVENANCE, SUMS, summed_files
from hg3.release.plan import (
    ENVIRONMENT,
    Request,
    Source,
    environment_differences,
    make_plan,
    n_parts,
    open_source,
    part_name,
)
from hg3.sampling.generate import Sample, Sampler, block_range, sample_patients
from hg3.table.arrow import arrow_schema
from hg3.table.block_values import Draw
from hg3.table.decoding import decode_counted
from hg3.table.enforcement import RuleCount, total
from hg3.training.device import autocast, default_device

Report = Callable[[dict[str, Any]], None]
PLAN = "plan.json"  # in it: the first file to come and the first to go


@dataclass(frozen=True)
class Making:
    """One process at work on a release."""

    source: Source
    plan: dict[str, Any]
    sampler: Sampler
    release: Path
    report: Report

    @property
    def notes(self) -> Path:
        return self.release / INCOMPLETE

    def note(self, part: int) -> Path:
        """Return the file that says of a part that it is made, and with what sum."""
        return self.notes / f"part-{part:05d}.json"


def generate(
    run: str | Path,
    out: str | Path,
    patients: int,
    seed: int = 0,
    shard: tuple[int, int] = (1, 1),
    mix: bool = False,
    compile: str = "none",
    report: Report = lambda entry: None,
    **asked: Any,
) -> bool:
    """Generate a release of `patients` patients from `run` into `out`; return whether it is complete.

    Parameters
    ----------
    shard : (i, n): make every n-th part from the i-th on, 1 <= i <= n. Whoever makes the last part completes.
    mix : go on under another device, torch, precision or compilation than the release was begun with.
    compile : "none", or "default": torch.compile makes the network faster, after a minute or so that it takes.
    report : called at first and after each block with {"patients": made by this call so far, "of": its share}.
    asked : solver, steps, eta, where and balance of a `Request`, and for tests block_patients and part_blocks.

    Raises
    ------
    Hg3Error
        If the run cannot be read, or `out` holds something else.
    """
    index, n_shards = shard
    if not 1 <= index <= n_shards:
        raise ConfigError(f"shard {index}/{n_shards} was given; a shard is I/N with 1 <= I <= N")
    making = open_making(run, out, Request(patients, seed, **asked), compile, report)
    if is_complete(making.release, making.plan):
        return True

    def make_share() -> bool:
        with disk.lock(making.notes / f"shard-{index}-of-{n_shards}.lock", "release folder"):
            make_parts(making, range(index - 1, n_parts(making.plan), n_shards))
        return complete(making)

    return beside_others(making, lambda: begin(making, mix) or make_share())


def beside_others(making: Making, work: Callable[[], bool], should_stop: Callable[[], bool] = lambda: False) -> bool:
    """Return what `work` returns, or True if its files went because another task completed the release and cleaned up.

    should_stop : asked while that is waited for, and False is returned then.
    """
    try:
        return work()
    except OSError as error:
        if not disk.is_gone(error):
            raise
        if disk.appears(lambda: is_complete(making.release, making.plan), should_stop):
            return True
        if not should_stop():
            raise
        return False


def open_making(run: str | Path, out: str | Path, asked: Request, compile: str, report: Report) -> Making:
    """Return this process's part in making the release that is asked for; nothing is written yet."""
    source = open_source(Path(run), default_device(), compile)
    plan = make_plan(source, asked)
    making = Making(source, plan, source.sampler(plan), Path(out), report)
    _refuse_inside_run(making.release)
    return making


def _refuse_inside_run(release: Path) -> None:
    for folder in (release.resolve(), *release.resolve().parents):
        if (folder / "split.json").is_file():
            raise ReleaseError(f"{release} lies inside the run {folder}, which is private; choose a folder outside it")


def is_complete(release: Path, plan: dict[str, Any]) -> bool:
    """Whether `release` is this plan's finished release.

    Raises
    ------
    ReleaseError
        If it is a finished release of another plan.
    """
    if not (release / SUMS).is_file() or (release / INCOMPLETE / PLAN).exists():
        return False
    if not (release / "manifest.json").is_file() or not (release / "data").is_dir():
        return False  # somebody else's folder, which has sums too
    manifest = disk.read_json(release / "manifest.json", "a release of hg3")
    if not isinstance(manifest, dict):
        raise ReleaseError(f"{release / 'manifest.json'} is altered: it is not a manifest of hg3; get the release anew")
    _same_plan({key: manifest.get(key) for key in plan}, plan, release, mix=True)
    shutil.rmtree(release / INCOMPLETE, ignore_errors=True)  # of a call that was killed while removing it
    return True


def begin(making: Making, mix: bool) -> bool:
    """Make the folder and note the plan, or find the same plan noted; return whether the release is complete by now.

    Another task may be any number of steps further between two looks, so each is at what comes before the next. It
    writes SHA256SUMS before the plan goes.
    """
    notes, release = making.notes, making.release
    occupied = release.exists() and (not release.is_dir() or any(release.iterdir()))
    if occupied and not (_is_being_begun(notes) or (notes / PLAN).is_file()):
        return _is_completed_meanwhile(making)
    if not (notes / PLAN).exists():
        notes.mkdir(parents=True, exist_ok=True)  # which has NFS look anew at what else is in `release`
        if is_complete(release, making.plan):
            return True
        if disk.write_new_json(notes / PLAN, making.plan) and (release / SUMS).exists():
            (notes / PLAN).unlink(missing_ok=True)
            return _is_completed_meanwhile(making)
    (release / "data").mkdir(exist_ok=True)
    noted = _read_note(notes / PLAN)
    if not isinstance(noted, dict) or not making.plan.keys() <= noted.keys():
        raise ReleaseError(f"{notes / PLAN} is altered: it is not a plan of hg3; remove {release} and begin anew")
    if _same_plan(noted, making.plan, release, mix):
        other = {key: making.plan[key] for key in ENVIRONMENT}
        name = hashlib.sha256(json.dumps(other, sort_keys=True).encode()).hexdigest()[:12]
        disk.write_json(notes / f"mixed-{name}.json", other)
    return False


def _is_completed_meanwhile(making: Making) -> bool:
    """Return True of a folder that holds the release, complete; refuse it if it holds anything else."""
    if is_complete(making.release, making.plan):
        return True
    raise ReleaseError(f"{making.release} is there already and holds something else; choose another folder")


def _read_note(path: Path) -> Any:
    """Return a file of the notes; raise FileNotFoundError of one that is gone."""
    try:
        return disk.read_json(path, "a release in the making")
    except RunError:
        path.open("rb").close()  # says so of one that is gone; to exists(), NFS may tell what it remembers
        raise


def _is_being_begun(notes: Path) -> bool:
    """Whether `notes` is a folder that another shard, or one that was killed, has made and not yet put a plan into."""
    return notes.is_dir() and all(path.name.startswith(disk.TEMPORARY_PREFIX) for path in notes.iterdir())


def _same_plan(noted: dict[str, Any], plan: dict[str, Any], release: Path, mix: bool) -> bool:
    """Return whether the environment of `noted` differs, which only `mix` allows; any other difference is refused."""
    differences = environment_differences(noted, plan)
    rest = {key for key in plan if noted.get(key) != plan[key]} - set(ENVIRONMENT)
    if rest:
        raise ReleaseError(
            f"{release} holds another release: {', '.join(sorted(rest))} differ from what is asked now; "
            "choose another folder"
        )
    if differences and not mix:
        raise ReleaseError(
            f"{release} was begun elsewhere: {'; '.join(differences)}; the bytes would differ: go on there, begin anew "
            "in another folder, or accept it with --mix"
        )
    return bool(differences)


def make_parts(making: Making, parts: Sequence[int]) -> int:
    """Make the parts that are missing; return how many patients `parts` hold."""
    per_part = making.plan["block"] * making.plan["part_blocks"]
    share = sum(min(per_part, making.plan["patients"] - part * per_part) for part in parts)
    made = 0
    making.report({"patients": made, "of": share})
    for part in parts:
        note = making.note(part)
        if not note.exists():
            _check_going_on(making)
            started = time.time()
            entry = _make_part(making, part, made, share)
            disk.write_json(note, {**entry, "seconds": round(time.time() - started, 3)})
        made += min(per_part, making.plan["patients"] - part * per_part)
        making.report({"patients": made, "of": share})
    return made


def _check_going_on(making: Making) -> None:
    """Raise FileNotFoundError if another task has completed the release: a note that is not there is gone, then."""
    (making.notes / PLAN).open("rb").close()


def _make_part(making: Making, part: int, made: int, share: int) -> dict[str, Any]:
    """Sample, decode and write one part, a row group a block; return what the manifest says of it."""
    plan, path = making.plan, making.release / part_name(part)
    first_block = part * plan["part_blocks"]
    entry: dict[str, Any] = {
        "file": part_name(part),
        "first_patient": first_block * plan["block"],
        "patients": 0,
        "rows": 0,
        "moved": 0,
        "attempts": 0,
    }
    schema = arrow_schema(making.source.recipe.encoder.released_schema())
    rules = [RuleCount() for _ in making.source.recipe.schema.rules]
    with (
        disk.atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for block in range(first_block, first_block + plan["part_blocks"]):
            count = min(plan["block"], plan["patients"] - block * plan["block"])
            if count <= 0:
                break
            block_made = make_block(making.source, making.sampler, plan, block, count)
            rows = block_made.table.num_rows
            writer.write_table(block_made.table, row_group_size=max(rows, 1))
            entry["patients"], entry["rows"] = entry["patients"] + count, entry["rows"] + rows
            entry |= {key: entry[key] + number for key, number in block_made.counts.items()}
            rules = total([rules, block_made.rules])
            making.report({"patients": made + entry["patients"], "of": share})
    return {**entry, "rules": [asdict(rule) for rule in rules], "sha256": disk.sha256_of(path)}


class MadeBlock(NamedTuple):
    """The patients of a block as a table, and what was done for them.

    In `counts`, "moved" counts entries that the guardrail moved, "attempts" how often patients were sampled; `rules`
    says what each rule took.
    """

    table: pa.Table
    counts: dict[str, int]
    rules: list[RuleCount]


def make_block(source: Source, sampler: Sampler, plan: dict[str, Any], block: int, count: int) -> MadeBlock:
    """Return the first `count` patients of a block."""
    encoder, patients = source.recipe.encoder, block_range(block, plan["block"])
    condition = condition_of(plan, encoder, patients, source.device)
    with autocast(plan["precision"], source.device):
        sample: Sample = sample_patients(source.network, patients, sampler, condition)
    numbers = torch.arange(patients.start, patients.start + count).numpy()
    x_static, x_dynamic = (x[:count].numpy() for x in (sample.x_static, sample.x_dynamic))
    draw = Draw(plan["seed"]) if plan["sampler"].get("decode") == "draw" else None
    decoded, rules = decode_counted(x_static, x_dynamic, numbers, encoder, draw)
    counts = {key: int(getattr(sample, key)[:count].sum()) for key in ("moved", "attempts")}
    return MadeBlock(decoded, counts, rules)


def complete(making: Making) -> bool:
    """Write manifest, card and sums if all parts are there; return whether the release is complete."""
    if not all(making.note(part).exists() for part in range(n_parts(making.plan))):
        return is_complete(making.release, making.plan)
    with ExitStack() as held:
        try:
            held.enter_context(disk.lock(making.notes / "complete.lock", "release folder"))
        except RunError:  # another task is about to complete it
            return is_complete(making.release, making.plan)
        if (making.notes / PLAN).exists():
            _make_whole(making)
    return is_complete(making.release, making.plan)  # removes the notes: NFS keeps a folder with a file that is open


def _make_whole(making: Making) -> None:
    """Write all that is no part, SHA256SUMS last; then the plan goes, and with it the release is complete."""
    _make_damaged_parts_anew(making)
    manifest, seconds = _gathered(making)
    _write_texts(making, manifest)
    _write_provenance(making.release, seconds)
    disk.remove_temporaries(making.release)
    write_sums(making.release, summed_files(manifest))
    (making.notes / PLAN).unlink()


def _make_damaged_parts_anew(making: Making) -> None:
    """Make anew each part that is not as its note says it was written."""
    damaged = [part for part in range(n_parts(making.plan)) if not _is_as_noted(making, part)]
    for part in damaged:
        making.note(part).unlink(missing_ok=True)
    if damaged:
        make_parts(making, damaged)


def _is_as_noted(making: Making, part: int) -> bool:
    path = making.release / part_name(part)
    try:
        return bool(disk.read_json(making.note(part), "a release in the making")["sha256"] == disk.sha256_of(path))
    except (OSError, RunError, KeyError, TypeError):
        return False


def _gathered(making: Making) -> tuple[dict[str, Any], float]:
    """Return the manifest and how many seconds the parts took, from notes that were all there when they were read."""
    schema = making.source.recipe.encoder.released_schema()
    entries = [_read_note(making.note(part)) for part in range(n_parts(making.plan))]
    seconds = sum(entry.pop("seconds") for entry in entries)
    noted = _read_note(making.notes / PLAN)
    mixed = [_read_note(path) for path in sorted(making.notes.glob("mixed-*.json"))]
    _check_going_on(making)
    moved, attempts = (sum(entry[key] for entry in entries) for key in ("moved", "attempts"))
    accepted = making.plan["patients"]
    guardrail: dict[str, Any] = {"moved": moved, "nonfinite": 0, "attempts": attempts, "rejected": attempts - accepted}
    counts = total([[RuleCount(**rule) for rule in entry["rules"]] for entry in entries])
    guardrail["rules"] = [{"rule": r.sentence, **asdict(c)} for r, c in zip(schema.rules, counts, strict=True)]
    rows = sum(entry["rows"] for entry in entries)
    return {**noted, "mixed": mixed, "rows": rows, "guardrail": guardrail, "parts": entries}, seconds


def _write_texts(making: Making, manifest: dict[str, Any]) -> None:
    schema, release = making.source.recipe.encoder.released_schema(), making.release
    disk.write_json(release / "manifest.json", manifest)
    disk.write_text(release / "schema.toml", schema.to_toml())
    disk.write_text(release / "dictionary.csv", dictionary_rows(schema))
    disk.write_text(release / "CARD.md", card(schema, manifest))
    disk.write_json(release / "croissant.json", croissant(schema, manifest))


def _write_provenance(release: Path, seconds: float) -> None:
    """Note what varies between makings: when, where, how long."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    job = {key: os.environ[key] for key in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID") if key in os.environ}
    content = {"completed": moment, "host": socket.gethostname(), "system": platform.platform(), "jobs": job}
    disk.write_sealed(release / PROVENANCE, {**content, "sampling_seconds": round(seconds, 3)})


def write_sums(release: Path, names: Iterable[str]) -> None:
    """Write SHA256SUMS of the files `names` in the form that `sha256sum -c` reads; it comes last of all files."""
    lines = [f"{disk.sha256_of(release / name)}  {name}\n" for name in names]
    disk.write_text(release / SUMS, "".join(lines))
