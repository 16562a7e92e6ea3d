"""Cells of any type as numbers or as texts: the same cell is the same, whatever format it came in."""

import math
from typing import Any

import numpy as np
import pandas as pd

from hg3.table.column import LARGEST_CODE, Code, canonical_code


def as_numbers(series: pd.Series) -> np.ndarray:
    """Return a column as float64: NaN where it is missing or is not a number; dates are not numbers."""
    if not _holds_numbers(series.dtype):
        return np.full(len(series), np.nan)
    try:
        number = pd.to_numeric(series, errors="coerce")
    except OverflowError:  # a whole number of hundreds of digits: as text it reads as infinite
        number = pd.to_numeric(series.map(_float_of), errors="coerce")
    return number.to_numpy(dtype=np.float64, na_value=np.nan).copy()


def _float_of(cell: Any) -> Any:
    try:
        return float(cell)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return cell


def not_numbers(series: pd.Series, number: np.ndarray) -> np.ndarray:
    """Return which cells are neither numbers nor empty; a text of blanks is empty."""
    doubtful = np.flatnonzero(np.isnan(number) & series.notna().to_numpy())
    wrong = np.zeros(len(number), bool)
    wrong[doubtful] = [str(cell).strip() != "" for cell in series.iloc[doubtful]]
    return wrong


def _holds_numbers(dtype: Any) -> bool:
    """Whether cells of that type may be numbers: numbers, text that says them, anything mixed."""
    if isinstance(dtype, pd.CategoricalDtype):
        return _holds_numbers(dtype.categories.dtype)
    types = pd.api.types
    return (
        (types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype))
        or types.is_object_dtype(dtype)
        or types.is_string_dtype(dtype)
    )


def as_texts(series: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Return each cell's position among the texts of a column (-1: empty), and the texts."""
    try:
        index, distinct = pd.factorize(series)
    except (TypeError, NotImplementedError):  # lists and other cells that cannot be compared
        index, distinct = pd.factorize(series.astype(object).astype(str).where(series.notna()))
    written = [_text(value) for value in distinct]
    texts = sorted(set(written) - {""})
    position = {text: i for i, text in enumerate(texts)}
    lookup = np.array([*(position.get(text, -1) for text in written), -1], dtype=np.int64)
    return lookup[index], texts


def _text(value: Any) -> str:
    """Return a cell as text; a whole float loses its point: codes with gaps come as floats."""
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value).strip()


def typed(texts: list[str]) -> list[int] | list[str]:
    """Return texts as integers where all of them are integers of 64 bits."""
    try:
        numbers = [int(text) for text in texts]
    except ValueError:
        return texts
    plain = all(str(n) == t and abs(n) <= LARGEST_CODE for n, t in zip(numbers, texts, strict=True))
    return numbers if plain else texts


def learned_codes(texts: list[str]) -> tuple[Code, ...]:
    """Return the codes of a column whose schema lists none, in their order."""
    return tuple(np.unique(np.array(typed(sorted({canonical_code(text) for text in texts})))).tolist())
