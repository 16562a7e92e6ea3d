"""What a study of the release would conclude: hazard ratios, and what is done to patients."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from hg3.evaluation.report.figure import Figure, Group, file_name
from hg3.evaluation.report.heat import draw_row_names
from hg3.evaluation.report.scales import Scale, percent, two_decimals
from hg3.evaluation.report.svg import REAL, RULE, SOFT, SYNTHETIC, Drawing, Picture, fitted, less_or_more, on_colour

WIDTH, LABEL_ROOM, ROW = 460, 150, 30  # pixels
NUMBERS = ("real", "real_low", "real_high", "synthetic", "synthetic_low", "synthetic_high")
MOST_ROWS, MOST_TOLD = 24, 8
WIDEST = 1000.0  # ratio at which an axis ends
ACTION_CELL = (82.0, 24.0)  # pixels
WHOLE_SCALE = 0.25  # difference of shares from which on a colour is full


def hazard_figure(ratios: pd.DataFrame) -> Figure | None:
    """Return the forest plot of hazard ratios, from columns covariate, real, real_low, ..., synthetic_high."""
    known = ratios.dropna(subset=list(NUMBERS))
    known = known[(known[list(NUMBERS)] > 0).all(axis=1)]
    if known.empty:
        return None
    shown = known.head(MOST_ROWS)
    notes = []
    if len(shown) < len(ratios):
        notes.append(f"Shown are {len(shown)} of {len(ratios)} covariates: the first whose ratios could be estimated.")
    return Figure(
        "Hazard ratios",
        "What a survival analysis finds among real patients, the grey ring above, and among synthetic ones, the blue "
        "diamond below, with 95% intervals. Right of 1 the risk is higher.",
        tuple(_groups(shown)),
        tuple(notes),
        "flow",
    )


def _groups(ratios: pd.DataFrame) -> Iterator[Group]:
    """Yield the picture of each target, where the table names them."""
    if "target" not in ratios:
        yield Group((_forest(ratios, ""),))
        return
    for target, part in ratios.groupby("target", sort=False):
        yield Group((_forest(part, str(target)),), str(target))


def _forest(ratios: pd.DataFrame, target: str) -> Picture:
    drawing = Drawing(WIDTH, 64 + ROW * len(ratios))
    values = ratios[list(NUMBERS)].to_numpy(float)
    low, high = min(values.min(), 0.8), max(values.max(), 1.25)
    scale = Scale(max(low, 1 / WIDEST), min(high, WIDEST), LABEL_ROOM, WIDTH - 118, log=True)
    bottom = 30 + ROW * len(ratios)
    for value, label in _ratio_ticks(scale):
        drawing.line(scale.at(value), 22, scale.at(value), bottom, stroke=SOFT if value == 1 else RULE)
        drawing.text(scale.at(value), bottom + 15, label, 10, "middle", SOFT)
    drawing.text((scale.start + scale.end) / 2, bottom + 30, "hazard ratio", 10, "middle", SOFT)
    drawing.text(WIDTH - 62, 14, "real", 10, "end", SOFT)
    drawing.text(WIDTH, 14, "synthetic", 10, "end", SYNTHETIC)
    for number, (name, row) in enumerate(zip(ratios["covariate"], values, strict=True)):
        _draw_ratio(drawing, scale, str(name), row, 34 + number * ROW)
    return drawing.picture(file_name("hazard-ratios", target), _ratios_say(ratios, target))


def _ratio_ticks(scale: Scale) -> list[tuple[float, str]]:
    some = [0.01, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0, 100.0]
    return [(value, f"{value:g}") for value in some if scale.low <= value <= scale.high]


def _draw_ratio(drawing: Drawing, scale: Scale, name: str, row: np.ndarray, y: float) -> None:
    drawing.text(LABEL_ROOM - 14, y + 9, fitted(name, LABEL_ROOM - 14, 11), 11, "end")
    for (value, low, high), colour, place in ((row[:3], REAL, y), (row[3:], SYNTHETIC, y + 10)):
        drawing.line(scale.at(low), place, scale.at(high), place, stroke=colour, width=1.6)
        if colour == REAL:
            drawing.circle(scale.at(value), place, 3.6, "#ffffff", REAL, 2)
        else:
            drawing.diamond(scale.at(value), place, 4.5, SYNTHETIC)
    drawing.text(WIDTH - 62, y + 9, two_decimals(row[0]), 10.5, "end", SOFT)
    drawing.text(WIDTH, y + 9, two_decimals(row[3]), 10.5, "end", SYNTHETIC)


def _ratios_say(ratios: pd.DataFrame, target: str) -> str:
    def told(name: str, row: np.ndarray) -> str:
        real, low, high, made, made_low, made_high = map(two_decimals, row)
        return f"{name} {real} ({low} to {high}) real, {made} ({made_low} to {made_high}) synthetic"

    some = ratios.head(MOST_TOLD)
    rows = some[list(NUMBERS)].to_numpy(float)
    said = "; ".join(told(str(name), row) for name, row in zip(some["covariate"], rows, strict=True))
    return f"Hazard ratios{f' of {target}' if target else ''} with 95% intervals: {said}."


def policy_figure(policies: pd.DataFrame) -> Figure | None:
    """Return the picture of how often each action is taken, from columns action, real, synthetic."""
    known = policies.dropna(subset=["action", "real", "synthetic"])
    if known.empty:
        return None
    largest = known[["real", "synthetic"]].max(axis=1).sort_values(ascending=False, kind="stable").index[:MOST_ROWS]
    shown = known.loc[sorted(largest)]
    notes = (f"Shown are {len(shown)} of {len(known)} actions: the most frequent.",) if len(shown) < len(known) else ()
    return Figure(
        "What would be done",
        "How often a policy learnt from real and one learnt from synthetic patients choose each action. In the "
        f"difference blue is more often after synthetic patients, ochre less often, in full from "
        f"{percent(WHOLE_SCALE)} on.",
        (Group((_actions(shown),)),),
        notes,
        "flow",
    )


def _actions(policies: pd.DataFrame) -> Picture:
    names = [str(name) for name in policies["action"]]
    real, made = (policies[key].to_numpy(float) for key in ("real", "synthetic"))
    left, height = 120.0, ACTION_CELL[1]
    drawing = Drawing(left + 3 * 90, 40 + height * len(names))
    draw_row_names(drawing, names, (left, 30), height)
    for number, (title, values, full) in enumerate(
        (("Real", real, 1.0), ("Synthetic", made, 1.0), ("Difference", made - real, WHOLE_SCALE))
    ):
        drawing.text(left + number * 90, 22, title, 10.5, fill=SOFT)
        _strip(drawing, values, full, (left + number * 90, 30))
    worst = int(np.argmax(np.abs(made - real)))
    told = f"{names[worst]}, {percent(real[worst])} real, {percent(made[worst])} synthetic"
    return drawing.picture("policies", f"Share of each action: furthest apart is {told}.")


def _strip(drawing: Drawing, shares: np.ndarray, full: float, at: tuple[float, float]) -> None:
    """Draw shares one below the other, as colours and in numbers."""
    width, height = ACTION_CELL
    for row, share in enumerate(shares):
        y = at[1] + row * height
        drawing.rect(at[0], y, width, height, less_or_more(share / full), stroke="#ffffff")
        drawing.text(at[0] + width / 2, y + height / 2 + 4, percent(share), 10.5, "middle", on_colour(share / full))
