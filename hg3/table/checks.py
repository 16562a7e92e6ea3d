"""Hold a table against its schema: everything wrong in one run, counts and row positions, never a value."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from hg3.errors import TableError
from hg3.table.binning import bin_visits
from hg3.table.cells import as_numbers, as_texts, learned_codes, not_numbers, typed
from hg3.table.read import read_table
from hg3.table.schema import (
    LARGEST_REAL,
    Code,
    Column,
    TableSchema,
    canonical_code,
    load_schema,
)
from hg3.table.violations import Cells, counted, violations

SHOWN_POSITIONS = 5
SHOWN_NAMES = 10


@dataclass(frozen=True)
class Cohort:
    """A checked table, R rows and N patients, in arrays.

    Parameters
    ----------
    patients : ids, shape (N,), in ascending order: int64 where all are whole numbers, otherwise text.
    patient_index, time_index : int64, shape (R,); time 0 is the schema's `first_time`.
    values : by column, shape (R,): float64 with NaN for missing (real), or int32 index into `categories` with
        -1 for missing.
    categories : by column that is not real, the codes: the schema's, or the table's where it has none.
    """

    schema: TableSchema
    patients: np.ndarray
    patient_index: np.ndarray
    time_index: np.ndarray
    values: dict[str, np.ndarray]
    categories: dict[str, tuple[Code, ...]]

    @property
    def n_patients(self) -> int:
        return len(self.patients)


@dataclass
class Findings:
    """What a check found: `errors` end the job, `warnings` are told.

    `kept` are the positions of the rows that binning left, where it left some out.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    kept: np.ndarray | None = None

    def rows(self, bad: np.ndarray, sentence: str, advice: str) -> np.ndarray:
        """Add an error if any row is `bad`: count, `sentence`, positions, `advice`; return `bad`."""
        if bad.any():
            self.errors.append(f"{sentence.format(n=int(bad.sum()))} ({self._positions(bad)}); {advice}")
        return bad

    def _positions(self, bad: np.ndarray) -> str:
        """Return where `bad` is true as row positions; row 1 is the first below the header."""
        rows = np.flatnonzero(bad)
        return _shown_positions((rows if self.kept is None else self.kept[rows]) + 1)


def _shown_positions(rows: np.ndarray) -> str:
    shown = ", ".join(str(r) for r in rows[:SHOWN_POSITIONS])
    more = f" and {len(rows) - SHOWN_POSITIONS} more" if len(rows) > SHOWN_POSITIONS else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"


def check_table(frame: pd.DataFrame, schema: TableSchema, to_learn_from: bool = True) -> tuple[Cohort | None, Findings]:
    """Return the checked cohort (None if there are errors) and all findings.

    Parameters
    ----------
    frame : the table in long format, as `read_table` gives it.
    to_learn_from : whether each column must have some value; a small release may lack those of a rare laboratory.
    """
    found = Findings()
    if frame.empty:
        found.errors.append("the table holds no rows; it needs at least one row a patient")
        return None, found
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    if schema.bin is not None:
        frame, found.kept, superseded = bin_visits(frame, schema)
        if superseded:
            found.warnings.append(
                f"{superseded} rows share a bin of {schema.bin:g} {schema.step}s with a later one of their patient, "
                "which is kept; they are left out"
            )
    present = _check_columns(list(frame.columns), schema, found)
    patients, patient_index = _check_patients(frame, schema, present, found)
    time_index = _check_times(frame, schema, present, found)
    _check_duplicates(patient_index, time_index, schema, found)
    values, categories, refused = {}, {}, {}
    for name, column in schema.by_name.items():
        if name not in present:
            continue
        if column.is_real:
            values[name], refused[name] = _check_real(frame[name], column, found)
        else:
            values[name], refused[name], categories[name] = _check_codes(frame[name], column, found)
    for name in values:
        asked = counting_cells(name, values, schema) & ~refused[name]
        usable = asked & ~missing_cells(values[name])
        if to_learn_from and not usable.any() and not refused[name].any():
            found.errors.append(f"column {name!r} has no usable cell; take it out of the schema")
        elif usable.any() or schema.by_name[name].missing == "never":
            _check_values(values[name], asked, patient_index, schema.by_name[name], found)
    if not found.errors:
        cohort = Cohort(schema, patients, patient_index, time_index, values, categories)
        _check_rules(cohort, found)
    return (None if found.errors else cohort), found


def check(table: str | Path, schema: str | Path) -> Findings:
    """Return everything wrong with the table at path `table` under a shipped schema or the schema at a path.

    Raises
    ------
    Hg3Error
        If the table or the schema cannot be read at all.
    """
    loaded = load_schema(schema)
    return check_table(read_table(table, loaded), loaded)[1]


def checked_cohort(frame: pd.DataFrame, schema: TableSchema, to_learn_from: bool = True) -> tuple[Cohort, list[str]]:
    """Return the checked cohort and the warnings; arguments as in `check_table`.

    Raises
    ------
    TableError
        If anything is wrong; the message holds every finding.
    """
    cohort, found = check_table(frame, schema, to_learn_from)
    if cohort is None:
        raise TableError(f"the table does not fit schema {schema.name!r}: " + " | ".join(found.errors))
    return cohort, found.warnings


def _check_columns(names: list[str], schema: TableSchema, found: Findings) -> set[str]:
    """Return the columns that can be checked; without a header, names may be values of a patient."""
    wanted = [schema.patient, schema.time, *(c.name for c in schema.columns)]
    for name in [n for n in wanted if names.count(n) > 1]:
        found.errors.append(f"the table has column {name!r} {names.count(name)} times; keep one")
    missing = [n for n in wanted if n not in names]
    if missing:
        found.errors.append(
            f"the table lacks {len(missing)} of the {len(wanted)} columns of the schema: {_shown(missing)}; "
            "add them or take them out of the schema"
        )
    unknown = [n for n in names if n not in wanted and n not in schema.ignore]
    if unknown:
        has_header = schema.patient in names and schema.time in names
        found.errors.append(
            f"the table has {len(unknown)} columns that the schema does not know"
            f"{f': {_shown(unknown)}' if has_header else ' (has it a header line?)'}; "
            "add them to its columns or to its `ignore` list"
        )
    return {n for n in wanted if names.count(n) == 1}


def _shown(names: Sequence[Code]) -> list[Code]:
    return [*names[:SHOWN_NAMES], *(["..."] if len(names) > SHOWN_NAMES else [])]


def _check_patients(
    frame: pd.DataFrame, schema: TableSchema, present: set[str], found: Findings
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted ids and each row's position among them, -1 where it has none."""
    if schema.patient not in present:
        return np.empty(0), np.full(len(frame), -1)
    index, ids = as_texts(frame[schema.patient])
    found.rows(index < 0, f"column {schema.patient!r} has {{n}} rows without a patient", "fill them or drop the rows")
    patients = np.array(typed([canonical_code(i) for i in ids]))
    patients, position = np.unique(patients, return_inverse=True)
    return patients, np.append(position, -1)[index].astype(np.int64)


def _check_times(frame: pd.DataFrame, schema: TableSchema, present: set[str], found: Findings) -> np.ndarray:
    """Return each row's time from 0, -1 where it is not on the grid."""
    if schema.time not in present:
        return np.full(len(frame), -1)
    number = as_numbers(frame[schema.time])
    name, last = schema.time, schema.first_time + schema.length - 1
    unreadable = ~np.isfinite(number)
    found.rows(
        unreadable,
        f"column {name!r} has {{n}} rows without a finite number",
        f"count {schema.step}s from the start of each record, or drop the rows",
    )
    uneven = ~unreadable & (number != np.round(number))
    found.rows(
        uneven,
        f"column {name!r} has {{n}} times that are not whole {schema.step}s",
        "bin them first, or set `bin` and `within` of the schema",
    )
    outside = ~unreadable & ~uneven & ((number < schema.first_time) | (number > last))
    found.rows(
        outside,
        f"column {name!r} has {{n}} times outside the grid {schema.first_time} to {last}",
        "set `first_time` and `length` of the schema, or cut the records",
    )
    return np.where(unreadable | uneven | outside, -1, number - schema.first_time).astype(np.int64)


def _check_duplicates(patient: np.ndarray, time: np.ndarray, schema: TableSchema, found: Findings) -> None:
    usable = (patient >= 0) & (time >= 0)
    again = pd.Series(patient * schema.length + time).where(usable).duplicated().to_numpy() & usable
    pair = f"({schema.patient}, {schema.time})"
    found.rows(again, f"{{n}} rows repeat a pair {pair} that stands above them", "keep one of each")


def _check_real(series: pd.Series, column: Column, found: Findings) -> tuple[np.ndarray, np.ndarray]:
    """Return the column as float64, missing as NaN, and which cells are refused."""
    number, name = as_numbers(series), column.name
    text = found.rows(
        not_numbers(series, number),
        f"column {name!r} has {{n}} cells that are text or dates, not numbers",
        "mend them or leave them empty",
    )
    infinite = found.rows(
        np.abs(number) > LARGEST_REAL,
        f"column {name!r} has {{n}} cells that are infinite or beyond {LARGEST_REAL:g}",
        "mend them or leave them empty",
    )
    number[infinite] = np.nan
    low, high = column.bounds
    outside = (number < low) | (number > high)
    if column.out_of_bounds == "error":
        found.rows(
            outside,
            f"column {name!r} has {{n}} cells outside its bounds {low:g} to {high:g}",
            'mend them, widen `bounds`, or set out_of_bounds = "missing" or "clip"',
        )
    elif outside.any():
        done = "made missing" if column.out_of_bounds == "missing" else "clipped"
        found.warnings.append(f"column {name!r}: {int(outside.sum())} cells outside its bounds were {done}")
    if column.out_of_bounds == "missing":
        number[outside] = np.nan
    number = np.clip(number, low, high)
    if column.transform in ("box-cox", "log1p"):
        found.rows(
            number < 0,
            f"column {name!r} has {{n}} negative cells, which {column.transform} cannot take",
            'mend them, set a lower bound of 0, or choose transform = "yeo-johnson"',
        )
    return number, text | infinite


def _check_codes(series: pd.Series, column: Column, found: Findings) -> tuple[np.ndarray, np.ndarray, tuple[Code, ...]]:
    """Return each cell's position among the codes, which cells are refused, and the codes.

    A cell is the code that it equals as written, else the one it equals as a number.
    """
    index, texts = as_texts(series)
    codes = column.categories or learned_codes(texts)
    by_text = {canonical_code(code): i for i, code in enumerate(codes)}
    by_text |= {str(code): i for i, code in enumerate(codes)}
    known = [by_text.get(text, by_text.get(canonical_code(text), -1)) for text in texts]
    values = np.array([*known, -1], dtype=np.int32)[index]
    unknown = found.rows(
        (values < 0) & (index >= 0),
        f"column {column.name!r} has {{n}} cells with codes that are not in the schema, which allows {_shown(codes)}",
        "mend them or extend `categories`",
    )
    return values, unknown, codes


def missing_cells(values: np.ndarray) -> np.ndarray:
    """Return where a column of a cohort has no value."""
    return np.isnan(values) if values.dtype == np.float64 else values < 0


def counting_cells(name: str, values: dict[str, np.ndarray], schema: TableSchema) -> np.ndarray:
    """Return where a column counts: everywhere, or where its masking indicator is the second code."""
    indicator = schema.masked_by(name)
    if indicator is None or indicator not in values:
        return np.ones(len(values[name]), bool)
    return values[indicator] == 1


def cells_of(cohort: Cohort, names: Sequence[str]) -> Cells:
    """Return some columns of a cohort on its grid, as rules take them; masked cells have no value."""
    shape = (cohort.n_patients, cohort.schema.length)
    has_row = np.zeros(shape, bool)
    has_row[cohort.patient_index, cohort.time_index] = True
    grids = {}
    for name in names:
        column, values = cohort.schema.by_name[name], cohort.values[name]
        seen = counting_cells(name, cohort.values, cohort.schema) & ~missing_cells(values)
        grids[name] = np.full((shape[0], 1) if column.static else shape, np.nan)
        time = 0 if column.static else cohort.time_index[seen]
        grids[name][cohort.patient_index[seen], time] = values[seen]
    return Cells(grids, has_row)


def _check_rules(cohort: Cohort, found: Findings) -> None:
    """Tell where the table breaks a rule: a warning, or an error if the rule says so."""
    for rule in cohort.schema.rules:
        broken, could = violations(rule, cells_of(cohort, rule.columns), cohort.schema.by_name)
        if not broken.any():
            continue
        of = counted(rule, cohort.schema.by_name)
        said = f"the rule {rule.sentence!r} is broken by {int(broken.sum())} of the {int(could.sum())} {of} it is about"
        rows = np.broadcast_to(broken, (cohort.n_patients, cohort.schema.length))[
            cohort.patient_index, cohort.time_index
        ]
        if rule.on_table == "error":
            found.rows(rows, f"{said}, on {{n}} rows", 'mend them, or set on_table = "warn" for the rule')
        else:
            found.warnings.append(f"{said} ({broken.sum() / could.sum():.2%}); a release will keep it")


def _check_values(values: np.ndarray, asked: np.ndarray, patient: np.ndarray, column: Column, found: Findings) -> None:
    """Check the rows `asked`: none missing that may not be, one value a patient if static."""
    used = asked & ~missing_cells(values)
    if column.static:
        _check_static(values, asked, patient, column, found)
    elif column.missing == "never":
        found.rows(
            asked & ~used,
            f'column {column.name!r} has {{n}} missing cells and the schema says missing = "never"',
            'fill them or set missing = "modelled"',
        )
    if used.any() and np.ptp(values[used]) == 0 and column.missing == "never":
        found.warnings.append(f"column {column.name!r} has one value only; it is kept as a constant")


def _check_static(values: np.ndarray, asked: np.ndarray, patient: np.ndarray, column: Column, found: Findings) -> None:
    """Check that each patient has one value on the rows `asked`, which may be empty on some of them."""
    rows = np.flatnonzero(asked & ~missing_cells(values) & (patient >= 0))
    of_patient, first = np.unique(patient[rows], return_index=True)
    changed = np.zeros(len(values), bool)
    expected = values[rows][first][np.searchsorted(of_patient, patient[rows])]
    changed[rows] = values[rows] != expected
    n_changing = len(np.unique(patient[changed]))
    found.rows(
        changed,
        f"column {column.name!r} is static and changes within {n_changing} patients, on {{n}} rows",
        "mend them or set static = false",
    )
    n_without = len(np.unique(patient[asked & (patient >= 0)])) - len(of_patient)
    if column.missing == "never" and n_without:
        found.errors.append(
            f"column {column.name!r} is static and empty for {n_without} patients and the schema says "
            'missing = "never"; fill it or set missing = "modelled"'
        )
