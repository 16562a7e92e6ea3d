"""Pictures as SVG, drawn by hand: few elements, words as text in the reader's font, and all of it said in words too."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

import numpy as np

INK, SOFT, RULE, PAPER = "#1b1f24", "#59626d", "#d9dde2", "#ffffff"
REAL, REAL_FILL, REAL_LIGHT = "#6b737d", "#cdd2d8", "#e6e9ec"
SYNTHETIC, SYNTHETIC_FILL, SYNTHETIC_LIGHT = "#0067a5", "#a9cce3", "#d6e6f1"
BEYOND = "#b3330b"
LESS, MORE = (0x9A, 0x5B, 0x00), (0x00, 0x67, 0xA5)  # ochre and blue: far apart for every kind of colour vision
DARK_ENOUGH = 0.8  # from this strength on, white words on a colour are read more easily than dark ones

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
NARROW, WIDE = frozenset("ijltfrI.,:;'|!()[]- ·"), frozenset("mwMWABCDGHKNOQRUVXYZ%+&@")
NARROW_LETTER, LETTER, WIDE_LETTER = 0.42, 0.61, 0.8  # of the size of the font, in a wide one


@dataclass(frozen=True)
class Picture:
    """A drawn picture: the name of its file without `.svg`, the SVG, and the width at which it is to be read."""

    name: str
    svg: str
    width: float


class Drawing:
    """A picture of `width` by `height` pixels; what is drawn later lies above."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._parts: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, fill: str, title: str = "", **more: object) -> None:
        self._add("rect", title, x=x, y=y, width=width, height=height, fill=fill, **more)

    def line(self, x1: float, y1: float, x2: float, y2: float, stroke: str = RULE, width: float = 1.0) -> None:
        self._add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, stroke_width=width)

    def circle(self, x: float, y: float, radius: float, fill: str, stroke: str = "none", width: float = 1.5) -> None:
        self._add("circle", cx=x, cy=y, r=radius, fill=fill, stroke=stroke, stroke_width=width)

    def diamond(self, x: float, y: float, radius: float, fill: str) -> None:
        corners = ((x - radius, y), (x, y - radius), (x + radius, y), (x, y + radius))
        self._add("polygon", points=" ".join(f"{_number(a)},{_number(b)}" for a, b in corners), fill=fill)

    def curve(
        self, x: Iterable[float], y: Iterable[float], stroke: str, width: float = 1.6, dash: str = "none"
    ) -> None:
        """Draw a line through points; NaN interrupts it."""
        steps, pen = [], "M"
        for a, b in zip(x, y, strict=True):
            if np.isfinite(a) and np.isfinite(b):
                steps.append(f"{pen}{_number(a)} {_number(b)}")
            pen = "L" if np.isfinite(a) and np.isfinite(b) else "M"
        more = {} if dash == "none" else {"stroke_dasharray": dash}
        if steps:
            self._add(
                "path",
                d="".join(steps),
                fill="none",
                stroke=stroke,
                stroke_width=width,
                stroke_linejoin="round",
                **more,
            )

    def band(self, x: np.ndarray, low: np.ndarray, high: np.ndarray, fill: str) -> None:
        """Fill what lies between two curves, wherever both are."""
        known = np.isfinite(low) & np.isfinite(high)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], known.astype(int), [0]])))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            part = slice(start, end)
            there = zip(x[part], high[part], strict=True)
            back = zip(x[part][::-1], low[part][::-1], strict=True)
            outline = "L".join(f"{_number(a)} {_number(b)}" for a, b in (*there, *back))
            self._add("path", d=f"M{outline}Z", fill=fill)

    def text(
        self, x: float, y: float, words: str, size: float = 11, anchor: str = "start", fill: str = INK, **more: object
    ) -> None:
        place = {} if anchor == "start" else {"text_anchor": anchor}
        self._add("text", _clean(words), x=x, y=y, font_size=size, fill=fill, **place, **more)

    def heading(self, title: str, below: str = "") -> None:
        """Write the picture's title, and softer what stands below it, as far as there is room."""
        self.text(0, 12, fitted(title, self.width, 12.5), 12.5, font_weight=600)
        if below:
            self.text(0, 27, fitted(below, self.width, 10.5), 10.5, fill=SOFT)

    def picture(self, name: str, says: str) -> Picture:
        """Return the picture; `says` tells who cannot see it what it shows."""
        size = f"{_number(self.width)} {_number(self.height)}"
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{_number(self.width)}" '
            f'height="{_number(self.height)}" role="img" aria-label="{_clean(says)}" font-family="{FONT}">'
        )
        return Picture(name, head + "".join(self._parts) + "</svg>\n", self.width)

    def _add(self, tag: str, inside: str = "", **attributes: object) -> None:
        written = "".join(
            f' {key.replace("_", "-")}="{_number(value) if isinstance(value, int | float) else _clean(str(value))}"'
            for key, value in attributes.items()
        )
        if inside and tag != "text":
            inside = f"<title>{_clean(inside)}</title>"
        self._parts.append(f"<{tag}{written}>{inside}</{tag}>" if inside else f"<{tag}{written}/>")


def fitted(words: str, room: float, size: float) -> str:
    """Return the words, cut short to fit a width."""
    if width_of(words, size) <= room + 0.1:  # what was measured for these words
        return words
    most = next(n for n in range(len(words) - 1, -1, -1) if n <= 1 or width_of(words[:n] + "…", size) <= room)
    return words[:most].rstrip() + "…"


def width_of(words: str, size: float) -> float:
    """Return about how wide words are: a font is the reader's, and none is known while we draw."""
    letters = (NARROW_LETTER if a in NARROW else WIDE_LETTER if a in WIDE else LETTER for a in words)
    return size * sum(letters)


def less_or_more(value: float) -> str:
    """Return the colour of a number from -1, ochre, over 0, white, to 1, blue."""
    end, strength = (MORE if value > 0 else LESS), min(abs(value), 1.0)
    return "#" + "".join(f"{round(255 + (part - 255) * strength):02x}" for part in end)


def on_colour(value: float) -> str:
    """Return the colour of words on `less_or_more` of a number."""
    return PAPER if abs(value) > DARK_ENOUGH else INK


def _number(value: float) -> str:
    written = f"{value:.1f}".removesuffix(".0")
    return "0" if written == "-0" else written


def _clean(words: str) -> str:
    """Return words as XML can hold them: a name may have any character."""
    return escape("".join(letter for letter in words if letter.isprintable()))
