"""Propose a schema for a table: TOML with comments, for a person to correct.

A schema is shown and released, so the proposal holds nothing that one patient could be known by: no smallest or
largest value, no code that few carry, shares rounded to whole percents.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from hg3 import disk
from hg3.errors import ConfigError, TableError
from hg3.table.binning import bin_numbers
from hg3.table.cells import as_numbers, as_texts
from hg3.table.codecs import FEWEST_CARRIERS
from hg3.table.infer_column import as_cells, column_lines, line, text_of, why_ignored
from hg3.table.read import read_table
from hg3.table.schema import FORMAT, LARGEST_BIN, TableSchema, parse_schema

LONGEST = 100_000  # times of a grid, as the schema allows
STEPS: tuple[str, ...] = get_args(TableSchema.model_fields["step"].annotation)


def propose_schema(
    table: str | Path, patient: str, time: str, out: str | Path, step: str | None = None, width: float | None = None
) -> None:
    """Write a proposed schema for the table at path `table` to `out`, which must not be there yet.

    Raises
    ------
    ConfigError
        If `out` is there, its folder is not, `step` is unknown or `width` is no width.
    TableError, SchemaError
        As `infer_schema`, and if the table cannot be read.
    """
    out, table = Path(out), Path(table)
    if out.exists():
        raise ConfigError(f"{out} is there already, perhaps corrected by hand; remove it or choose another --out")
    if not out.parent.is_dir():
        raise ConfigError(f"the folder {out.parent} does not exist; make it first")
    disk.remove_leftovers(out)
    name = table.name.split(".")[0] or "proposal"
    disk.write_text(out, infer_schema(read_table(table, None), patient, time, name, step, width))


def infer_schema(
    frame: pd.DataFrame, patient: str, time: str, name: str, step: str | None = None, width: float | None = None
) -> str:
    """Return a proposed schema as commented TOML that `load_schema` reads.

    Parameters
    ----------
    frame : the table in long format; codes as "01" must still be text.
    patient, time : the columns that name the patient and the time, whole numbers unless `width` is given.
    name : of the schema.
    step : what a time counts; where absent, taken from the time column's name, else "visit".
    width : of the bins that visits at any time are put into, in units of `step`.

    Raises
    ------
    ConfigError
        If `step` is unknown, or `width` is not above 0, is above 1e6 or makes more bins than a grid has times.
    TableError
        If a column is not there or there twice, no other one is left, or a time is not a whole number; with `width`
        any finite number will do.
    SchemaError
        If a column has a name that hg3 needs for itself.
    """
    if step is not None and step not in STEPS:
        raise ConfigError(f"--step {step} was given; it is one of {', '.join(STEPS)}")
    if width is not None and not 0 < width <= LARGEST_BIN:
        raise ConfigError(
            f"a bin of {width:g} was asked for; its width is above 0 and at most {LARGEST_BIN:,.0f}: give such a "
            "width, or count the times in a coarser unit"
        )
    frame = frame.set_axis([str(column) for column in frame.columns], axis=1)
    _check_names(list(frame.columns), patient, time)
    head = _head(name, patient, time, step or _step_of(time))
    number = as_numbers(frame[time])
    if width is not None:
        _check_width(number, width, time)
        head += _bins(frame.columns, time, width)
        number = bin_numbers(number, width)
    people, _ = as_texts(frame[patient])
    head += _grid(number, people, time)
    ignored, blocks = [], []
    for column in (as_cells(frame[c], people, c) for c in frame.columns if c not in (patient, time)):
        if reason := why_ignored(column):
            ignored.append((column.name, reason))
        else:
            blocks.append(column_lines(column))
    if not blocks:
        raise TableError(f"the table has no column to model besides {patient!r} and {time!r}; add one")
    text = "\n".join([*head, *_ignore(ignored), *(line for block in blocks for line in ("", *block))]) + "\n"
    parse_schema(text, "proposed for the table")
    return text


def _check_names(names: list[str], patient: str, time: str) -> None:
    if patient == time:
        raise TableError(f"{patient!r} was given as both patient and time; they are two columns")
    for name in (patient, time):
        if name not in names:
            raise TableError(f"the table has no column {name!r}; name the columns of the patient and of the time")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"the table has {len(twice)} columns more than once: {twice[:10]}; keep one of each")


def _head(name: str, patient: str, time: str, step: str) -> list[str]:
    return [
        "# Proposed by `hg3 schema infer`; correct it before you train. Shares are rounded. Bounds are not taken from",
        "# the data, whose ends are values of patients. Units, labels, roles, masks and rewards are yours to add.",
        f"format = {FORMAT}",
        *(line(key, value) for key, value in (("name", name), ("patient", patient), ("time", time), ("step", step))),
    ]


def _step_of(time: str) -> str:
    """Return the step that the time column's name says, "visit" if it says none."""
    return next((step for step in STEPS if step in time.lower()), "visit")


def _check_width(number: np.ndarray, width: float, time: str) -> None:
    """Refuse a width of which more bins than the longest grid has times lie between the first and the last time."""
    finite = number[np.isfinite(number)]
    with np.errstate(over="ignore"):
        if len(finite) and np.ptp(finite) / width >= LONGEST:
            raise ConfigError(
                f"a bin of {width:g} was asked for, and column {time!r} then spans more than {LONGEST:,} bins; "
                f"choose a wider one, up to {LARGEST_BIN:,.0f}, or count the times in a coarser unit"
            )


def _bins(names: Iterable[str], time: str, width: float) -> list[str]:
    """Return the width of a bin and the column of the time within it, under a name that is free."""
    within = f"{time}_within"
    while within in names:
        within += "_bin"
    return [line("bin", width, "in units of the step"), line("within", within, "hg3 makes this column")]


def _grid(time: np.ndarray, patient: np.ndarray, name: str) -> list[str]:
    """Return first_time and length; an end that few patients reach is theirs, and is rounded outward."""
    unreadable, uneven = int((~np.isfinite(time)).sum()), int((time != np.round(time)).sum())
    if unreadable:
        raise TableError(
            f"column {name!r} has {unreadable:,} of {len(time):,} times that are no finite numbers; mend them, or drop "
            "their rows"
        )
    if uneven:
        raise TableError(
            f"column {name!r} has {uneven:,} of {len(time):,} times that are not whole numbers; give --bin, the width "
            "of a bin in their unit, or count whole days, weeks, months or visits from the start of each record"
        )
    first, last = int(time.min()), int(time.max())
    notes = ["", ""]
    if first and not _many(patient[time == first]):
        first, notes[0] = 10 * ((first - 1) // 10), "few patients begin so early: rounded down"
    length = last - first + 1
    if not _many(patient[time == last]):
        length, notes[1] = (
            10 * (length // 10 + 1),
            "few patients stay so long: rounded up; a shorter grid trains faster",
        )
    if length > LONGEST:
        raise TableError(
            f"column {name!r} spans more than {LONGEST:,} times; count in a coarser step from the start of each record"
        )
    return [line("first_time", first, notes[0]), line("length", length, notes[1])]


def _many(patient: np.ndarray) -> bool:
    return len(np.unique(patient[patient >= 0])) >= FEWEST_CARRIERS


def _ignore(ignored: list[tuple[str, str]]) -> list[str]:
    if not ignored:
        return []
    return ["ignore = [", *(f"    {text_of(name)}, # {reason}" for name, reason in ignored), "]"]
