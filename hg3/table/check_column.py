"""Hold one column of a table against its schema: numbers, codes, missing cells, one value a patient if static."""

import numpy as np
import pandas as pd

from hg3.table.cells import as_numbers, as_texts, learned_codes, not_numbers
from hg3.table.cohort import missing_cells
from hg3.table.column import LARGEST_REAL, Code, Column, canonical_code
from hg3.table.findings import Findings, shown_names


def check_real(series: pd.Series, column: Column, found: Findings) -> tuple[np.ndarray, np.ndarray]:
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
    number = _bounded(number, column, found)
    if column.transform in ("box-cox", "log1p"):
        found.rows(
            number < 0,
            f"column {name!r} has {{n}} negative cells, which {column.transform} cannot take",
            'mend them, set a lower bound of 0, or choose transform = "yeo-johnson"',
        )
    return number, text | infinite


def _bounded(number: np.ndarray, column: Column, found: Findings) -> np.ndarray:
    """Return the numbers as the schema wants those outside the bounds: told as errors, missing, or clipped."""
    low, high = column.bounds
    outside = (number < low) | (number > high)
    if column.out_of_bounds == "error":
        found.rows(
            outside,
            f"column {column.name!r} has {{n}} cells outside its bounds {low:g} to {high:g}",
            'mend them, widen `bounds`, or set out_of_bounds = "missing" or "clip"',
        )
    elif outside.any():
        done = "made missing" if column.out_of_bounds == "missing" else "clipped"
        found.warnings.append(f"column {column.name!r}: {int(outside.sum())} cells outside its bounds were {done}")
    if column.out_of_bounds == "missing":
        number[outside] = np.nan
    return np.clip(number, low, high)


def check_codes(series: pd.Series, column: Column, found: Findings) -> tuple[np.ndarray, np.ndarray, tuple[Code, ...]]:
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
        f"column {column.name!r} has {{n}} cells with codes that are not in the schema, which allows "
        f"{shown_names(codes)}",
        "mend them or extend `categories`",
    )
    return values, unknown, codes


def check_values(values: np.ndarray, asked: np.ndarray, patient: np.ndarray, column: Column, found: Findings) -> None:
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
