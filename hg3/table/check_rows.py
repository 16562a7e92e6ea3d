"""Hold the frame of a table against its schema: names of columns, patients, times, and pairs of them that repeat."""

import numpy as np
import pandas as pd

from hg3.table.cells import as_numbers, as_texts, typed
from hg3.table.column import canonical_code
from hg3.table.findings import Findings, shown_names
from hg3.table.schema import TableSchema


def check_names(names: list[str], schema: TableSchema, found: Findings) -> set[str]:
    """Return the columns that can be checked; without a header, names may be values of a patient."""
    wanted = [schema.patient, schema.time, *(c.name for c in schema.columns)]
    for name in [n for n in wanted if names.count(n) > 1]:
        found.errors.append(f"the table has column {name!r} {names.count(name)} times; keep one")
    missing = [n for n in wanted if n not in names]
    if missing:
        found.errors.append(
            f"the table lacks {len(missing)} of the {len(wanted)} columns of the schema: {shown_names(missing)}; "
            "add them or take them out of the schema"
        )
    unknown = [n for n in names if n not in wanted and n not in schema.ignore]
    if unknown:
        has_header = schema.patient in names and schema.time in names
        found.errors.append(
            f"the table has {len(unknown)} columns that the schema does not know"
            f"{f': {shown_names(unknown)}' if has_header else ' (has it a header line?)'}; "
            "add them to its columns or to its `ignore` list"
        )
    return {n for n in wanted if names.count(n) == 1}


def check_patients(
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


def check_times(frame: pd.DataFrame, schema: TableSchema, present: set[str], found: Findings) -> np.ndarray:
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


def check_duplicates(patient: np.ndarray, time: np.ndarray, schema: TableSchema, found: Findings) -> None:
    usable = (patient >= 0) & (time >= 0)
    again = pd.Series(patient * schema.length + time).where(usable).duplicated().to_numpy() & usable
    pair = f"({schema.patient}, {schema.time})"
    found.rows(again, f"{{n}} rows repeat a pair {pair} that stands above them", "keep one of each")
