"""Tables of numbers as colours: ochre below zero, blue above, and the numbers themselves wherever there is room."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hg3.evaluation.report.svg import (
    INK,
    PAPER,
    REAL_LIGHT,
    RULE,
    SOFT,
    Drawing,
    fitted,
    less_or_more,
    on_colour,
    width_of,
)

GUTTER = 120  # the most that names beside a table take
PRINTED = 8.5  # size of the numbers in cells
KEY_SIDE = 11


@dataclass(frozen=True)
class Table:
    """One table of a picture: `colours` from -1 to 1 and NaN, `written` in the cells or on touch."""

    title: str
    colours: np.ndarray
    written: Callable[[int, int], str]


def gutter(names: Sequence[str], size: float = 10) -> float:
    """Return how much room the names beside a table take."""
    return min(max((width_of(name, size) for name in names), default=0.0) + 8, GUTTER)


def draw_table(
    drawing: Drawing, table: Table, rows: Sequence[str], columns: Sequence[str], at: tuple[float, float], cell: float
) -> None:
    """Draw a table whose first cell begins at `at`, with the columns' names below it and a title above."""
    x, y = at
    if table.title:
        drawing.text(x, y - 7, table.title, 10.5, fill=SOFT)
    for i in range(len(rows)):
        for j in range(len(columns)):
            _draw_cell(drawing, table, i, j, (x + j * cell, y + i * cell), cell, f"{rows[i]}, {columns[j]}")
    drawing.rect(x, y, len(columns) * cell, len(rows) * cell, "none", stroke=RULE)
    size = min(10.0, cell - 1)
    for j, name in enumerate(columns):
        place = (x + (j + 0.5) * cell + 3.5, y + len(rows) * cell + 6)
        turned = f"rotate(-90 {place[0]:.1f} {place[1]:.1f})"
        drawing.text(*place, fitted(name, GUTTER - 8, size), size, "end", transform=turned)


def draw_colour_key(drawing: Drawing, right: float, full: float) -> None:
    """Draw what the colours from -`full` to `full` mean, above a table and ending at its right side."""
    end = f"{full:g}"
    start = right - width_of(end, 10) - 4 - 5 * KEY_SIDE
    for number in range(5):
        fill = less_or_more(number / 2 - 1)
        drawing.rect(start + number * KEY_SIDE, 5, KEY_SIDE, KEY_SIDE - 2, fill, stroke=RULE, stroke_width=0.5)
    drawing.text(start - 4, 13, f"\N{MINUS SIGN}{end}", 10, "end", SOFT)
    drawing.text(right, 13, end, 10, "end", SOFT)


def draw_row_names(drawing: Drawing, rows: Sequence[str], at: tuple[float, float], cell: float) -> None:
    """Write the names of rows, which end at `at`."""
    for i, name in enumerate(rows):
        size = min(10.0, cell - 1)
        drawing.text(at[0] - 6, at[1] + (i + 0.5) * cell + 3.5, fitted(name, GUTTER - 8, size), size, "end")


def _draw_cell(
    drawing: Drawing, table: Table, i: int, j: int, at: tuple[float, float], cell: float, where: str
) -> None:
    value, words = float(table.colours[i, j]), table.written(i, j)
    known = np.isfinite(value)
    fill = less_or_more(value) if known else PAPER if words else REAL_LIGHT
    fits = width_of(words, PRINTED) <= cell
    drawing.rect(*at, cell, cell, fill, "" if fits or not words else f"{where}: {words}")
    if fits:
        colour = on_colour(value) if known else INK
        drawing.text(at[0] + cell / 2, at[1] + cell / 2 + 3, words, PRINTED, "middle", colour)
