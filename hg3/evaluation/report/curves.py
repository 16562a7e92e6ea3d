"""Small plots of curves over time: a frame with axes, and what lies inside."""

from dataclasses import dataclass

import numpy as np

from hg3.evaluation.report.scales import Scale, scale_of, time_ticks, x_axis, y_axis
from hg3.evaluation.report.svg import Drawing

MARGIN = 0.04  # of the range, above and below what is drawn


@dataclass(frozen=True)
class Frame:
    """A part of a drawing with an axis below and one on the left."""

    x: Scale
    y: Scale

    def points(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.x(x), self.y(y)


def frame(
    drawing: Drawing,
    x: tuple[float, float],
    y: Scale,
    across: tuple[float, float],
    step: str,
    name: str = "",
    numbers: bool = True,
    n_ticks: int = 5,
) -> Frame:
    """Draw the axes of a plot over time, in `step`s, between two pixels `across`.

    Without `numbers` those of y stand at another plot.
    """
    if numbers:
        y_axis(drawing, y, *across)
    else:
        for value, _ in y.ticks():
            drawing.line(across[0], y.at(value), across[1], y.at(value))
    along = Scale(*x, *across)
    x_axis(drawing, along, y.start, time_ticks(*x, step, n_ticks), name or step)
    return Frame(along, y)


def y_scale(values: np.ndarray, bottom: float, top: float) -> Scale:
    """Return the scale from `bottom` to `top` pixels that holds all values."""
    scale = scale_of(float(np.nanmin(values)), float(np.nanmax(values)), bottom, top)
    if scale.log:
        return scale
    room = MARGIN * (scale.high - scale.low)
    low = scale.low - room if not 0 <= scale.low < room else 0.0  # no axis from -1 to 20 of what is never negative
    return Scale(low, scale.high + room, bottom, top)


def thinned(length: int, most: int = 120) -> np.ndarray:
    """Return which of `length` times are drawn: all, or evenly some of them."""
    return np.unique(np.linspace(0, length - 1, min(length, most)).round().astype(int))
