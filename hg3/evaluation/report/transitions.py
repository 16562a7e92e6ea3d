"""What follows what: from one row to the next, the codes of a column among real and among synthetic patients."""

import numpy as np

from hg3.evaluation.draws import Parts
from hg3.evaluation.panel import Panel, rows_first
from hg3.evaluation.report.figure import Figure, Group, file_name, left_out, most_apart
from hg3.evaluation.report.heat import Table, draw_row_names, draw_table, gutter
from hg3.evaluation.report.patients import below_title, code_names, long_name
from hg3.evaluation.report.scales import percent
from hg3.evaluation.report.svg import Drawing, Picture
from hg3.evaluation.suppression import FEWEST_PATIENTS, patient_counts
from hg3.table.column import Column

MOST_COLUMNS, MOST_CODES = 16, 10
CELL, BETWEEN, TOP = 24.0, 18.0, 62.0  # pixels
WHOLE_SCALE = 0.25  # difference from which on a colour is full


def transition_figure(panels: Parts[Panel]) -> Figure | None:
    """Return the figure of transition tables, one picture a category column that changes; None without any."""
    rows = panels.each(rows_first)
    columns = [column for column in panels.holdout.dynamic() if not column.is_real]
    drawn = {column.name: _drawn(rows, column) for column in columns}
    if not drawn:
        return None
    shown = most_apart(list(drawn), {name: apart for name, (_, apart) in drawn.items()}, MOST_COLUMNS)
    return Figure(
        "What follows what",
        "From a row of a record, named on the left, to the next one, named below: how many in a hundred. A dash is a "
        "step that fewer than ten real patients take. In the difference blue is more often among synthetic patients, "
        f"ochre less often, in full from {percent(WHOLE_SCALE)} on.",
        (Group(tuple(drawn[name][0] for name in shown)),),
        left_out(len(shown), len(drawn)),
        "flow",
    )


def transition_shares(panel: Panel, column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of each code's rows that each code follows, and how many patients take each step, (K, K)."""
    before, after = panel.row_values(column)[:, :-1], panel.row_values(column)[:, 1:]
    n, here = panel.n_codes(column), ~np.isnan(before + after)
    kind = (before * n + after)[here].astype(np.int64)
    counts = np.bincount(kind, minlength=n * n).reshape(n, n)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares, patient_counts(kind, np.nonzero(here)[0], n * n).reshape(n, n)


def _drawn(rows: Parts[Panel], column: Column) -> tuple[Picture, float]:
    """Return a column's picture and how far apart its tables lie."""
    (real, carried), (made, made_carried) = (transition_shares(part, column) for part in (rows.holdout, rows.made))
    real = np.where(carried >= FEWEST_PATIENTS, real, np.nan)
    made = np.where(made_carried >= FEWEST_PATIENTS, made, np.nan)
    often = np.where(np.isfinite(real).any(axis=1), carried.sum(axis=1), 0)
    kept = np.sort(np.argsort(-often, kind="stable")[: min(MOST_CODES, int((often > 0).sum()))])
    names = [code_names(rows, column)[k] for k in kept]
    difference = (made - real)[np.ix_(kept, kept)]
    tables = (real[np.ix_(kept, kept)], made[np.ix_(kept, kept)], difference)
    dropped = f"the {len(kept)} most frequent of {len(real)} codes" if len(kept) < len(real) else ""
    picture = _triptych(column, names, tables, dropped)
    return picture, float(np.nansum(np.abs(difference)) / max(len(names), 1))


def _triptych(column: Column, names: list[str], tables: tuple[np.ndarray, ...], dropped: str) -> Picture:
    left, below = gutter(names), gutter(names)
    side = CELL * len(names)
    step = max(side, 74.0) + BETWEEN
    drawing = Drawing(max(left + 3 * step, 250), TOP + side + below + 6)
    drawing.heading(column.name, "; ".join(filter(None, (below_title(column), dropped))))
    draw_row_names(drawing, names, (left, TOP), CELL)
    for number, (title, table) in enumerate(zip(("Real", "Synthetic", "Difference"), tables, strict=True)):
        full = WHOLE_SCALE if title == "Difference" else 1.0
        drawn = Table(title, table / full, lambda i, j, table=table: _hundredths(table[i, j]))  # type: ignore[misc]
        draw_table(drawing, drawn, names, names, (left + number * step, TOP), CELL)
    return drawing.picture(file_name("transitions", column.name), _says(column, names, tables, dropped))


def _hundredths(share: float) -> str:
    return f"{100 * share:.0f}".replace("-0", "0").replace("-", "\N{MINUS SIGN}") if np.isfinite(share) else "–"


def _says(column: Column, names: list[str], tables: tuple[np.ndarray, ...], dropped: str) -> str:
    real, made, difference = tables
    head = f"{long_name(column)}, transitions from row to row{', ' + dropped if dropped else ''}"
    if not np.isfinite(difference).any():
        return f"{head}: no step that ten real and ten synthetic patients take."
    i, j = np.unravel_index(int(np.nanargmax(np.abs(difference))), difference.shape)
    return (
        f"{head}. Furthest apart: {names[i]} is followed by {names[j]} in {percent(real[i, j])} of real and "
        f"{percent(made[i, j])} of synthetic steps."
    )
