"""A checked table in arrays: which of its cells have a value, which count, and its columns on the grid of times."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hg3.table.column import Code, Column
from hg3.table.schema import TableSchema
from hg3.table.violations import Cells


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


def missing_cells(values: np.ndarray) -> np.ndarray:
    """Return where a column of a cohort has no value."""
    return np.isnan(values) if values.dtype == np.float64 else values < 0


def counting_cells(name: str, values: dict[str, np.ndarray], schema: TableSchema) -> np.ndarray:
    """Return where a column counts: everywhere, or where its masking indicator is the second code."""
    indicator = schema.masked_by(name)
    if indicator is None or indicator not in values:
        return np.ones(len(values[name]), bool)
    return values[indicator] == 1


def observed_cells(cohort: Cohort, column: Column) -> np.ndarray:
    """Return per row whether `column` has a value that counts: present, and not masked by its indicator."""
    counts = counting_cells(column.name, cohort.values, cohort.schema)
    return counts & ~missing_cells(cohort.values[column.name])


def record_shape(cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    """Return each record's length (N,), its last time plus one, and where it has a row, bool (N, L)."""
    present = np.zeros((cohort.n_patients, cohort.schema.length), dtype=bool)
    present[cohort.patient_index, cohort.time_index] = True
    return cohort.schema.length - np.argmax(present[:, ::-1], axis=1), present


def cells_of(cohort: Cohort, names: Sequence[str]) -> Cells:
    """Return some columns of a cohort on its grid, as rules take them; masked cells have no value."""
    grids = {}
    for name in names:
        column = cohort.schema.by_name[name]
        seen = observed_cells(cohort, column)
        grids[name] = np.full((cohort.n_patients, 1 if column.static else cohort.schema.length), np.nan)
        time = 0 if column.static else cohort.time_index[seen]
        grids[name][cohort.patient_index[seen], time] = cohort.values[name][seen]
    return Cells(grids, record_shape(cohort)[1])
