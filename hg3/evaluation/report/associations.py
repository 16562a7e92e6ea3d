"""How columns go together: a table of all pairs among real patients, among synthetic ones, and what lies between."""

from dataclasses import dataclass

import numpy as np

from hg3.evaluation.draws import Parts
from hg3.evaluation.fidelity.pairs import Pair, column_pairs
from hg3.evaluation.panel import Panel
from hg3.evaluation.report.figure import Figure, Group, file_name, left_out, most_apart
from hg3.evaluation.report.heat import Table, draw_colour_key, draw_row_names, draw_table, gutter
from hg3.evaluation.report.scales import two_decimals
from hg3.evaluation.report.svg import Drawing, Picture
from hg3.evaluation.suppression import FEWEST_PATIENTS

MOST_COLUMNS = 24
WIDEST_CELL, NARROWEST_CELL, ROOM = 27, 10, 232  # pixels of a cell, and of all of them together where they fit
NAMED = 3  # pairs that the words tell
DIFFERENCES = (0.1, 0.2, 0.5, 1.0)  # from which on a colour may be full


@dataclass(frozen=True)
class Association:
    """One pair's association among real and synthetic patients; NaN where fewer than ten real ones have both."""

    pair: Pair
    real: float
    made: float

    @property
    def names(self) -> tuple[str, str]:
        return self.pair.columns[0].name, self.pair.columns[1].name


def associations(panels: Parts[Panel]) -> list[Association]:
    """Return all pairs' associations, over all patients."""
    return [association_of(panels, pair) for pair in column_pairs(panels)]


def association_of(panels: Parts[Panel], pair: Pair) -> Association:
    """Return a pair's association, over all patients; of synthetic ones alone, it says nothing."""
    one, other = (~np.isnan(panels.holdout.row_values(column)) for column in pair.columns)
    enough = (one & other).any(axis=1).sum() >= FEWEST_PATIENTS
    if not enough:
        return Association(pair, np.nan, np.nan)
    real, made = (
        float(pair.association(summed.under(np.ones((1, panel.n_patients))))[0])
        for summed, panel in ((pair.parts.holdout, panels.holdout), (pair.parts.made, panels.made))
    )
    return Association(pair, real, made if np.isfinite(real) else np.nan)


def association_figure(panels: Parts[Panel], found: list[Association]) -> Figure:
    """Return the figure of three tables: real, synthetic, difference."""
    names = [column.name for column in panels.holdout.schema.columns]
    apart = {name: sum(abs(a.made - a.real) for a in found if name in a.names and a.made == a.made) for name in names}
    shown = most_apart(names, apart, MOST_COLUMNS)
    real, made = _table(found, shown, "real"), _table(found, shown, "made")
    most = np.abs(made - real)[np.isfinite(made)].max(initial=0.0)
    full = next(scale for scale in DIFFERENCES if most <= scale or scale == DIFFERENCES[-1])
    pictures = (
        _drawn(shown, real, "Real patients", 1.0, f"Association of {len(shown)} columns among real patients."),
        _drawn(shown, made, "Synthetic patients", 1.0, f"The same among synthetic patients. {_furthest(found)}"),
        _drawn(shown, made - real, "Synthetic minus real", full, f"What lies between them. {_furthest(found)}"),
    )
    return Figure(
        "How columns go together",
        "Correlation of the rank scores of two reals, Cramér’s V of two categories, eta of a category and a real, over "
        "rows. "
        "Blue is positive, ochre negative; a table that looks like the other two, and a white third one, is the aim. "
        f"The third is coloured in full from a difference of {full:g} on.",
        (Group(pictures),),
        left_out(len(shown), len(names)),
        "flow",
    )


def _table(found: list[Association], names: list[str], which: str) -> np.ndarray:
    place = {name: number for number, name in enumerate(names)}
    table = np.full((len(names), len(names)), np.nan)
    for one in found:
        if one.names[0] in place and one.names[1] in place:
            i, j = (place[name] for name in one.names)
            table[i, j] = table[j, i] = getattr(one, which)
    return table


def _drawn(names: list[str], table: np.ndarray, title: str, full: float, says: str) -> Picture:
    cell = float(np.clip(ROOM / max(len(names), 1), NARROWEST_CELL, WIDEST_CELL))
    left, side = gutter(names), cell * len(names)
    drawing = Drawing(left + side + 4, 24 + side + left)
    draw_colour_key(drawing, left + side, full)

    def written(i: int, j: int) -> str:
        if i == j:
            return ""
        return two_decimals(table[i, j])

    drawing.text(0, 13, title, 11)
    draw_table(drawing, Table("", table / full, written), names, names, (left, 20), cell)
    draw_row_names(drawing, names, (left, 20), cell)
    return drawing.picture(file_name("association", title), says)


def _furthest(found: list[Association]) -> str:
    known = sorted((a for a in found if np.isfinite(a.made)), key=lambda a: -abs(a.made - a.real))[:NAMED]
    told = "; ".join(
        f"{' and '.join(a.names)} {two_decimals(a.real)} real, {two_decimals(a.made)} synthetic" for a in known
    )
    return f"The greatest differences: {told}." if told else ""


def furthest_pairs(found: list[Association], most: int = 10) -> list[tuple[str, str, str, str]]:
    """Return the pairs that differ most: columns, kind of association, real, synthetic."""
    known = sorted((a for a in found if np.isfinite(a.made)), key=lambda a: -abs(a.made - a.real))[:most]
    return [
        (" and ".join(a.names), a.pair.kind.replace("'", "’"), two_decimals(a.real), two_decimals(a.made))
        for a in known
    ]
