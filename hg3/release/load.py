"""A release back in memory: a table, padded arrays, or transitions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pandas as pd
import pyarrow as pa

from hg3.errors import ReleaseError
from hg3.release.reading import Release, codes_of, open_release, read_rows, rows_of, side_by_side, values_of
from hg3.release.transitions import Reward, Transitions, make_transitions
from hg3.table.schema import TableSchema

FORMS = ("table", "arrays", "transitions")
NULLABLE = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}


@dataclass(frozen=True, eq=False)
class Arrays:
    """A release as padded arrays of N patients and L times; position l is the time `first_time + l`.

    Codes are positions in the schema's categories; a cell without a value is NaN.

    Parameters
    ----------
    patients : int64, shape (N,), the ids.
    static : float64, shape (N, S), in the order of `static_names`.
    dynamic : float64, shape (N, L, D), in the order of `dynamic_names`.
    observed : bool, shape (N, L, D), where `dynamic` has a value.
    in_record : bool, shape (N, L), up to the patient's last row.
    has_row : bool, shape (N, L), where the release has a row: inside the record, and no gap.
    lengths : int64, shape (N,), the last row's position plus one.
    """

    patients: np.ndarray
    static: np.ndarray
    static_names: tuple[str, ...]
    dynamic: np.ndarray
    dynamic_names: tuple[str, ...]
    observed: np.ndarray
    in_record: np.ndarray
    has_row: np.ndarray
    lengths: np.ndarray


@overload
def load(release: str | Path, form: Literal["table"] = "table", reward: None = None) -> pd.DataFrame: ...
@overload
def load(release: str | Path, form: Literal["arrays"], reward: None = None) -> Arrays: ...
@overload
def load(release: str | Path, form: Literal["transitions"], reward: Reward | None = None) -> Transitions: ...
@overload
def load(release: str | Path, form: str, reward: Reward | None = None) -> Any: ...
def load(release: str | Path, form: str = "table", reward: Reward | None = None) -> Any:
    """Return a release as a table, as padded arrays, or as transitions (s, a, r, s').

    Parameters
    ----------
    release : the release folder.
    form : "table", a DataFrame in long format, one row a patient and time: reals are float64, integer codes
        int32 (nullable Int32 where they may be missing; 64 for 32 where a code needs it), text codes category.
        "arrays": see `Arrays`. "transitions": see `Transitions`; columns with `role = "action"` are actions, all
        others the state.
    reward : of "transitions" only: a function of (s, a, s_next), whole arrays, that returns r, shape (M,).
        Where absent, r is the sum over the schema's `[[reward]]` of weight times the value at t + 1, or times
        its natural logarithm; under a logarithm, a value below half a unit of the column's last decimal
        counts as that half unit, so that 0 has a finite reward.

    Raises
    ------
    ReleaseError
        If the folder is no complete release, the form is unknown, or the schema has no action or no reward.

    Examples
    --------
    >>> table = hg3.load("release")  # doctest: +SKIP
    >>> hg3.load("release", "arrays").dynamic.shape  # doctest: +SKIP
    (1000, 60, 11)
    """
    if form not in FORMS:
        raise ReleaseError(f"form {form!r} is unknown; choose one of {', '.join(FORMS)}")
    if reward is not None and form != "transitions":
        raise ReleaseError(f"a reward was given for form {form!r}; only transitions have rewards")
    opened = open_release(release)
    table = read_rows(opened)
    if form == "table":
        return _frame(table, opened.schema)
    if form == "arrays":
        return _arrays(table, opened)
    return make_transitions(table, opened, reward)


def _frame(table: pa.Table, schema: TableSchema) -> pd.DataFrame:
    frame = table.unify_dictionaries().to_pandas()
    for column in schema.columns:
        if column.is_real:
            continue
        if isinstance(frame[column.name].dtype, pd.CategoricalDtype):
            codes = codes_of(table[column.name], column).to_pylist()
            ordered = column.kind == "ordinal"
            frame[column.name] = frame[column.name].cat.set_categories(codes, ordered=ordered)
        elif column.missing == "modelled" or schema.masked_by(column.name) or table[column.name].null_count:
            frame[column.name] = table[column.name].to_pandas(types_mapper=NULLABLE.get)  # a float64 may round codes
    return frame


def _arrays(table: pa.Table, release: Release) -> Arrays:
    schema, rows = release.schema, rows_of(table, release)
    n, length = len(rows.first), schema.length
    static = [column for column in schema.columns if column.static]
    moving = [column for column in schema.columns if not column.static]
    heads = table.take(rows.first)
    flat = rows.number * length + rows.position
    dynamic = np.full((n, length, len(moving)), np.nan)
    for d, column in enumerate(moving):
        dynamic.reshape(n * length, len(moving))[flat, d] = values_of(table, column, release.folder)
    has_row = np.zeros(n * length, bool)
    has_row[flat] = True
    lengths = rows.position[np.append(rows.first[1:], len(rows.patient))[:n] - 1] + 1
    return Arrays(
        patients=rows.patient[rows.first],
        static=side_by_side([values_of(heads, column, release.folder) for column in static], np.arange(n)),
        static_names=tuple(column.name for column in static),
        dynamic=dynamic,
        dynamic_names=tuple(column.name for column in moving),
        observed=~np.isnan(dynamic),
        in_record=np.arange(length) < lengths[:, None],
        has_row=has_row.reshape(n, length),
        lengths=lengths,
    )
