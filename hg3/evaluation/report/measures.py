"""Measures as dots: each score beside the band in which real patients of equal number lie."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hg3.evaluation.draws import FEWEST_FOR_INTERVAL, Measured, interval
from hg3.evaluation.report.figure import Figure, Group, file_name
from hg3.evaluation.report.scales import Scale, three_decimals, x_axis
from hg3.evaluation.report.svg import REAL, REAL_FILL, RULE, SOFT, SYNTHETIC, Drawing, Picture, fitted
from hg3.evaluation.results import Section

MOST_ROWS = 12
WIDTH, LABEL_ROOM, ROW = 350, 132, 19  # pixels
NUMBERS_ROOM = 92
LEAST_RANGE = 0.01


@dataclass(frozen=True)
class Row:
    """One subject's line of a picture."""

    label: str
    measured: Measured


def family_of(measured: Measured) -> str:
    """Return the name that measures of one kind share: without the lag, the learner, the attack."""
    return measured.name.partition(", ")[0]


def beyond(measured: Measured) -> float:
    """Return how much worse than its ceiling a score is on average; NaN where it cannot be estimated."""
    mean = measured.difference()[0]
    return -mean if measured.higher_is_better else mean


def drawn(n_draws: int) -> str:
    """Return in how many draws a measure was taken, and what its interval then is."""
    if n_draws == 1:
        return "counted once"
    return f"{n_draws} draws{', lowest to highest' if n_draws < FEWEST_FOR_INTERVAL else ''}"


def measures_figure(section: Section) -> Figure | None:
    """Return the figure of a section's measures, a picture a kind; None without one that could be estimated."""
    kinds: dict[str, list[Measured]] = {}
    for measured in (measured for measured in section.measures if measured.is_known):
        kinds.setdefault(family_of(measured), []).append(measured)
    if not kinds:
        return None
    alike = [name for name, found in kinds.items() if not any(_differs(measured) for measured in found)]
    apart = {name: found for name, found in kinds.items() if name not in alike}
    pictures = tuple(_drawn(section.name, name, found) for name, found in apart.items())
    n_subjects = {name: len({_subject(measured) for measured in found}) for name, found in apart.items()}
    shortened = [f"{name}: {MOST_ROWS} of {n}" for name, n in n_subjects.items() if n > MOST_ROWS]
    notes = [f"The furthest from real patients are shown ({'; '.join(shortened)})."] if shortened else []
    notes += [f"Nowhere any difference: {', '.join(alike)}."] if alike else []
    return Figure(
        f"Measures: {section.name}",
        "Grey is where 95% of equally many real patients lie, blue the release with its 95% interval; of fewer than "
        f"{FEWEST_FOR_INTERVAL} draws, each goes from the lowest to the highest.",
        (Group(pictures),),
        tuple(notes),
        "roomy",
    )


def _drawn(section: str, name: str, found: list[Measured]) -> Picture:
    rows = [Row(_label(measured), measured) for measured in _worst(found)]
    drawing = Drawing(WIDTH, 58 + ROW * len(rows))
    better = " (higher is better)" if found[0].higher_is_better else " (lower is better)"
    drawing.heading(name[0].upper() + name[1:] + better)
    drawing.text(0, 28, drawn(len(found[0].score)), 10, fill=SOFT)
    drawing.text(WIDTH - 44, 28, "score", 10, "end", SYNTHETIC)
    drawing.text(WIDTH, 28, "ceiling", 10, "end", SOFT)
    scale = _scale(row.measured for row in rows)
    for number, row in enumerate(rows):
        _draw_row(drawing, scale, row, 40 + number * ROW)
    x_axis(drawing, scale, 36 + ROW * len(rows))
    return drawing.picture(file_name("measures", section, name), _says(name + better, rows))


def _differs(measured: Measured) -> bool:
    return bool(measured.score.any() or measured.ceiling.any())


def _worst(found: list[Measured]) -> list[Measured]:
    """Return the subjects furthest beyond their ceiling, each at its worst lag."""
    by_subject: dict[str, Measured] = {}
    for measured in sorted(found, key=lambda measured: -beyond(measured)):
        by_subject.setdefault(_subject(measured), measured)
    return list(by_subject.values())[:MOST_ROWS]


def _subject(measured: Measured) -> str:
    """Return what tells a measure from others of its family, but for lags."""
    return measured.subject if ", lag " in measured.name else _label(measured)


def _label(measured: Measured) -> str:
    return ", ".join(filter(None, (measured.subject, measured.name.partition(", ")[2]))) or "all records"


def _scale(measures: Iterable[Measured]) -> Scale:
    ends = [interval(values) for m in measures for values in (m.score, m.ceiling)]
    low, high = float(np.min(ends)), float(np.max(ends))
    low = min(low, 0.0) if low < 0.5 * high else low - 0.05 * (high - low)
    return Scale(low, max(high, low + LEAST_RANGE), LABEL_ROOM, WIDTH - NUMBERS_ROOM)


def _draw_row(drawing: Drawing, scale: Scale, row: Row, y: float) -> None:
    score, ceiling = row.measured.score, row.measured.ceiling
    low, high = (scale.at(float(end)) for end in interval(ceiling))
    drawing.text(LABEL_ROOM - 10, y + 4, fitted(row.label, LABEL_ROOM - 10, 10.5), 10.5, "end")
    drawing.line(scale.start, y, scale.end, y, stroke=RULE, width=0.6)
    drawing.rect(low, y - 5, max(high - low, 1.5), 10, REAL_FILL)
    middle = scale.at(float(ceiling.mean()))
    drawing.line(middle, y - 5, middle, y + 5, stroke=REAL, width=1.5)
    ends = [scale.at(float(end)) for end in interval(score)]
    drawing.line(*(ends[0], y, ends[1], y), stroke=SYNTHETIC, width=1.6)
    drawing.diamond(scale.at(float(score.mean())), y, 4.5, SYNTHETIC)
    drawing.text(WIDTH - 44, y + 4, three_decimals(float(score.mean())), 10.5, "end", SYNTHETIC)
    drawing.text(WIDTH, y + 4, three_decimals(float(ceiling.mean())), 10.5, "end", SOFT)


def _says(name: str, rows: list[Row]) -> str:
    told = "; ".join(
        f"{row.label} {three_decimals(row.measured.score.mean())} against {three_decimals(row.measured.ceiling.mean())}"
        for row in rows[:5]
    )
    how = drawn(len(rows[0].measured.score))
    return f"{name}, score of the release against the ceiling ({how}): {told}."
