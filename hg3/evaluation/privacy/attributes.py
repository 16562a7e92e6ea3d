"""What a record says most of a column: one code a patient, as attackers look for it."""

from dataclasses import dataclass, replace
from warnings import catch_warnings, simplefilter

import numpy as np

from hg3.evaluation.draws import Parts
from hg3.evaluation.panel import Panel, rows_first, scored
from hg3.table.column import Column

N_BINS = 10  # of a real: tenths of the real patients
NONE = -1  # the code of a record without a value


@dataclass(frozen=True)
class Attribute:
    """One column of N patients.

    Parameters
    ----------
    codes : int64, shape (N,): of a real the tenth of real patients that its median lies in, else its most frequent
        code; -1 without a value.
    ranks : of a real, its median as the share of real patients below, float64, (N,), NaN without one.
    """

    column: Column
    codes: Parts[np.ndarray]
    ranks: Parts[np.ndarray] | None


def attributes(panels: Parts[Panel]) -> list[Attribute]:
    """Return what each record says of each column."""
    return [_attribute(panels, column) for column in panels.holdout.schema.columns]


def first_rows(panels: Parts[Panel]) -> list[Attribute]:
    """Return what each record's first row says of each column."""
    return attributes(panels.each(_first_row))


def _first_row(panel: Panel) -> Panel:
    rows = rows_first(panel)
    return replace(rows, values={name: v[:, :1] for name, v in rows.values.items()}, has_row=rows.has_row[:, :1])


def _attribute(panels: Parts[Panel], column: Column) -> Attribute:
    if not column.is_real:
        return Attribute(column, panels.each(lambda panel: _most_frequent(panel, column)), None)
    medians = panels.each(lambda panel: replace(panel, values={column.name: _median(panel, column)}))
    ranks = scored(medians.each(lambda panel: replace(panel, has_row=np.ones((panel.n_patients, 1), bool))), column)
    ranks = ranks.each(lambda rank: rank[:, 0])
    return Attribute(column, ranks.each(_bins), ranks)


def _median(panel: Panel, column: Column) -> np.ndarray:
    with catch_warnings():
        simplefilter("ignore", RuntimeWarning)  # a record without a value has no median: NaN is meant
        return np.nanmedian(panel.row_values(column), axis=1, keepdims=True)


def _bins(ranks: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(ranks), NONE, np.nan_to_num(ranks * N_BINS).clip(0, N_BINS - 1)).astype(np.int64)


def _most_frequent(panel: Panel, column: Column) -> np.ndarray:
    values = panel.row_values(column)
    counts = np.stack([(values == k).sum(axis=1) for k in range(panel.n_codes(column))], axis=1)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), NONE)
