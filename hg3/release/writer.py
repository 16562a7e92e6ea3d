"""The verb generate: a run becomes a release, in shards, in any order, through kills, always the same bytes."""

import os
import platform
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hg3 import disk
from hg3.errors import ConfigError, RunError
from hg3.release.card import card, dictionary_rows
from hg3.release.conditions import condition_of
from hg3.release.croissant import croissant
from hg3.release.making import (
    PLAN,
    Making,
    Report,
    begin,
    beside_others,
    is_complete,
    open_making,
    read_note,
)
from hg3.release.manifest import PROVENANCE, SUMS, summed_files
from hg3.release.plan import Request, Source, n_parts, part_name
from hg3.sampling.generate import Sample, Sampler, block_range, sample_patients
from hg3.table.arrow import arrow_schema
from hg3.table.block_values import Draw
from hg3.table.decoding import decode_counted
from hg3.table.enforcement import RuleCount, total
from hg3.training.device import autocast


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
    entries = [read_note(making.note(part)) for part in range(n_parts(making.plan))]
    seconds = sum(entry.pop("seconds") for entry in entries)
    noted = read_note(making.notes / PLAN)
    mixed = [read_note(path) for path in sorted(making.notes.glob("mixed-*.json"))]
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
