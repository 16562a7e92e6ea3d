"""Blocks of a release computed anew from its run, and compared with what was released."""

import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hg3.errors import Hg3Error
from hg3.release.plan import ENVIRONMENT, Request, Source, environment, environment_differences, make_plan, open_source
from hg3.release.writer import MadeBlock, make_block
from hg3.table.enforcement import total
from hg3.table.schema import load_schema
from hg3.training.checkpoint import checkpoint_hash
from hg3.training.device import default_device

# On another device, torch or precision the bytes differ: there a recomputed cell agrees if it has the same code, or
# a real within 5% of its column's standard deviation, and 98% of the cells must.
REAL_TOLERANCE, CELL_SHARE = 0.05, 0.98


@dataclass
class Recomputed:
    """How many patients were computed anew, what of them had to be equal, and what was not."""

    patients: int = 0
    equal: str = ""
    faults: list[str] = field(default_factory=list)


def recompute_patients(release: Path, manifest: dict[str, Any], count: int, run: Path) -> Recomputed:
    """Return what came of computing the blocks of `count` random patients anew from `run`."""
    source = open_source(run, default_device(), manifest["compile"].partition(",")[0])  # compiled as the release was
    faults = _source_faults(release, manifest, source, run)
    if faults:
        return Recomputed(faults=faults)
    now = {**environment(source), "precision": manifest["precision"]}  # computed in the precision of the release
    exact = not environment_differences(manifest, now) and not manifest["mixed"]
    done = Recomputed(equal="bytes" if exact else f"{CELL_SHARE:.0%} of cells within tolerance")
    chosen = secrets.SystemRandom().sample(range(manifest["patients"]), min(count, manifest["patients"]))
    sampler, counted = source.sampler(manifest), []
    for block in sorted({patient // manifest["block"] for patient in chosen}):
        n_kept = min(manifest["block"], manifest["patients"] - block * manifest["block"])
        try:
            made = make_block(source, sampler, manifest, block, n_kept)
        except Hg3Error as error:
            done.faults.append(f"block {block} could not be computed anew: {error}")
            return done
        done.faults += _block_faults(_released_block(release, manifest, block), made.table, block, exact)
        done.patients += n_kept
        counted.append((block // manifest["part_blocks"], made))
    if exact:
        done.faults += _count_faults(manifest, counted)
    return done


def _source_faults(release: Path, manifest: dict[str, Any], source: Source, run: Path) -> list[str]:
    """Return why `source` is not what the release was made from."""
    if checkpoint_hash(source.checkpoint) != manifest["checkpoint"]:
        return [f"the best checkpoint of {run} is not the one that made this release"]
    if load_schema(release / "schema.toml") != source.recipe.encoder.released_schema():
        return [f"schema.toml is not the one that the checkpoint of {run} gives"]
    return _plan_faults(source, manifest)


def _plan_faults(source: Source, manifest: dict[str, Any]) -> list[str]:
    """Return which entries of the manifest's plan are not what its checkpoint gives."""
    sampler = {key: manifest["sampler"][key] for key in ("solver", "steps", "eta")}
    condition = {key: manifest[key] for key in ("where", "balance")}
    sizes = {"block_patients": manifest["block"], "part_blocks": manifest["part_blocks"]}
    plan = make_plan(source, Request(manifest["patients"], manifest["seed"], **sampler, **condition, **sizes))
    asked = {*plan, "privacy"} - {*ENVIRONMENT}  # a manifest may claim a privacy that no checkpoint has
    wrong = sorted(key for key in asked if plan.get(key) != manifest.get(key))
    return [f"manifest.json is not the plan of the checkpoint: {', '.join(wrong)}"] if wrong else []


def _released_block(release: Path, manifest: dict[str, Any], block: int) -> pa.Table:
    entry = manifest["parts"][block // manifest["part_blocks"]]
    return pq.ParquetFile(release / entry["file"]).read_row_group(block % manifest["part_blocks"])


def _block_faults(released: pa.Table, again: pa.Table, block: int, exact: bool) -> list[str]:
    if exact:
        equal = released.equals(again.cast(released.schema))
        return [] if equal else [f"block {block} computed anew differs from the released one"]
    share = agreeing_share(released.to_pandas(), again.to_pandas())
    if share < CELL_SHARE:
        return [f"block {block} computed anew agrees in {share:.1%} of its cells; {CELL_SHARE:.0%} are wanted"]
    return []


def agreeing_share(released: pd.DataFrame, again: pd.DataFrame) -> float:
    """Return the share of cells that agree, over the rows that either table has."""
    keys = list(released.columns[:2])
    released, again = released.set_index(keys), again.set_index(keys)
    rows = released.index.union(again.index)
    agree = []
    for name in released.columns:
        one, other = released[name].reindex(rows), again[name].reindex(rows)
        if pd.api.types.is_float_dtype(released[name]):
            near = (one - other).abs() <= REAL_TOLERANCE * released[name].std()
            agree.append(near | (one.isna() & other.isna()))
        else:
            agree.append((one.astype(object) == other.astype(object)) | (one.isna() & other.isna()))
    present = (rows.isin(released.index) & rows.isin(again.index))[:, None]
    return float((np.stack(agree, axis=1) & present).mean())


def _count_faults(manifest: dict[str, Any], counted: list[tuple[int, MadeBlock]]) -> list[str]:
    """Return which parts, of those computed anew as a whole, say other guardrail counts than came out again."""
    faults = []
    for part, entry in enumerate(manifest["parts"]):
        blocks = [made for number, made in counted if number == part]
        if len(blocks) != -(-entry["patients"] // manifest["block"]):
            continue
        wrong = [key for key in blocks[0].counts if sum(made.counts[key] for made in blocks) != entry.get(key)]
        if [asdict(rule) for rule in total([made.rules for made in blocks])] != entry.get("rules", []):
            wrong.append("rules")
        if wrong:
            faults.append(f"{entry['file']}: the manifest's counts are not what comes out again: {wrong}")
    return faults
