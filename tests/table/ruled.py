"""A schema with every kind of rule, a table that breaks some of them, and the rules once more, slow and obvious."""

import math
from typing import Any

import numpy as np
import pandas as pd

from hg3.table.rules import AbsorbingRule, EndsRule, ForbiddenRule, MonotoneRule, OrderRule, Rule
from hg3.table.schema import TableSchema
from hg3.table.violations import Cells
from tests.table.cases import make_schema

COLUMNS: list[dict[str, Any]] = [
    {"name": "low", "kind": "real", "decimals": 0, "bounds": [0, 150], "missing": "modelled"},
    {"name": "mid", "kind": "real", "decimals": 2, "bounds": [0, 200], "missing": "modelled"},
    {"name": "high", "kind": "real", "decimals": 1, "bounds": [10, 300], "missing": "modelled"},
    {"name": "dose", "kind": "real", "decimals": 1, "bounds": [0, 100]},
    {"name": "stage", "kind": "ordinal", "categories": ["I", "II", "III"], "missing": "modelled"},
    {"name": "state", "kind": "categorical", "categories": ["well", "ill", "dead"]},
    {"name": "sex", "kind": "binary", "static": True, "categories": ["F", "M"]},
    {"name": "drug", "kind": "categorical", "categories": [0, 3, 7], "missing": "modelled"},
    {"name": "lab", "kind": "categorical", "categories": ["a", "b", "c"], "missing": "modelled"},
    {"name": "vent", "kind": "categorical", "categories": [1], "missing": "modelled"},
    {"name": "first", "kind": "real", "decimals": 0, "static": True, "bounds": [0, 90], "missing": "modelled"},
    {"name": "last", "kind": "real", "decimals": 0, "static": True, "bounds": [0, 90]},
]
RULES: list[dict[str, Any]] = [
    {"kind": "order", "columns": ["low", "mid", "high"]},
    {"kind": "order", "columns": ["first", "last"]},
    {"kind": "forbidden", "codes": {"sex": "M", "lab": "a"}},
    {"kind": "forbidden", "codes": {"drug": 3, "lab": "b"}},
    {"kind": "monotone", "column": "dose", "direction": "increasing"},
    {"kind": "monotone", "column": "stage", "direction": "decreasing"},
    {"kind": "absorbing", "column": "state", "code": "ill"},
    {"kind": "ends", "column": "state", "code": "dead"},
]


def ruled_schema(rules: list[dict[str, Any]] = RULES, **table: Any) -> TableSchema:
    return make_schema(COLUMNS, rules=rules, **table)


def ruled_table(n_patients: int = 40, length: int = 6, seed: int = 0) -> pd.DataFrame:
    """Return a table that keeps no rule: every cell is drawn by itself; odd patients end early or skip a month."""
    rng = np.random.default_rng(seed)
    kept = rng.random((n_patients, length)) < np.where(np.arange(n_patients) % 2, 0.7, 1.0)[:, None]
    kept[:, 0] = True
    patient, month = np.nonzero(kept)
    cells: dict[str, Any] = {"id": patient, "month": month}
    for column in COLUMNS:
        n = n_patients if column.get("static") else len(patient)
        drawn = _cells(column, n, rng)
        cells[column["name"]] = drawn[patient] if column.get("static") else drawn
    return pd.DataFrame(cells)


def _cells(column: dict[str, Any], n: int, rng: np.random.Generator) -> np.ndarray:
    if column["kind"] == "real":
        cells = np.round(rng.uniform(20, 90, n), column["decimals"])
    else:
        cells = np.array(column["categories"], dtype=object)[rng.integers(0, len(column["categories"]), n)]
    if column.get("missing") == "modelled":
        cells[rng.random(n) < (0.5 if column["name"] == "vent" else 0.3)] = np.nan if column["kind"] == "real" else None
    return cells


def random_cells(schema: TableSchema, seed: int, n: int = 5) -> Cells:
    """Return cells of `schema` as chance gives them: on a lattice of few values, so that ties are common."""
    rng = np.random.default_rng(seed)
    shape = (n, schema.length)
    has_row = rng.random(shape) < 0.8
    has_row[:, 0] = True
    values = {}
    for column in schema.columns:
        size = (n, 1) if column.static else shape
        top = 5 if column.is_real else len(column.categories or ())
        values[column.name] = rng.integers(0, top, size) * (20.0 if column.is_real else 1.0)
        if column.missing == "modelled":
            values[column.name][rng.random(size) < 0.3] = np.nan
        if not column.static:
            values[column.name][~has_row] = np.nan
    return Cells(values, has_row)


def slow_violations(rule: Rule, cells: Cells, schema: TableSchema) -> tuple[int, int]:
    """Return how often a rule is broken and could be, counted patient by patient in plain loops."""
    static = all(schema.by_name[name].static for name in rule.columns)
    broken = could = 0
    for patient in range(len(cells.has_row)):
        times = [0] if static else [t for t in range(schema.length) if cells.has_row[patient, t]]
        records = [{name: _cell(cells, name, patient, t) for name in rule.columns} for t in times]
        b, c = _slow_patient(rule, records, schema)
        broken, could = broken + b, could + c
    return broken, could


def _cell(cells: Cells, name: str, patient: int, time: int) -> float | None:
    row = cells.values[name][patient]
    value = row[time] if len(row) > 1 else row[0]
    return None if math.isnan(value) else float(value)


def _slow_patient(rule: Rule, records: list[dict[str, float | None]], schema: TableSchema) -> tuple[int, int]:
    broken = could = 0
    if isinstance(rule, OrderRule):
        for record in records:
            there = [v for v in record.values() if v is not None]
            could += len(there) > 1
            broken += there != sorted(there)
    elif isinstance(rule, ForbiddenRule):
        for record in records:
            could += None not in record.values()
            wanted = [(schema.by_name[name].categories or ()).index(code) for name, code in rule.codes.items()]
            broken += list(record.values()) == wanted
    elif isinstance(rule, MonotoneRule):
        there = [v for record in records if (v := record[rule.column]) is not None]
        for i, value in enumerate(there[1:], start=1):
            could += 1
            earlier = there[:i]
            broken += value < max(earlier) if rule.direction == "increasing" else value > min(earlier)
    else:
        codes = [record[rule.column] for record in records]
        code = (schema.by_name[rule.column].categories or ()).index(rule.code)
        after = codes[codes.index(code) + 1 :] if code in codes else []
        if isinstance(rule, AbsorbingRule):
            could, broken = sum(v is not None for v in after), sum(v is not None and v != code for v in after)
        if isinstance(rule, EndsRule) and code in codes:
            could, broken = len(codes), len(after)
    return broken, could
