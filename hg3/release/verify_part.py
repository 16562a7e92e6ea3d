"""One part of a release, read whole: its rows against its manifest entry and the schema."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hg3 import disk
from hg3.table.arrow import arrow_schema
from hg3.table.checks import check_table
from hg3.table.cohort import Cohort, cells_of, counting_cells, missing_cells
from hg3.table.schema import TableSchema
from hg3.table.violations import violations


def part_faults(
    path: Path, entry: dict[str, Any], manifest: dict[str, Any], schema: TableSchema
) -> tuple[list[str], int]:
    """Return what of a part contradicts its entry in the manifest or the schema, and how many rows it has."""
    if disk.sha256_of(path) != entry["sha256"]:
        return ["it is not the part that the manifest names"], 0
    try:
        with pq.ParquetFile(path) as part:
            table, n_blocks = part.read(), part.num_row_groups
    except (OSError, pa.ArrowException):
        return ["it is not readable Parquet"], 0
    faults = _table_faults(table, entry, manifest, schema)
    if n_blocks != -(-entry["patients"] // manifest["block"]):
        faults.append("its row groups are not the blocks of the manifest")
    return faults, table.num_rows


def _table_faults(table: pa.Table, entry: dict[str, Any], manifest: dict[str, Any], schema: TableSchema) -> list[str]:
    """Return what of a part's rows contradicts the manifest or the schema: types, bounds, codes, statics, givens."""
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
    given = _condition_faults(cohort, manifest["where"], manifest["balance"])
    return faults + _cohort_faults(cohort) + _rule_faults(cohort, entry) + given


def _condition_faults(cohort: Cohort, where: dict[str, Any], balance: str | None) -> list[str]:
    """Return which columns do not hold what `where` gives every patient, or not the codes of `balance` in turn."""
    static = {column.name: column for column in cohort.schema.columns if column.static}
    known = where.keys() <= static.keys()
    if not known or (balance is not None and (balance not in static or not static[balance].categories)):
        return ["manifest.json has conditions on columns that are not static, or balances one without codes"]
    wrong = {}
    for name, value in where.items():
        wanted = value if static[name].is_real else static[name].position(value)
        cells = cohort.values[name]
        wrong[name] = missing_cells(cells) | np.array([cell != wanted for cell in cells.tolist()])
    if balance is not None:
        turn = cohort.patients[cohort.patient_index] % len(static[balance].categories or ())
        wrong[balance] = wrong.get(balance, False) | (cohort.values[balance] != turn)
    return [
        f"column {name!r} has other values on {rows.sum()} rows than the conditions in manifest.json give them"
        for name, rows in wrong.items()
        if rows.any()
    ]


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
