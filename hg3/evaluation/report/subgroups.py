"""Who is there: subgroups by their static codes, and how many of them real and synthetic patients have."""

from itertools import product

import numpy as np

from hg3.evaluation.draws import Parts
from hg3.evaluation.fidelity.subgroups import codes_of, wanted_subgroups
from hg3.evaluation.panel import Panel
from hg3.evaluation.report.figure import Figure, Group, file_name
from hg3.evaluation.report.patients import TOO_FEW, code_names
from hg3.evaluation.report.scales import percent, scale_of
from hg3.evaluation.report.svg import REAL, RULE, SOFT, SYNTHETIC, Drawing, Picture, fitted, width_of
from hg3.evaluation.suppression import FEWEST_PATIENTS
from hg3.table.column import Column

NUMBERS_ROOM, PLOT, LABEL_ROOM, ROW = 106, 150, 220, 20
MOST_GROUPS = 30


def subgroup_figure(panels: Parts[Panel]) -> Figure | None:
    """Return the figure of all combinations of codes, the most frequent first; None without static codes."""
    columns = list(panels.holdout.schema.known_subgroups())
    if not columns:
        return None
    names = [" · ".join(codes) for codes in product(*(code_names(panels, column) for column in columns))]
    real, made = (_counts(panel, columns) for panel in (panels.holdout, panels.made))
    order = [k for k in np.argsort(-real, kind="stable") if real[k] >= FEWEST_PATIENTS][:MOST_GROUPS]
    few = [k for k in range(len(names)) if real[k] < FEWEST_PATIENTS]
    if not order:
        return None
    hidden = percent(made[few].sum() / max(made.sum(), 1))
    note = f"{len(few)} combinations have {TOO_FEW} and are not shown; {hidden} of synthetic patients are in them."
    title = f"Subgroups by {' and '.join(column.name for column in columns)}"
    shares = (real[order] / real[order].sum(), made[order] / max(made[order].sum(), 1))  # of all, the rest would tell
    picture = _drawn([names[k] for k in order], *shares, title=title)
    return Figure(
        title,
        "Share of the patients in what is shown. A grey ring for the real patients, a blue diamond for the synthetic "
        "ones; the line between them is what a subgroup gained or lost.",
        (Group((picture,)),),
        (note,) if few else (),
        "flow",
    )


def lost_subgroups(panels: Parts[Panel]) -> str | None:
    """Return how many subgroups the release lacks and which is the largest, of at least ten real patients; or None."""
    found, columns = wanted_subgroups(panels), panels.holdout.schema.known_subgroups()
    lost = np.flatnonzero(found.made == 0)
    if not len(lost):
        return None
    largest = lost[np.argmax(found.real[lost])]
    codes = codes_of(found.cell[largest], panels.holdout, columns)
    named = [[*code_names(panels, column), "no value"][code] for column, code in zip(columns, codes, strict=True)]
    share = percent(found.real[largest] / found.n_real)
    return (
        f"{len(lost)} of {len(found.cell)} subgroups {'is' if len(lost) == 1 else 'are'} not in the release, the "
        f"largest {' · '.join(named)}: {share} of real patients, against none of the synthetic ones."
    )


def _counts(panel: Panel, columns: list[Column]) -> np.ndarray:
    """Return how many patients each combination of codes has; who lacks a code is in none."""
    kind, known = np.zeros(panel.n_patients), np.ones(panel.n_patients, bool)
    for column in columns:
        values = panel.values[column.name][:, 0]
        known &= ~np.isnan(values)
        kind = kind * panel.n_codes(column) + np.nan_to_num(values)
    n_kinds = int(np.prod([panel.n_codes(column) for column in columns]))
    return np.bincount(kind[known].astype(np.int64), minlength=n_kinds)


def _drawn(names: list[str], real: np.ndarray, made: np.ndarray, title: str) -> Picture:
    room = min(max(width_of(name, 11) for name in names) + 10, LABEL_ROOM)
    width = room + PLOT + NUMBERS_ROOM
    drawing = Drawing(width, 34 + ROW * len(names))
    scale = scale_of(0.0, float(max(real.max(), made.max())), room, room + PLOT)
    drawing.text(width - 52, 11, "real", 10, "end", REAL)
    drawing.text(width - 1, 11, "synthetic", 10, "end", SYNTHETIC)
    for row, name in enumerate(names):
        y = 26 + row * ROW
        drawing.text(room - 10, y + 4, fitted(name, room - 10, 11), 11, "end")
        drawing.line(scale.start, y, scale.end, y, stroke=RULE, width=0.6)
        drawing.line(scale.at(real[row]), y, scale.at(made[row]), y, stroke=SOFT, width=1.5)
        drawing.circle(scale.at(real[row]), y, 4.5, "#ffffff", REAL, 2)
        drawing.diamond(scale.at(made[row]), y, 5.5, SYNTHETIC)
        drawing.text(width - 52, y + 4, percent(real[row]), 10.5, "end", SOFT)
        drawing.text(width - 1, y + 4, percent(made[row]), 10.5, "end", SYNTHETIC)
    return drawing.picture(file_name("subgroups"), _says(names, real, made, title))


def _says(names: list[str], real: np.ndarray, made: np.ndarray, title: str) -> str:
    worst = int(np.argmax(np.abs(real - made)))
    return (
        f"{title}: share of patients. The most frequent is {names[0]}, {percent(real[0])} of real and "
        f"{percent(made[0])} of synthetic patients; furthest apart is {names[worst]}, {percent(real[worst])} against "
        f"{percent(made[worst])}."
    )
