"""Visits at any time, put on a grid: which bin, and when within it."""

import numpy as np
import pandas as pd

from hg3.table.cells import as_numbers, as_texts
from hg3.table.schema import TableSchema

SAME_TIME = 9  # decimals of a bin: 0.3 lies at the start of the fourth bin of 0.1, whatever floats make of it


def bin_visits(frame: pd.DataFrame, schema: TableSchema) -> tuple[pd.DataFrame, np.ndarray | None, int]:
    """Return the table with times as numbers of bins and the column `within`, its rows' positions, how many it lost.

    Of several visits of a patient in one bin the last stays; a static value that only an earlier one has passes to it.
    Visits at the very same time all stay: they are an error that the checks tell. A table that has the column `within`
    is binned already and comes back as it is.
    """
    names = list(frame.columns)
    if schema.within in names:
        return frame, None, 0
    if names.count(schema.time) != 1:  # the checks tell
        return frame.assign(**{schema.within: 0.0}), None, 0
    time = as_numbers(frame[schema.time])
    number, offset = bins_of(time, schema)
    kept = np.arange(len(frame))
    if names.count(schema.patient) == 1:  # else the checks tell
        kept = np.flatnonzero(~_superseded(frame[schema.patient], time, number))
        if len(kept) < len(frame):
            frame = _static_carried(frame, number, [c.name for c in schema.columns if c.static], schema.patient)
    binned = frame.assign(**{schema.time: number, schema.within: offset}).iloc[kept].reset_index(drop=True)
    return binned, kept, len(frame) - len(kept)


def static_changes(frame: pd.DataFrame, schema: TableSchema) -> dict[str, int]:
    """Return for each static column that changes between visits of one bin in how many patients, before they are lost.

    frame : the table before `bin_visits`, with one column of the patient and one of the time.
    """
    people, _ = as_texts(frame[schema.patient])
    number = bin_numbers(as_numbers(frame[schema.time]), float(schema.bin or 1.0))
    changing = {}
    for column in schema.columns:
        if column.static and list(frame.columns).count(column.name) == 1:
            code, _ = as_texts(frame[column.name])
            visits = pd.DataFrame({"who": people, "bin": number, "code": code})[(code >= 0) & (people >= 0)]
            several = visits.groupby(["who", "bin"])["code"].nunique() > 1
            changing[column.name] = several[several].index.get_level_values("who").nunique()
    return {name: count for name, count in changing.items() if count}


def _static_carried(frame: pd.DataFrame, number: np.ndarray, names: list[str], patient: str) -> pd.DataFrame:
    """Return the table with empty cells of the static columns `names` filled from the visits of the same bin."""
    people, _ = as_texts(frame[patient])
    once = [name for name in names if list(frame.columns).count(name) == 1]
    filled = {name: frame[name].where(as_texts(frame[name])[0] >= 0) for name in once}
    carried = {name: cells.groupby([people, number]).transform("last") for name, cells in filled.items()}
    return frame.assign(**{name: filled[name].where(filled[name].notna(), carried[name]) for name in once})


def _superseded(patients: pd.Series, time: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Return which rows have a later one of their patient in their bin; none where no patient is named."""
    patient, _ = as_texts(patients)
    latest = pd.Series(time).groupby([patient, number]).transform("max").to_numpy()
    return (time < latest) & (patient >= 0)


def bin_numbers(time: np.ndarray, width: float) -> np.ndarray:
    """Return the bin of each time, float64, time 0 being the start of bin 0; infinite times stay so."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.floor(np.round(time / width, SAME_TIME))


def bins_of(time: np.ndarray, schema: TableSchema) -> tuple[np.ndarray, np.ndarray]:
    """Return the bin of each time and the time since its start, float64, on the decimals of the column `within`.

    Parameters
    ----------
    time : float64, in units of the schema's step; time 0 is the start of bin 0.
    """
    column, width = schema.by_name[schema.within], float(schema.bin or 1.0)
    number = bin_numbers(time, width)
    with np.errstate(invalid="ignore", over="ignore"):
        offset = np.round(time - number * width, column.decimals or 0)
    return number, np.nan_to_num(np.clip(offset, *column.bounds), nan=0.0)
