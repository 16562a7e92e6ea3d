"""How long records last, and how many patients are still in them."""

import numpy as np

from hg3.evaluation.draws import Parts
from hg3.evaluation.panel import Panel
from hg3.evaluation.report.curves import frame, thinned
from hg3.evaluation.report.figure import Figure, Group
from hg3.evaluation.report.scales import Scale, percent
from hg3.evaluation.report.svg import REAL, SOFT, SYNTHETIC, Drawing, Picture
from hg3.evaluation.suppression import FEWEST_PATIENTS, bin_shares

WIDTH, HEIGHT, TOP, FLOOR = 350, 196, 46, 156  # pixels
ACROSS = (42.0, 340.0)
MOST_BINS = 30


def records_figure(panels: Parts[Panel]) -> Figure:
    """Return the figure of record lengths, of who is still in the record, and of who has a row then."""
    if all(panel.has_row.all() for panel in (panels.holdout, panels.made)):
        schema = panels.holdout.schema
        told = f"Every record, real or synthetic, has a row at each of the {schema.length} {schema.step}s."
        return Figure("How long records last", told, ())
    return Figure(
        "How long records last",
        "Real patients are the grey dashed line, synthetic ones the blue solid one. A record lasts from the first "
        "time of the grid to its last row; times of which fewer than ten real patients tell are left out.",
        (Group((_still_there(panels), _lengths(panels), _rows(panels))),),
        layout="roomy",
    )


def _still_there(panels: Parts[Panel]) -> Picture:
    times = thinned(panels.holdout.schema.length)
    shares = [(panel.lengths[:, None] > times).mean(axis=0) for panel in (panels.holdout, panels.made)]
    left = (panels.holdout.lengths[:, None] > times).sum(axis=0)
    n, step = panels.holdout.n_patients, panels.holdout.schema.step
    clear = (left >= FEWEST_PATIENTS) & ((left == n) | (n - left >= FEWEST_PATIENTS))
    shares[0] = np.where(clear, shares[0], np.nan)
    middle = len(times) // 2
    says = f"after {times[middle]} {step}s {percent(shares[0][middle])} of real and {percent(shares[1][middle])} of "
    return _two_lines(panels, "Still in the record", times, shares, f"{says}synthetic patients.")


def _rows(panels: Parts[Panel]) -> Picture:
    times = thinned(panels.holdout.schema.length)
    shares = []
    for panel in (panels.holdout, panels.made):
        inside = panel.lengths[:, None] > times
        share = (panel.has_row[:, times] & inside).sum(axis=0) / np.maximum(inside.sum(axis=0), 1)
        shares.append(np.where(inside.sum(axis=0) >= FEWEST_PATIENTS, share, np.nan))
    means = [percent(float(np.nanmean(share))) if np.isfinite(share).any() else "–" for share in shares]
    says = f"on average {means[0]} of real and {means[1]} of synthetic patients whose record goes on."
    return _two_lines(panels, "Have a row, of those", times, shares, says)


def _two_lines(panels: Parts[Panel], title: str, times: np.ndarray, shares: list[np.ndarray], says: str) -> Picture:
    schema = panels.holdout.schema
    drawing = Drawing(WIDTH, HEIGHT)
    drawing.heading(title, "share of patients")
    scale = Scale(0.0, 1.0, FLOOR, TOP)
    along = (float(schema.first_time), float(schema.first_time + max(schema.length - 1, 1)))
    inside = frame(drawing, along, scale, ACROSS, schema.step)
    for share, colour, dash in zip(shares, (REAL, SYNTHETIC), ("5 3", "none"), strict=True):
        drawing.curve(*inside.points(times + schema.first_time, share), colour, 1.9, dash)
    return drawing.picture("records-" + title.split(",")[0].lower().replace(" ", "-"), f"{title}: {says}")


def _lengths(panels: Parts[Panel]) -> Picture:
    drawing, length = Drawing(WIDTH, HEIGHT), panels.holdout.schema.length
    drawing.heading("Length of the record", "share of patients")
    n_bins = min(length, MOST_BINS)
    edges = np.linspace(0.5, length + 0.5, n_bins + 1)
    both = [panel.lengths.astype(float) for panel in (panels.holdout, panels.made)]
    shares = [bin_shares(lengths, np.arange(len(lengths)), edges) for lengths in both]
    scale = Scale(0.0, max(share.max() for share in shares) or 1.0, FLOOR, TOP)
    inside = frame(drawing, (edges[0], edges[-1]), scale, ACROSS, panels.holdout.schema.step)
    for share, colour, dash in zip(shares, (REAL, SYNTHETIC), ("5 3", "none"), strict=True):
        corners = inside.points(np.repeat(edges, 2)[1:-1], np.repeat(share, 2))
        drawing.curve(*corners, colour, 1.9, dash)
    means = [float(lengths.mean()) for lengths in both]
    drawing.text(WIDTH, 12, f"mean {means[0]:.1f} real, {means[1]:.1f} synthetic", 10.5, "end", SOFT)
    step = panels.holdout.schema.step
    says = f"{means[0]:.1f} {step}s on average among real and {means[1]:.1f} among synthetic patients"
    return drawing.picture("records-length", f"Length of the record: {says}.")
