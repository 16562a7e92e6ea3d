"""Guess what one column of a table is, as commented TOML: kind, static, codes, decimals, missing cells."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import tomli_w

from hg3.table.cells import as_numbers, as_texts, learned_codes, not_numbers
from hg3.table.codecs import FEWEST_CARRIERS
from hg3.table.column import LARGEST_REAL, Code, canonical_code

MOST_CODES = 50  # of a column of texts; one with more holds free text or identifiers
MOST_NUMBERS = 15  # of a column of whole numbers that may be codes; one with more is a real
CELLS_PER_CODE = 10  # a column with fewer is no column of codes, whatever its cells
MOST_DECIMALS = 6  # that an instrument may give; more are a computation's
STRAY_TEXTS = 0.05  # of the cells of a real that may be texts such as "<20", which the check then tells
CROWD = 2 * FEWEST_CARRIERS  # a cohort of fewer patients has no crowd that could hide anyone
HINT = "whole numbers: ordinal if their order means something, real if they count or measure"


@dataclass(frozen=True)
class Cells:
    """One column of a table of R rows: cells as texts, as numbers, and whose they are.

    Parameters
    ----------
    index, patient : int64, shape (R,): position among `codes` (-1: empty), and the patient's number (-1: none).
    number : float64, shape (R,), NaN where a cell is no number; n_texts : how many cells are neither number nor empty.
    codes : different cells, canonical: 1, 1.0 and "1" are one.
    """

    name: str
    index: np.ndarray
    patient: np.ndarray
    number: np.ndarray
    n_texts: int
    codes: tuple[str, ...]

    @property
    def filled(self) -> np.ndarray:
        return self.index >= 0

    @property
    def n_patients(self) -> int:
        return len(np.unique(self.patient[self.patient >= 0]))

    @property
    def n_carriers(self) -> int:
        """How many patients have any value."""
        return len(np.unique(self.patient[self.filled & (self.patient >= 0)]))

    def carriers(self) -> np.ndarray:
        """Return how many patients carry each code, shape (codes,)."""
        pairs = np.unique(np.stack([self.index, self.patient])[:, self.filled & (self.patient >= 0)], axis=1)
        return np.bincount(pairs[0], minlength=len(self.codes))


def as_cells(series: pd.Series, patient: np.ndarray, name: str) -> Cells:
    """Return the cells of a column; `patient`, int64, shape (R,), as in `Cells`."""
    index, texts = as_texts(series)
    number = as_numbers(series)
    canonical, lookup = np.unique([canonical_code(text) for text in texts], return_inverse=True)
    index = np.append(lookup, -1)[index].astype(np.int64)
    n_texts = int(not_numbers(series, number).sum())
    return Cells(name, index, patient, number, n_texts, tuple(canonical.tolist()))


def why_ignored(column: Cells) -> str | None:
    """Return why a column cannot be modelled, or None."""
    if not column.codes:
        return "empty"
    if column.n_patients >= CROWD and column.n_carriers < FEWEST_CARRIERS:
        return f"filled for fewer than {FEWEST_CARRIERS} patients"
    if not _is_number(column) and not _may_be_codes(column, MOST_CODES):
        return "free text, dates or identifiers"
    return None


def _is_number(column: Cells) -> bool:
    """Whether nearly all cells are numbers and none is a code like 01; a check tells the few texts."""
    padded = any(code.lstrip("+-")[:1] == "0" and code.lstrip("+-")[1:2].isdigit() for code in column.codes)
    return not padded and column.n_texts <= STRAY_TEXTS * column.filled.sum()


def _may_be_codes(column: Cells, most: int) -> bool:
    if set(column.codes) <= {"0", "1"}:
        return True
    return len(column.codes) <= most and column.filled.sum() >= CELLS_PER_CODE * len(column.codes)


def column_lines(column: Cells) -> list[str]:
    """Return a column of the schema, a line of TOML each."""
    whole = _is_whole(column)
    real = _is_number(column) and not (whole and _may_be_codes(column, MOST_NUMBERS))
    static = _is_static(column, column.number if real else column.index)
    missing = _missing_share(column, static)
    found, rare = (_real_lines(column, whole), False) if real else _code_lines(column, whole)
    lines = ["[[columns]]", line("name", column.name), *found]
    if static:
        lines.insert(3, "static = true")
    if missing:
        lines.append(line("missing", "modelled", f"{_percent(missing)} {'of patients ' if static else ''}missing"))
    elif rare:
        lines.append(line("missing", "modelled", "rare codes then count as missing; merge them to avoid that"))
    return lines


def _is_whole(column: Cells) -> bool:
    """Whether all cells are whole numbers."""
    number = column.number[column.filled]
    return column.n_texts == 0 and bool((number == np.round(number)).all())


def _is_static(column: Cells, value: np.ndarray) -> bool:
    """Whether no patient has two values, and each has the value on all rows, on the first one alone, or not at all.

    A column of one value that comes and goes (ventilated or empty) tells something by when it is there.
    """
    rows = np.flatnonzero(column.patient >= 0)
    order = rows[np.argsort(column.patient[rows], kind="stable")]
    patient, there, value = column.patient[order], column.filled[order], value[order]
    if not len(order) or not (patient[1:] == patient[:-1]).any():
        return False
    starts = np.flatnonzero(np.diff(patient, prepend=-1))
    filled = np.add.reduceat(there, starts, dtype=np.int64)
    n_rows = np.diff(np.append(starts, len(patient)))
    first = np.repeat(value[starts], n_rows)  # no value equals an empty first row
    return bool(((filled <= 1) | (filled == n_rows)).all() and ((value == first) | ~there).all())


def _missing_share(column: Cells, static: bool) -> float:
    """Return the share of cells, or of patients for a static column, without a value."""
    if not static:
        return float(1 - column.filled.mean())
    return 1 - column.n_carriers / column.n_patients


def _percent(share: float) -> str:
    """Return a share as text, rounded so that no single cell can be told from it."""
    percent = round(100 * share)
    return "under 1%" if percent == 0 else "over 99%" if percent == 100 else f"{percent}%"


def _real_lines(column: Cells, whole: bool) -> list[str]:
    values = column.number[column.filled & np.isfinite(column.number)]
    lines = [line("kind", "real", f"{column.n_texts:,} cells are not numbers: mend them" if column.n_texts else "")]
    decimals = 0 if whole else _decimals(values)
    if decimals is None:
        lines.append(f"# decimals: more than {MOST_DECIMALS} in the table; set as many as the instrument gives")
    else:
        lines.append(line("decimals", decimals))
    if len(values) and values.min() >= 0:
        lines.append(line("bounds", [0.0, float("inf")], "set the highest value that is clinically possible"))
    else:
        lines.append("# bounds: set what is clinically possible")
    return lines


def _decimals(values: np.ndarray) -> int | None:
    """Return the fewest decimals that hold all values, None if those are more than an instrument gives."""
    values = values[np.abs(values) < LARGEST_REAL]
    return next((d for d in range(MOST_DECIMALS + 1) if np.allclose(values, np.round(values, d), 1e-12, 1e-12)), None)


def _code_lines(column: Cells, whole: bool) -> tuple[list[str], bool]:
    """Return the lines of a column of codes, and whether it has codes that too few patients carry to be named."""
    codes = learned_codes(list(column.codes))
    if set(codes) <= {0, 1}:
        return [line("kind", "binary")], False
    n_rare = int((column.carriers() < FEWEST_CARRIERS).sum())
    hint = HINT if whole and len(codes) > 2 else ""
    if n_rare:
        few = (
            f"# categories: {n_rare} of {len(codes)} codes have fewer than {FEWEST_CARRIERS} patients and are not named"
        )
        return [line("kind", "categorical", hint), few], True
    return [line("kind", "binary" if len(codes) == 2 else "categorical", hint), line("categories", codes)], False


def line(key: str, value: str | float | list[float] | tuple[Code, ...], comment: str = "") -> str:
    written = f"[{', '.join(map(text_of, value))}]" if isinstance(value, list | tuple) else text_of(value)
    return f"{key} = {written}" + (f" # {comment}" if comment else "")


def text_of(value: str | float) -> str:
    """Return a single value as TOML."""
    return tomli_w.dumps({"v": value}).removeprefix("v = ").rstrip("\n")
