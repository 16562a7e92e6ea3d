"""Numbers on axes and in sentences."""

import math
from dataclasses import dataclass

import numpy as np

from hg3.evaluation.report.svg import RULE, SOFT, Drawing

LOG_RATIO = 50.0  # what is positive and spans more than this gets a log axis
MOST_DECADES = 4  # with a label each
ROUND_TIMES = {"month": (1, 3, 6, 12, 24, 60, 120), "hour": (1, 3, 6, 12, 24, 48, 72, 168), "day": (1, 7, 14, 28)}


@dataclass(frozen=True)
class Scale:
    """Numbers from `low` to `high`, drawn from `start` to `end` pixels; what lies beyond is drawn at the end."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, values: np.ndarray) -> np.ndarray:
        share = (self._line(np.clip(values, self.low, self.high)) - self._line(self.low)) / self._span
        return np.asarray(self.start + share * (self.end - self.start))

    def at(self, value: float) -> float:
        return float(self(np.asarray(value)))

    @property
    def _span(self) -> float:
        return float(self._line(self.high) - self._line(self.low)) or 1.0

    def _line(self, values: float | np.ndarray) -> np.ndarray:
        return np.log10(values) if self.log else np.asarray(values, float)

    def ticks(self, n: int = 4) -> list[tuple[float, str]]:
        """Return about `n` round numbers inside the scale and how they are written."""
        return _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high, n)


def scale_of(low: float, high: float, start: float, end: float) -> Scale:
    """Return a scale that is logarithmic where that belongs, and never empty."""
    if not low < high:
        low, high = low - 0.5, low + 0.5
    return Scale(low, high, start, end, log=low > 0 and high / low > LOG_RATIO)


def _linear_ticks(low: float, high: float, n: int) -> list[tuple[float, str]]:
    rough = (high - low) / n
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    places = np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1) * step
    return [(float(place), _tick(float(place), decimals)) for place in places]


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    decades = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    apart = math.ceil(len(decades) / MOST_DECADES) or 1
    if len(decades) >= 2:
        return [(10.0**decade, _tick(10.0**decade, max(0, -decade))) for decade in decades[::apart]]
    some = [factor * 10.0**decade for decade in range(decades.start - 1, decades.stop + 1) for factor in (1, 2, 5)]
    return [(place, short(place)) for place in some if low <= place <= high]


def _tick(value: float, decimals: int) -> str:
    if abs(value) >= 10_000:
        return short(value)
    return f"{value:,.{decimals}f}".replace("-", "\N{MINUS SIGN}") if value else "0"


def short(value: float) -> str:
    """Return a number with three digits that count, thousands as k and millions as M."""
    if not np.isfinite(value):
        return "\N{EN DASH}"
    for size, letter in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= size * 0.9995:
            return f"{value / (1e3 if letter == 'k' else size):.3g}{letter}".replace("-", "\N{MINUS SIGN}")
    digits = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    written = f"{value:,.{min(digits, 4)}f}"
    written = written.rstrip("0").rstrip(".") if "." in written else written
    return "0" if written in ("-0", "") else written.replace("-", "\N{MINUS SIGN}")


def percent(share: float) -> str:
    """Return a share in percent, with a digit more where it is small."""
    if not np.isfinite(share):
        return "\N{EN DASH}"
    if 0 < abs(share) < 0.0005:
        return "under 0.1%"
    return f"{100 * share:.{1 if 0 < abs(share) < 0.0995 else 0}f}%".replace("-", "\N{MINUS SIGN}")


def two_decimals(value: float) -> str:
    """Return a correlation, or another number about 1."""
    written = f"{value:.2f}" if np.isfinite(value) else "\N{EN DASH}"
    return written.replace("-0.00", "0.00").replace("-", "\N{MINUS SIGN}")


def three_decimals(value: float) -> str:
    """Return a number that stands below others like it."""
    if not np.isfinite(value) or abs(value) >= 10:
        return short(value)
    return f"{value:.3f}".replace("-0.000", "0.000").replace("-", "\N{MINUS SIGN}")


def time_ticks(low: float, high: float, step: str, n: int) -> list[tuple[float, str]]:
    """Return round times: months by the year, hours by the day, anything else by tens."""
    for apart in ROUND_TIMES.get(step, ()):
        if (high - low) / apart <= n:
            times = np.arange(math.ceil(low / apart), math.floor(high / apart) + 1) * apart
            return [(float(time), f"{time:,}") for time in times]
    return _linear_ticks(low, high, n)


def x_axis(
    drawing: Drawing, scale: Scale, y: float, ticks: list[tuple[float, str]] | None = None, name: str = ""
) -> None:
    """Draw a horizontal axis with its numbers, and what they are."""
    drawing.line(scale.start, y, scale.end, y, stroke=SOFT)
    for value, label in scale.ticks() if ticks is None else ticks:
        x = scale.at(value)
        drawing.line(x, y, x, y + 3, stroke=SOFT)
        drawing.text(x, y + 14, label, 10, "middle", SOFT)
    if name:
        drawing.text((scale.start + scale.end) / 2, y + 28, name, 10, "middle", SOFT)


def y_axis(drawing: Drawing, scale: Scale, left: float, right: float, n: int = 4) -> None:
    """Draw faint lines across at round numbers, which stand to their left."""
    for value, label in scale.ticks(n):
        y = scale.at(value)
        drawing.line(left, y, right, y, stroke=RULE)
        drawing.text(left - 5, y + 3.5, label, 10, "end", SOFT)
