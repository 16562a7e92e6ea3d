"""The verb verify: sums, manifest and content of a release, and any part of it computed anew."""

import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hg3 import __version__, disk
from hg3.errors import ConfigError, Hg3Error, ReleaseError
from hg3.release.card import card, dictionary_rows
from hg3.release.croissant import croissant
from hg3.release.manifest import SUMS, TEXTS, read_manifest
from hg3.release.plan import (
    ENVIRONMENT,
    Request,
    Source,
    environment,
    environment_differences,
    make_plan,
    n_parts,
    open_source,
    part_name,
)
from hg3.release.writer import MadeBlock, make_block, summed_files
from hg3.table.checks import check_table
from hg3.table.cohort import Cohort, cells_of, counting_cells, missing_cells
from hg3.table.decoding import arrow_schema
from hg3.table.enforcement import total
from hg3.table.schema import TableSchema, load_schema
from hg3.table.violations import violations
from hg3.training.checkpoint import checkpoint_hash
from hg3.training.device import default_device

# On another device, torch or precision the bytes differ: there a recomputed cell agrees if it has the same code, or
# a real within 5% of its column's standard deviation, and 98% of the cells must.
REAL_TOLERANCE, CELL_SHARE = 0.05, 0.98


@dataclass
class Verification:
    """What was verified; `faults` is empty for a release that is as it was made."""

    files: int = 0
    rows: int = 0
    patients: int = 0
    recomputed_patients: int = 0
    recomputed_equal: str = ""
    faults: list[str] = field(default_factory=list)


def verify_release(release: str | Path, recompute: int = 0, run: str | Path | None = None) -> Verification:
    """Return what was verified of `release`.

    Parameters
    ----------
    recompute : number of random patients whose blocks are generated anew from `run` and compared.

    Raises
    ------
    ReleaseError
        If anything is missing, altered, surplus, or against the schema; the message holds every finding.
    """
    release = Path(release)
    manifest = read_manifest(release)
    found = Verification()
    _check_sums(release, {*TEXTS, *(entry["file"] for entry in manifest["parts"])}, found)
    if not found.faults:
        _check_parts(release, manifest, load_schema(release / "schema.toml"), found)
    if recompute and not found.faults:
        if run is None:
            raise ConfigError("recomputing needs the run that the release was made from; give --run")
        _recompute(release, manifest, recompute, Path(run), found)
    if found.faults:
        raise ReleaseError(f"{release} does not verify: " + " | ".join(found.faults))
    return found


def _check_sums(release: Path, wanted: set[str], found: Verification) -> None:
    """Check that the release holds the files `wanted`, no other, each with the sum that SHA256SUMS lists."""
    try:
        text = (release / SUMS).read_text(encoding="utf-8")
        listed = {name: digest for digest, name in (line.split("  ", 1) for line in text.splitlines())}
    except (OSError, ValueError):
        found.faults.append(f"{SUMS} is missing or altered")
        return
    if text != "".join(f"{listed[name]}  {name}\n" for name in sorted(listed)):
        found.faults.append(f"{SUMS} is not as hg3 writes it")
    present = set(summed_files(release))
    for name in sorted(wanted | present | listed.keys()):
        if name not in present:
            found.faults.append(f"{name} is missing")
        elif name not in wanted:
            found.faults.append(f"{name} is not a file of this release")
        elif name not in listed:
            found.faults.append(f"{name} is not listed in {SUMS}")
        elif disk.sha256_of(release / name) != listed[name]:
            found.faults.append(f"{name} is altered: its SHA-256 is not the recorded one")
    found.files = len(listed)


def _check_parts(release: Path, manifest: dict[str, Any], schema: TableSchema, found: Verification) -> None:
    if not _is_cut_as_planned(manifest):
        found.faults.append("manifest.json names other parts than its patients and blocks make")
        return
    found.faults += _text_faults(release, manifest, schema)
    for entry in manifest["parts"]:
        faults, rows = _part_faults(release / entry["file"], entry, manifest["block"], schema)
        found.faults += [f"{entry['file']}: {fault}" for fault in faults]
        found.rows += rows
        found.patients += entry["patients"]
    if found.rows != manifest["rows"] and not found.faults:
        found.faults.append("the parts do not add up to the rows of the manifest")


def _text_faults(release: Path, manifest: dict[str, Any], schema: TableSchema) -> list[str]:
    """Return which texts are not what schema and manifest make of them; another hg3 may have worded them otherwise."""
    guardrail = manifest["guardrail"]
    faults = ["manifest.json counts values that were not finite"] if guardrail["nonfinite"] else []
    if guardrail["attempts"] - guardrail["rejected"] != manifest["patients"]:
        faults.append("manifest.json has other attempts than its patients and its rejected ones")
    for key in ("moved", "attempts"):
        if guardrail[key] != sum(entry[key] for entry in manifest["parts"]):
            faults.append(f"manifest.json counts {key} otherwise than its parts do")
    faults += _rule_sum_faults(manifest, schema)
    if manifest["versions"].get("hg3") != __version__:
        return faults
    texts = {"CARD.md": card(schema, manifest), "dictionary.csv": dictionary_rows(schema)}
    texts["croissant.json"] = disk.json_text(croissant(schema, manifest))
    wrong = [name for name, text in texts.items() if (release / name).read_bytes() != text.encode()]
    return faults + [f"{name} is not what the schema and the manifest make" for name in wrong]


def _rule_sum_faults(manifest: dict[str, Any], schema: TableSchema) -> list[str]:
    """Return whether the counts of the rules are not those of the schema's rules, summed over the parts."""
    counted = manifest["guardrail"].get("rules", [])
    names = [rule.sentence for rule in schema.rules]
    parts = [entry.get("rules", []) for entry in manifest["parts"]]
    if [rule["rule"] for rule in counted] != names or any(len(part) != len(names) for part in parts):
        return ["manifest.json counts other rules than the schema has"]
    for number, rule in enumerate(counted):
        if any(rule[key] != sum(part[number][key] for part in parts) for key in rule if key != "rule"):
            return [f"manifest.json counts the rule {rule['rule']!r} otherwise than its parts do"]
    return []


def _is_cut_as_planned(manifest: dict[str, Any]) -> bool:
    per_part, patients = manifest["block"] * manifest["part_blocks"], manifest["patients"]
    if n_parts(manifest) != len(manifest["parts"]):
        return False
    wanted = [
        (part_name(number), first, min(per_part, patients - first))
        for number, first in enumerate(range(0, patients, per_part))
    ]
    return [(entry["file"], entry["first_patient"], entry["patients"]) for entry in manifest["parts"]] == wanted


def _part_faults(path: Path, entry: dict[str, Any], block: int, schema: TableSchema) -> tuple[list[str], int]:
    """Return what of a part contradicts its manifest entry or the schema, and how many rows it has."""
    if disk.sha256_of(path) != entry["sha256"]:
        return ["it is not the part that the manifest names"], 0
    try:
        with pq.ParquetFile(path) as part:
            table, n_blocks = part.read(), part.num_row_groups
    except (OSError, pa.ArrowException):
        return ["it is not readable Parquet"], 0
    faults = _table_faults(table, entry, schema)
    if n_blocks != -(-entry["patients"] // block):
        faults.append("its row groups are not the blocks of the manifest")
    return faults, table.num_rows


def _table_faults(table: pa.Table, entry: dict[str, Any], schema: TableSchema) -> list[str]:
    """Return what of a part's rows contradicts its manifest entry or the schema: types, bounds, codes, statics."""
    if not table.schema.equals(arrow_schema(schema)):
        return ["its columns or their types are not those of the schema"]
    if table.column(schema.patient).null_count or table.column(schema.time).null_count:
        return ["it has rows without a patient or a time"]
    ids = table.column(schema.patient).to_numpy()
    wanted = np.arange(entry["first_patient"], entry["first_patient"] + entry["patients"])
    if table.num_rows != entry["rows"] or not np.array_equal(np.unique(ids), wanted):
        return ["its patients or rows are not those of the manifest"]
    times = table.column(schema.time).to_numpy().astype(np.int64) - schema.first_time
    faults = [] if (np.diff(ids * schema.length + times) > 0).all() else ["it is not sorted by patient and time"]
    cohort, findings = check_table(*_as_cohort(table, schema), to_learn_from=False)
    if cohort is None:
        return faults + findings.errors
    return faults + _cohort_faults(cohort) + _rule_faults(cohort, entry)


def _rule_faults(cohort: Cohort, entry: dict[str, Any]) -> list[str]:
    """Return which rules a part breaks more or less often than its manifest entry says, which is mostly never."""
    counts, rules = entry.get("rules", []), cohort.schema.rules
    if len(counts) != len(rules):
        return []  # told of the whole manifest
    faults = []
    for rule, count in zip(rules, counts, strict=True):
        found = int(violations(rule, cells_of(cohort, rule.columns), cohort.schema.by_name)[0].sum())
        if found != count["violations_after"]:
            told = f"{found} times and the manifest says {count['violations_after']}"
            faults.append(f"it breaks the rule {rule.sentence!r} {told}")
    return faults


def _as_cohort(table: pa.Table, schema: TableSchema) -> tuple[pd.DataFrame, TableSchema]:
    """Return a part and its schema as the checks of a cohort table take them.

    A cohort may be mended where it is out of bounds, a release may not. Rules are compared with the manifest instead.
    """
    frame = table.to_pandas()
    frame = frame.astype({name: object for name in frame.select_dtypes("category").columns})
    columns = tuple(column.model_copy(update={"out_of_bounds": "error"}) for column in schema.columns)
    rules = tuple(rule.model_copy(update={"on_table": "warn"}) for rule in schema.rules)
    return frame, schema.model_copy(update={"columns": columns, "rules": rules})


def _cohort_faults(cohort: Cohort) -> list[str]:
    """Return what a cohort may have and a release never has: values that do not count, statics with holes."""
    faults = []
    first = np.unique(cohort.patient_index, return_index=True)[1]
    for column in cohort.schema.columns:
        empty = missing_cells(cohort.values[column.name])
        surplus = ~empty & ~counting_cells(column.name, cohort.values, cohort.schema)
        if surplus.any():
            faults.append(f"column {column.name!r} has {surplus.sum()} values that its indicator masks")
        holes = empty != empty[first][cohort.patient_index]
        if column.static and holes.any():
            faults.append(f"column {column.name!r} is static and has a value on some rows of a patient only")
    return faults


def _recompute(release: Path, manifest: dict[str, Any], count: int, run: Path, found: Verification) -> None:
    source = open_source(run, default_device())
    if checkpoint_hash(source.checkpoint) != manifest["checkpoint"]:
        found.faults.append(f"the best checkpoint of {run} is not the one that made this release")
        return
    if load_schema(release / "schema.toml") != source.recipe.encoder.released_schema():
        found.faults.append(f"schema.toml is not the one that the checkpoint of {run} gives")
        return
    faults = _plan_faults(source, manifest)
    if faults:
        found.faults += faults
        return
    patients = sorted(_random_patients(count, manifest["patients"]))
    now = {
        **environment(source),
        "precision": manifest["precision"],
    }  # computed in the precision of the release
    exact = not environment_differences(manifest, now) and not manifest["mixed"]
    blocks = sorted({patient // manifest["block"] for patient in patients})
    sampler = source.sampler(manifest)
    counted: list[tuple[int, MadeBlock]] = []
    for block in blocks:
        n_kept = min(manifest["block"], manifest["patients"] - block * manifest["block"])
        try:
            made = make_block(source, sampler, manifest, block, n_kept)
        except Hg3Error as error:
            found.faults.append(f"block {block} could not be computed anew: {error}")
            return
        _compare(_released_block(release, manifest, block, n_kept), made.table, block, exact, found)
        counted.append((block // manifest["part_blocks"], made))
        found.recomputed_patients += n_kept
    if exact:
        found.faults += _count_faults(manifest, counted)
    found.recomputed_equal = "bytes" if exact else f"{CELL_SHARE:.0%} of cells within tolerance"


def _count_faults(manifest: dict[str, Any], counted: list[tuple[int, MadeBlock]]) -> list[str]:
    """Return which parts, of those computed anew as a whole, say other guardrail counts than came out again."""
    faults = []
    for part, entry in enumerate(manifest["parts"]):
        blocks = [made for number, made in counted if number == part]
        if len(blocks) == -(-entry["patients"] // manifest["block"]):
            wrong = [key for key in blocks[0].counts if sum(made.counts[key] for made in blocks) != entry.get(key)]
            rules = [asdict(rule) for rule in total([made.rules for made in blocks])]
            wrong += ["rules"] if rules != entry.get("rules", []) else []
            faults += [f"{entry['file']}: the manifest's counts are not what comes out again: {wrong}"] if wrong else []
    return faults


def _plan_faults(source: Source, manifest: dict[str, Any]) -> list[str]:
    """Return which entries of the manifest's plan are not what its checkpoint gives."""
    sampler = {key: manifest["sampler"][key] for key in ("solver", "steps", "eta")}
    condition = {key: manifest[key] for key in ("where", "balance")}
    sizes = {"block_patients": manifest["block"], "part_blocks": manifest["part_blocks"]}
    plan = make_plan(source, Request(manifest["patients"], manifest["seed"], **sampler, **condition, **sizes))
    wrong = sorted(key for key in plan if key not in ENVIRONMENT and plan[key] != manifest.get(key))
    return [f"manifest.json is not the plan of the checkpoint: {', '.join(wrong)}"] if wrong else []


def _random_patients(count: int, n_patients: int) -> set[int]:
    chosen: set[int] = set()
    while len(chosen) < min(count, n_patients):
        chosen.add(secrets.randbelow(n_patients))
    return chosen


def _released_block(release: Path, manifest: dict[str, Any], block: int, count: int) -> pa.Table:
    entry = manifest["parts"][block // manifest["part_blocks"]]
    reader = pq.ParquetFile(release / entry["file"])
    return reader.read_row_group(block % manifest["part_blocks"])


def _compare(released: pa.Table, again: pa.Table, block: int, exact: bool, found: Verification) -> None:
    if exact:
        if not released.equals(again.cast(released.schema)):
            found.faults.append(f"block {block} computed anew differs from the released one")
        return
    share = _agreeing_share(released.to_pandas(), again.to_pandas())
    if share < CELL_SHARE:
        found.faults.append(
            f"block {block} computed anew agrees in {share:.1%} of its cells; {CELL_SHARE:.0%} are wanted"
        )


def _agreeing_share(released: pd.DataFrame, again: pd.DataFrame) -> float:
    """Return the share of cells that agree, over the rows that either table has."""
    keys = list(released.columns[:2])
    both = released.merge(again, on=keys, how="outer", suffixes=("", " again"), indicator=True)
    agree = []
    for name in released.columns[2:]:
        one, other = both[name], both[f"{name} again"]
        if pd.api.types.is_float_dtype(released[name]):
            near = (one - other).abs() <= REAL_TOLERANCE * released[name].std()
            agree.append(near | (one.isna() & other.isna()))
        else:
            agree.append((one.astype(object) == other.astype(object)) | (one.isna() & other.isna()))
    present = (both["_merge"] == "both").to_numpy()[:, None]
    return float((np.stack(agree, axis=1) & present).mean())
