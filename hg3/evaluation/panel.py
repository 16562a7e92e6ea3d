"""Patients on the grid of times, in arrays: what every measure reads."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hg3.evaluation.draws import Parts
from hg3.table.cohort import Cohort, cells_of
from hg3.table.column import Code, Column
from hg3.table.schema import TableSchema


@dataclass(frozen=True)
class Panel:
    """N patients and L times.

    Parameters
    ----------
    values : by column, float64, shape (N, L), or (N, 1) if static: reals in their unit, codes as positions in
        `categories`, NaN where there is no value that counts.
    has_row : bool, shape (N, L).
    categories : by column that is not real, its codes.
    """

    schema: TableSchema
    values: dict[str, np.ndarray]
    has_row: np.ndarray
    categories: dict[str, tuple[Code, ...]]

    @property
    def n_patients(self) -> int:
        return len(self.has_row)

    @property
    def lengths(self) -> np.ndarray:
        """Return each record's length in times, from the first time to the last row, int64, (N,); 0 without a row."""
        length = self.has_row.shape[1]
        return np.where(self.has_row.any(axis=1), length - np.argmax(self.has_row[:, ::-1], axis=1), 0)

    def n_codes(self, column: Column) -> int:
        return len(self.categories[column.name])

    def row_values(self, column: Column) -> np.ndarray:
        """Return a column on every row, (N, L): a static value stands on each row of its patient, NaN elsewhere."""
        return np.where(self.has_row, self.values[column.name], np.nan)

    def dynamic(self) -> Iterator[Column]:
        return (column for column in self.schema.columns if not column.static)


def panel_of(cohort: Cohort) -> Panel:
    cells = cells_of(cohort, [column.name for column in cohort.schema.columns])
    return Panel(cohort.schema, cells.values, cells.has_row, cohort.categories)


def some_patients(panel: Panel, patients: np.ndarray | slice) -> Panel:
    """Return some of the patients of a panel, by position or mask."""
    values = {name: value[patients] for name, value in panel.values.items()}
    return replace(panel, values=values, has_row=panel.has_row[patients])


def rows_first(panel: Panel) -> Panel:
    """Return the panel with each patient's rows moved to the front, so that neighbours are consecutive rows."""
    order = np.argsort(~panel.has_row, axis=1, kind="stable")
    values = {
        name: value if value.shape[1] == 1 else np.take_along_axis(value, order, axis=1)
        for name, value in panel.values.items()
    }
    return replace(panel, values=values, has_row=np.take_along_axis(panel.has_row, order, axis=1))


def carried_forward(values: np.ndarray) -> np.ndarray:
    """Return (N, L) values with each NaN replaced by the patient's last value before it; NaN where there is none."""
    here = np.where(np.isnan(values), 0, np.arange(values.shape[1]))
    return np.take_along_axis(values, np.maximum.accumulate(here, axis=1), axis=1)


def scored(panels: Parts[Panel], column: Column) -> Parts[np.ndarray]:
    """Return a real on every row as the share of real patients' cells below it, ties in the middle, (N, L); NaN stays.

    One scale for all, made from the real patients alone, which no outlier dominates: a correlation of such scores is
    Spearman's for these patients, and nearly so for others whose column has another shape.
    """
    values = panels.each(lambda panel: panel.row_values(column))
    known = np.sort(np.concatenate([part[~np.isnan(part)] for part in (values.train, values.holdout)]))

    def score(part: np.ndarray) -> np.ndarray:
        below, up_to = np.searchsorted(known, part, "left"), np.searchsorted(known, part, "right")
        return np.where(np.isnan(part), np.nan, (below + up_to) / (2.0 * max(len(known), 1)))

    return values.each(score)


def of_patient(rows: np.ndarray) -> np.ndarray:
    """Return the value of a static column that stands on each row of a patient, (N, 1); NaN where there is none."""
    first = np.argmax(~np.isnan(rows), axis=1)[:, None]
    return np.take_along_axis(rows, first, axis=1)
