"""Columns one at a time: which values they take, and how often they have none."""

import math

import numpy as np

from hg3.evaluation.draws import Parts
from hg3.evaluation.panel import Panel
from hg3.evaluation.report.figure import Figure, Group, file_name, left_out, most_apart
from hg3.evaluation.report.patients import (
    TOO_FEW,
    below_title,
    cells,
    code_names,
    long_name,
    missing_share,
    quantiles,
)
from hg3.evaluation.report.scales import Scale, percent, scale_of, short, x_axis
from hg3.evaluation.report.svg import REAL, REAL_FILL, SOFT, SYNTHETIC, Drawing, Picture, fitted, width_of
from hg3.evaluation.suppression import bin_shares, kept_counts, shown_range
from hg3.table.column import Column

WIDTH, HEIGHT, TOP, FLOOR = 250, 172, 40, 134  # pixels of a picture; between TOP and FLOOR are bars
ACROSS = (14, WIDTH - 16)
BINS, STATIC_BIN_PATIENTS, FEWEST_BINS = 40, 20, 4  # a static column has one value a patient: wider bins
COARSE = 4  # possible values a bin, below which bins of unequally many would be seen as a comb
MOST_COLUMNS, MOST_BARS = 48, 6
LABEL_ROOM, BAR = 126, 17
QUARTILES = (0.25, 0.5, 0.75)


def marginals(panels: Parts[Panel]) -> Figure:
    """Return the figure of marginals, a picture a column."""
    drawn = {column.name: _drawn(panels, column) for column in panels.holdout.schema.columns}
    shown = most_apart(list(drawn), {name: apart for name, (_, apart) in drawn.items()}, MOST_COLUMNS)
    by_name = panels.holdout.schema.by_name
    reals, codes = (tuple(drawn[n][0] for n in shown if by_name[n].is_real == wanted) for wanted in (True, False))
    groups = (Group(reals, "Numbers"), Group(codes, "Categories"))
    return Figure(
        "Each column by itself",
        "How often each value occurs, over rows, or over patients where a column does not change. Real patients are "
        "the grey shapes, synthetic ones the blue line or the blue diamond. Reals are shown between their 1% and 99% "
        "points.",
        tuple(group for group in groups if group.pictures),
        left_out(len(shown), len(drawn)),
    )


def _drawn(panels: Parts[Panel], column: Column) -> tuple[Picture, float]:
    """Return a column's picture and how far apart real and synthetic lie in it, 0 to 1."""
    drawing = Drawing(WIDTH, HEIGHT if column.is_real else TOP + BAR * _n_bars(panels, column) + 22)
    drawing.heading(column.name, below_title(column) or ("one value a patient" if column.static else ""))
    says, apart = (_real if column.is_real else _category)(drawing, panels, column)
    lacking = [missing_share(part, column) for part in (panels.holdout, panels.made)]
    if max(lacking) > 0:
        words = f"no value: real {percent(lacking[0])}, synthetic {percent(lacking[1])}"
        drawing.text(0, drawing.height - 3, words, 10, fill=SOFT)
        says += f" {words[0].upper()}{words[1:]}."
    return drawing.picture(file_name("marginal", column.name), f"{long_name(column)}: {says}"), apart


def _real(drawing: Drawing, panels: Parts[Panel], column: Column) -> tuple[str, float]:
    real, made = cells(panels.holdout, column), cells(panels.made, column)
    low, high = shown_range(*real)
    if not low < high:
        drawing.text(0, 84, "constant, or too few patients", 10.5, fill=SOFT)
        return f"constant, or {TOO_FEW}.", 0.0
    scale = scale_of(low, high, *ACROSS)
    edges = _edges(column, scale, len(real[0]))
    shares = [bin_shares(*part, edges) for part in (real, made)]
    _stairs(drawing, scale(edges), *shares)
    x_axis(drawing, scale, FLOOR)
    middle = [_quartiles(*part) for part in (real, made)]
    says = (
        f"median {short(middle[0][1])} among real and {short(middle[1][1])} among synthetic patients; middle half "
        f"{short(middle[0][0])} to {short(middle[0][2])} and {short(middle[1][0])} to {short(middle[1][2])}."
    )
    return says, _apart(*shares)


def _quartiles(values: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """Return quartiles of rows; NaN of fewer patients than would have them of one value each."""
    clear = np.isfinite(quantiles(np.unique(patient).astype(float), QUARTILES))
    return np.where(clear, np.quantile(values, QUARTILES), np.nan) if clear.any() else np.full(3, np.nan)


def _edges(column: Column, scale: Scale, n_values: int) -> np.ndarray:
    """Return the ends of bins; of numbers with few digits a bin holds equally many that can occur."""
    low, high = scale.low, scale.high
    n_bins = int(np.clip(n_values // STATIC_BIN_PATIENTS, FEWEST_BINS, BINS)) if column.static else BINS
    apart = 10.0**-column.decimals if column.decimals is not None else 0.0
    n_possible = round((high - low) / apart) + 1 if apart and not scale.log else n_bins * COARSE
    if n_possible < n_bins * COARSE:
        width = math.ceil(n_possible / n_bins) * apart
        return low - apart / 2 + width * np.arange(math.ceil(n_possible * apart / width) + 1)
    edges = np.geomspace(low, high, n_bins + 1) if scale.log else np.linspace(low, high, n_bins + 1)
    edges[[0, -1]] = low, high
    return edges


def _stairs(drawing: Drawing, x: np.ndarray, real: np.ndarray, made: np.ndarray) -> None:
    highest = max(real.max(), made.max(), 1e-12)
    corners = np.repeat(x, 2)[1:-1]
    real_y, made_y = (FLOOR - (FLOOR - TOP) * np.repeat(shares, 2) / highest for shares in (real, made))
    drawing.band(corners, np.full(len(corners), float(FLOOR)), real_y, REAL_FILL)
    drawing.curve(corners, real_y, REAL, 0.8)
    drawing.curve(corners, made_y, SYNTHETIC, 1.7)


def _category(drawing: Drawing, panels: Parts[Panel], column: Column) -> tuple[str, float]:
    names = code_names(panels, column)
    real, made = (_shares(part, column, len(names)) for part in (panels.holdout, panels.made))
    if len(names) > MOST_BARS and column.kind == "ordinal":
        _columns(drawing, real, made, names)
        shown = list(range(len(names)))
    else:
        shown = sorted(np.argsort(-np.maximum(real, made), kind="stable")[:MOST_BARS].tolist())
        _rows(drawing, real, made, names, shown)
    says = "; ".join(f"{names[k]} {_or_few(real[k])} real, {_or_few(made[k])} synthetic" for k in shown[:12])
    return f"{says}.", _apart(real, made)


def _n_bars(panels: Parts[Panel], column: Column) -> float:
    """Return how many bars high a category's picture is."""
    n_codes = panels.holdout.n_codes(column)
    if n_codes > MOST_BARS:
        return (HEIGHT - TOP - 22) / BAR if column.kind == "ordinal" else MOST_BARS + 1
    return n_codes


def _shares(panel: Panel, column: Column, n_codes: int) -> np.ndarray:
    values, patient = cells(panel, column)
    kept = kept_counts(values.astype(np.int64), patient, n_codes)
    return np.asarray(kept / max(kept.sum(), 1))  # of what is shown: the rest of the whole would tell what is not


def _apart(real: np.ndarray, made: np.ndarray) -> float:
    return float(0.5 * np.abs(real - made).sum())


def _or_few(share: float) -> str:
    return percent(share) if share > 0 else "too few"


def _rows(drawing: Drawing, real: np.ndarray, made: np.ndarray, names: list[str], shown: list[int]) -> None:
    """Draw a bar for the real patients and a diamond for the synthetic ones, a row a code."""
    room = min(max(width_of(names[k], 10.5) for k in shown) + 7, LABEL_ROOM)
    scale = scale_of(0.0, max(real.max(), made.max(), 1e-12), room, WIDTH - 72)
    for row, k in enumerate(shown):
        y = TOP + 5 + row * BAR
        drawing.text(room - 7, y + 3.5, fitted(names[k], room - 7, 10.5), 10.5, "end")
        if real[k] > 0:
            drawing.rect(room, y - 5.5, scale.at(real[k]) - room, 11, REAL_FILL, stroke=REAL)
        if made[k] > 0:
            drawing.diamond(scale.at(made[k]), y, 5, SYNTHETIC)
        drawing.text(WIDTH - 34, y + 3.5, percent(real[k]) if real[k] > 0 else "–", 10, "end", SOFT)
        drawing.text(WIDTH - 1, y + 3.5, percent(made[k]) if made[k] > 0 else "–", 10, "end", SYNTHETIC)
    if len(names) > len(shown):
        drawing.text(room, TOP + 5 + len(shown) * BAR + 4, f"and {len(names) - len(shown)} more", 10, fill=SOFT)


def _columns(drawing: Drawing, real: np.ndarray, made: np.ndarray, names: list[str]) -> None:
    """Draw the codes of a long scale side by side."""
    x = np.linspace(*ACROSS, len(names) + 1)
    _stairs(drawing, x, real, made)
    drawing.line(x[0], FLOOR, x[-1], FLOOR, stroke=SOFT)
    room, every = x[1] - x[0], 1 + (len(names) - 1) // 12
    for k in range(0, len(names), every):
        drawing.text((x[k] + x[k + 1]) / 2, FLOOR + 14, fitted(names[k], room * every, 10), 10, "middle", SOFT)
