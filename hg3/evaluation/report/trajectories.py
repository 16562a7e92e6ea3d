"""Where reals go over time: the spread of patients at each time, real beside synthetic, by subgroup."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hg3.evaluation.draws import Parts
from hg3.evaluation.panel import Panel
from hg3.evaluation.report.curves import Frame, frame, thinned, y_scale
from hg3.evaluation.report.figure import Figure, Group, file_name, important, left_out
from hg3.evaluation.report.patients import TOO_FEW, below_title, code_names, long_name, quantiles_by_time
from hg3.evaluation.report.scales import short
from hg3.evaluation.report.svg import (
    INK,
    REAL,
    REAL_FILL,
    REAL_LIGHT,
    SOFT,
    SYNTHETIC,
    SYNTHETIC_FILL,
    SYNTHETIC_LIGHT,
    Drawing,
    Picture,
)
from hg3.evaluation.suppression import FEWEST_PATIENTS
from hg3.table.column import Column

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
MOST_COLUMNS, MOST_GROUPS = 8, 8
WIDTH, HEIGHT, TOP, FLOOR = 350, 186, 50, 146  # pixels
ACROSS = ((42, 186), (202, 346))


@dataclass(frozen=True)
class Subgroup:
    """Some patients of both parts, by a code that they share; `key` names the picture's file."""

    name: str
    key: str
    real: np.ndarray
    made: np.ndarray


def trajectory_figure(panels: Parts[Panel]) -> Figure | None:
    """Return the figure of fan charts, a row of pictures a column; None without a real that changes."""
    reals = [column for column in panels.holdout.dynamic() if column.is_real]
    groups = list(_subgroups(panels))
    drawn = {column.name: _group(panels, column, groups[:MOST_GROUPS]) for column in _ordered(panels, reals)}
    shown = {name: group for name, group in drawn.items() if group.pictures}
    if not shown:
        return None
    notes = left_out(len(shown), len(reals))
    if len(reals) > len(drawn):
        notes = (
            f"Shown are {len(shown)} of {len(reals)} reals: those of rewards and targets, then those that differ most.",
        )
    if len(groups) > MOST_GROUPS:
        notes += (f"Shown are {MOST_GROUPS} of {len(groups)} subgroups: the whole, then the largest.",)
    return Figure(
        "Where values go over time",
        "At each time the line is the median patient, the dark band the middle half, the light band the middle 80%. "
        "Real patients stand on the left, synthetic ones on the right, on one axis. A band or line is drawn only "
        "where ten patients lie on either side of it.",
        tuple(shown.values()),
        notes,
        "roomy",
    )


def _ordered(panels: Parts[Panel], reals: list[Column]) -> list[Column]:
    """Return the columns that are drawn: what users work with, then those whose fans lie furthest apart."""
    if len(reals) <= MOST_COLUMNS:
        return reals
    first = important(panels.holdout.schema)
    apart = {column.name: _apart(panels, column) for column in reals}
    return sorted(reals, key=lambda column: (column.name not in first, -apart[column.name]))[:MOST_COLUMNS]


def _apart(panels: Parts[Panel], column: Column) -> float:
    """Return the mean distance of the fans of all patients, in the height of the real one."""
    times = thinned(panels.holdout.schema.length)
    real, made = (quantiles_by_time(p.row_values(column)[:, times], SHARES) for p in (panels.holdout, panels.made))
    distance, height = np.abs(made - real), real[-1] - real[0]
    known = np.isfinite(distance) & (height > 0)
    return float((distance / np.where(height > 0, height, 1.0))[known].mean()) if known.any() else 0.0


def _subgroups(panels: Parts[Panel]) -> Iterator[Subgroup]:
    """Yield everybody, then who carries each static code, the most frequent first, if ten real patients do."""
    yield Subgroup("All patients", "all", *(np.ones(p.n_patients, bool) for p in (panels.holdout, panels.made)))
    found = []
    for column in panels.holdout.schema.known_subgroups():
        for k, code in enumerate(code_names(panels, column)):
            real, made = (p.values[column.name][:, 0] == k for p in (panels.holdout, panels.made))
            if real.sum() >= 2 * FEWEST_PATIENTS and made.any():
                found.append(Subgroup(f"{column.name}: {code}", f"{column.name} {k}", real, made))
    yield from sorted(found, key=lambda group: -group.real.sum())


def _group(panels: Parts[Panel], column: Column, groups: list[Subgroup]) -> Group:
    pictures = [_drawn(panels, column, group) for group in groups]
    about = below_title(column)
    title = f"{column.name}: {about}" if about else column.name
    return Group(tuple(picture for picture in pictures if picture is not None), title)


def _drawn(panels: Parts[Panel], column: Column, group: Subgroup) -> Picture | None:
    times = thinned(panels.holdout.schema.length)
    fans = [
        quantiles_by_time(panel.row_values(column)[who][:, times], SHARES)
        for panel, who in ((panels.holdout, group.real), (panels.made, group.made))
    ]
    if not np.isfinite(fans[0]).any() or not np.isfinite(fans[1]).any():
        return None
    drawing = Drawing(WIDTH, HEIGHT)
    drawing.heading(group.name)
    scale, schema = y_scale(np.concatenate(fans), FLOOR, TOP), panels.holdout.schema
    counts = group.real.sum(), group.made.sum()
    for number, (fan, who) in enumerate(zip(fans, ("real", "synthetic"), strict=True)):
        along = (float(schema.first_time), float(schema.first_time + schema.length - 1))
        inside = frame(drawing, along, scale, ACROSS[number], schema.step, numbers=number == 0)
        _fan(drawing, inside, times + schema.first_time, fan, number)
        drawing.text(ACROSS[number][0], 36, f"{counts[number]:,} {who}", 10.5, fill=(SOFT, SYNTHETIC)[number])
    says = _says(column, group, fans, schema.step)
    return drawing.picture(file_name("trajectory", column.name, group.key), says)


def _fan(drawing: Drawing, inside: Frame, times: np.ndarray, fan: np.ndarray, number: int) -> None:
    light, dark, line = ((REAL_LIGHT, REAL_FILL, REAL), (SYNTHETIC_LIGHT, SYNTHETIC_FILL, SYNTHETIC))[number]
    x, y = inside.points(times, fan)
    drawing.band(x, y[0], y[4], light)
    drawing.band(x, y[1], y[3], dark)
    drawing.curve(x, y[2], line if number else INK, 1.8)


def _says(column: Column, group: Subgroup, fans: list[np.ndarray], step: str) -> str:
    told = []
    for fan, who in zip(fans, ("real", "synthetic"), strict=True):
        known = np.flatnonzero(np.isfinite(fan[2]))
        if len(known):
            told.append(f"the median {who} patient goes from {short(fan[2, known[0]])} to {short(fan[2, known[-1]])}")
    what = "; ".join(told) or f"{TOO_FEW} at each {step}"
    return f"{long_name(column)} by {step}, {group.name}: {what}."
