"""How long reals remember: the correlation of a column with itself some times later."""

import numpy as np

from hg3.evaluation.draws import Parts, interval
from hg3.evaluation.fidelity.temporal import LAGS
from hg3.evaluation.panel import Panel, scored
from hg3.evaluation.report.curves import frame
from hg3.evaluation.report.figure import Figure, Group, file_name, left_out, most_apart
from hg3.evaluation.report.patients import below_title, long_name
from hg3.evaluation.report.scales import Scale, two_decimals
from hg3.evaluation.report.svg import REAL, REAL_FILL, SYNTHETIC, Drawing, Picture
from hg3.evaluation.results import Evaluation
from hg3.evaluation.summaries import correlation, lag_moments
from hg3.evaluation.suppression import FEWEST_PATIENTS
from hg3.table.column import Column

MOST_COLUMNS = 24
WIDTH, HEIGHT, TOP, FLOOR = 250, 176, 40, 138  # pixels
ACROSS = (34.0, 196.0)


def memory_figure(panels: Parts[Panel], evaluation: Evaluation) -> Figure | None:
    """Return the figure of autocorrelations, a picture a real that changes; None without any."""
    reals = [column for column in panels.holdout.dynamic() if column.is_real]
    lags = [lag for lag in LAGS if lag < panels.holdout.schema.length]
    curves = {column.name: autocorrelations(panels, column, lags) for column in reals}
    known = {name: curve for name, curve in curves.items() if np.isfinite(curve[0]).any()}
    if not known or not lags:
        return None
    apart = {name: float(np.nansum(np.abs(real - made))) for name, (real, made) in known.items()}
    shown = most_apart(list(known), apart, MOST_COLUMNS)
    widths = ceiling_widths(evaluation)
    by_name = panels.holdout.schema.by_name
    step = panels.holdout.schema.step
    pictures = tuple(_drawn(by_name[name], lags, *known[name], widths, step) for name in shown)
    return Figure(
        "How long values remember",
        f"Correlation of a value’s rank score with that of the same patient 1 to {lags[-1]} {step}s later. The grey "
        "band is where 95% of equally many real patients lie; the blue line should run inside it.",
        (Group(pictures),),
        left_out(len(shown), len(known)),
    )


def autocorrelations(panels: Parts[Panel], column: Column, lags: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlations of real and of synthetic patients; NaN where fewer than ten of them have a pair."""
    scores = scored(panels, column)
    real, made = ([_at_lag(part, lag) for lag in lags] for part in (scores.holdout, scores.made))
    return np.array(real), np.array(made)


def _at_lag(scores: np.ndarray, lag: int) -> float:
    sums = lag_moments(scores[:, :-lag], scores[:, lag:]).sums
    return float(correlation(sums.sum(axis=0))) if (sums[:, 0] > 0).sum() >= FEWEST_PATIENTS else np.nan


def ceiling_widths(evaluation: Evaluation) -> dict[tuple[str, int], float]:
    """Return by column and lag how far 95% of the draws of real patients lie from the held-out ones."""
    found = {}
    for measured in (m for section in evaluation.sections for m in section.measures):
        if measured.name.startswith("autocorrelation, lag ") and np.isfinite(measured.ceiling).all():
            lag = int(measured.name.rpartition(" ")[2])
            found[measured.subject, lag] = interval(measured.ceiling)[1]
    return found


def _drawn(
    column: Column,
    lags: list[int],
    real: np.ndarray,
    made: np.ndarray,
    widths: dict[tuple[str, int], float],
    step: str,
) -> Picture:
    drawing = Drawing(WIDTH, HEIGHT)
    drawing.heading(column.name, below_title(column))
    width = np.array([widths.get((column.name, lag), 0.0) for lag in lags])
    lowest = float(np.nanmin([real - width, np.nan_to_num(made)]))
    scale = Scale(min(0.0, np.floor(lowest * 4) / 4), 1.0, FLOOR, TOP)
    inside = frame(drawing, (lags[0], max(lags[-1], lags[0] + 1)), scale, ACROSS, step, f"{step}s later")
    x = inside.x(np.array(lags, float))
    drawing.band(x, scale(real - width), scale(real + width), REAL_FILL)
    drawing.curve(x, scale(real), REAL, 1.2)
    drawing.curve(x, scale(made), SYNTHETIC, 1.8)
    for a, b in zip(x, scale(made), strict=True):
        if np.isfinite(b):
            drawing.circle(a, b, 2.4, SYNTHETIC)
    _end_labels(drawing, scale, float(real[-1]), float(made[-1]))
    told = f"after 1 {step} {two_decimals(real[0])} real and {two_decimals(made[0])} synthetic, "
    told += f"after {lags[-1]} {two_decimals(real[-1])} and {two_decimals(made[-1])}."
    return drawing.picture(file_name("memory", column.name), f"{long_name(column)}, correlation with itself: {told}")


def _end_labels(drawing: Drawing, scale: Scale, real: float, made: float) -> None:
    """Name both lines where they end, apart from one another."""
    if not np.isfinite(real + made):
        return
    places = [scale.at(real), scale.at(made)]
    if abs(places[0] - places[1]) < 12:
        middle, sign = sum(places) / 2, 1 if made >= real else -1
        places = [middle + 6 * sign, middle - 6 * sign]
    drawing.text(ACROSS[1] + 6, places[0] + 3.5, "real", 10, fill=REAL)
    drawing.text(ACROSS[1] + 6, places[1] + 3.5, "synthetic", 10, fill=SYNTHETIC)
