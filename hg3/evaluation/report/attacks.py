"""How far attackers get: how many patients they find, by how often they accuse somebody who is not there."""

import numpy as np
import pandas as pd

from hg3.evaluation.report.figure import Figure, Group
from hg3.evaluation.report.scales import Scale, percent
from hg3.evaluation.report.svg import INK, SOFT, Drawing, Picture, fitted

WIDTH, TOP, FLOOR = 420, 30, 376  # pixels
ACROSS = (52.0, 400.0)
KEY_TOP, KEY_ROW = 436, 24
COLOURS = ("#0067a5", "#b3330b", "#007a5a", "#8c5a00", "#9b4a86", "#3a3f45")  # dark enough for words on white
DASHES = ("none", "7 3", "2 3", "9 3 2 3", "4 4", "12 3")
RATES = (0.001, 0.01, 0.1)  # of false accusations that the words tell
LEAST = 1e-3


def attack_figure(curves: pd.DataFrame) -> Figure | None:
    """Return the figure of ROC curves, both axes logarithmic, from columns attack, false_positive, true_positive."""
    known = curves.dropna(subset=["attack", "false_positive", "true_positive"])
    if known.empty:
        return None
    by_attack = {str(name): part.sort_values("false_positive") for name, part in known.groupby("attack", sort=False)}
    return Figure(
        "How far attackers get",
        "Each line is one attack on who was among the training patients. Right is how often it accuses somebody who "
        "was not, up is how often it finds somebody who was; both axes are logarithmic, since finding a few people for "
        "certain is what counts. On the grey diagonal it does no better than guessing.",
        (Group((_drawn(by_attack),)),),
        layout="flow",
    )


def _drawn(curves: dict[str, pd.DataFrame]) -> Picture:
    least = _least(curves)
    drawing = Drawing(WIDTH, KEY_TOP + KEY_ROW * len(curves))
    drawing.text(0, 12, "found, of those who were there", 10.5, fill=SOFT)
    y = Scale(least, 1.0, FLOOR, TOP, log=True)
    x = Scale(least, 1.0, *ACROSS, log=True)
    _axes(drawing, x, y)
    drawing.curve([x.start, x.end], [y.start, y.end], SOFT, 1.2, "1 3")
    for number, (name, curve) in enumerate(curves.items()):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        false, true = (curve[key].to_numpy(float) for key in ("false_positive", "true_positive"))
        inside = (false >= least) & (true >= least)
        drawing.curve(x(false[inside]), y(true[inside]), colour, 2.0, dash)
        _key(drawing, name, colour, dash, KEY_TOP + KEY_ROW * number, _found(false, true, 0.01))
    return drawing.picture("attack-curves", _says(curves))


def _axes(drawing: Drawing, x: Scale, y: Scale) -> None:
    """Draw the axes, with percentages at the powers of ten."""
    for decade in range(int(np.floor(np.log10(x.low) + 1e-9)), 1):
        value = 10.0**decade
        drawing.line(ACROSS[0], y.at(value), ACROSS[1], y.at(value))
        drawing.line(x.at(value), FLOOR, x.at(value), TOP)
        drawing.text(ACROSS[0] - 6, y.at(value) + 3.5, f"{100 * value:g}%", 10, "end", SOFT)
        drawing.text(x.at(value), FLOOR + 16, f"{100 * value:g}%", 10, "middle", SOFT)
    drawing.text(sum(ACROSS) / 2, FLOOR + 36, "accused, of those who were not there", 10.5, "middle", SOFT)


def _least(curves: dict[str, pd.DataFrame]) -> float:
    """Return where the axes begin: the power of ten below the smallest rate that is told, at most a thousandth."""
    rates = np.concatenate([curve["false_positive"].to_numpy(float) for curve in curves.values()])
    smallest = float(rates[rates > 0].min()) if (rates > 0).any() else LEAST
    return float(np.clip(10.0 ** np.floor(np.log10(smallest)), 1e-4, LEAST))


def _found(false: np.ndarray, true: np.ndarray, rate: float) -> float:
    """Return the most that an attack finds while it accuses at most `rate` of the others."""
    return float(true[false <= rate].max(initial=0.0))


def _key(drawing: Drawing, name: str, colour: str, dash: str, y: float, found: float) -> None:
    x = ACROSS[0]
    drawing.curve([x, x + 40], [y, y], colour, 2.4, dash)
    drawing.text(x + 50, y + 4, fitted(name, ACROSS[1] - x - 170, 11), 11, fill=INK)
    drawing.text(ACROSS[1], y + 4, f"finds {percent(found)} at 1%", 10.5, "end", SOFT)


def _says(curves: dict[str, pd.DataFrame]) -> str:
    told = []
    for name, curve in curves.items():
        false, true = (curve[key].to_numpy(float) for key in ("false_positive", "true_positive"))
        found = ", ".join(f"{percent(_found(false, true, rate))} at {100 * rate:g}%" for rate in RATES)
        told.append(f"{name} finds {found}")
    return f"Attacks on membership, share found by share of false accusations: {'; '.join(told)}."
