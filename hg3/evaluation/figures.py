"""Marginals of real beside synthetic, a panel a column; nothing in them can be traced to a few patients."""

import math
from pathlib import Path

import matplotlib

from hg3 import disk

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from hg3.evaluation.quick_look import Sample, column_sample
from hg3.evaluation.suppression import bin_shares, kept_counts, shown_range
from hg3.table.cohort import Cohort, missing_cells
from hg3.table.column import Column

REAL_COLOUR, SYNTHETIC_COLOUR = "#8c8c8c", "#d1495b"
BINS = 40
STATIC_BIN_PATIENTS, FEWEST_BINS = 20, 4  # a static column has one value a patient, so its bins must be wider
LOG_RATIO = 50.0  # a positive column whose shown range spans more than this gets a log axis
PANELS_A_ROW = 5
LONGEST_LABEL = 16


def draw_marginals(synthetic: Cohort, holdout: Cohort, out: Path) -> None:
    """Draw the figure into a PNG: densities of reals between their 1 and 99% points, shares of categories."""
    columns = synthetic.schema.columns
    n_rows = math.ceil(len(columns) / PANELS_A_ROW)
    figure, axes = plt.subplots(
        n_rows, PANELS_A_ROW, figsize=(3.0 * PANELS_A_ROW, 2.6 * n_rows), layout="constrained", squeeze=False
    )
    for panel, column in zip(axes.flat, columns, strict=False):
        samples = column_sample(holdout, column), column_sample(synthetic, column)
        if column.is_real:
            _draw_real(panel, column, *samples)
        else:
            _draw_categories(panel, synthetic, column, *samples)
        panel.set_title(column.name + (" (static)" if column.static else ""), fontsize=10, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=7)
    for panel in axes.flat[len(columns) :]:
        panel.axis("off")
    handles = [plt.Rectangle((0, 0), 1, 1, color=c, alpha=a) for c, a in ((REAL_COLOUR, 0.45), (SYNTHETIC_COLOUR, 1))]
    figure.legend(
        handles,
        [
            f"real, held out ({holdout.n_patients:,} patients)",
            f"synthetic ({synthetic.n_patients:,} patients)",
        ],
        loc="outside upper center",
        ncols=2,
        frameon=False,
    )
    with disk.atomic_path(out) as path:
        figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_real(panel: Axes, column: Column, real: Sample, made: Sample) -> None:
    low, high = shown_range(*_seen(real))
    if not low < high:
        panel.text(0.5, 0.5, "constant, or too few patients", ha="center", transform=panel.transAxes)
        panel.set(xticks=[], yticks=[])
        return
    log = low > 0 and high / low > LOG_RATIO
    n_bins = int(np.clip(len(real.values) // STATIC_BIN_PATIENTS, FEWEST_BINS, BINS)) if column.static else BINS
    edges = np.geomspace(low, high, n_bins + 1) if log else np.linspace(low, high, n_bins + 1)
    for sample, fill in ((real, True), (made, False)):
        share = bin_shares(*_seen(sample), edges)
        colour = REAL_COLOUR if fill else SYNTHETIC_COLOUR
        panel.stairs(share, edges, fill=fill, color=colour, alpha=0.45 if fill else 1.0, linewidth=1.5)
    panel.set_xscale("log" if log else "linear")
    panel.set_xlim(low, high)
    panel.set_yticks([])
    panel.set_xlabel(column.unit, fontsize=8)


def _seen(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    seen = ~missing_cells(sample.values)
    return sample.values[seen], sample.patient[seen]


def _draw_categories(panel: Axes, cohort: Cohort, column: Column, real: Sample, made: Sample) -> None:
    n_codes = len(cohort.categories[column.name])
    place = np.arange(n_codes)
    for sample, offset, colour, alpha in (
        (real, -0.2, REAL_COLOUR, 0.45),
        (made, 0.2, SYNTHETIC_COLOUR, 1.0),
    ):
        values, patient = _seen(sample)
        share = kept_counts(values, patient, n_codes) / max(len(values), 1)
        panel.bar(place + offset, 100 * share, 0.4, color=colour, alpha=alpha)
    labels = [str(label) for label in column.labels or cohort.categories[column.name]]
    short = [label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…" for label in labels]
    long = max(map(len, short)) > 4 and n_codes > 2
    panel.set_xticks(place, short, rotation=35 if long else 0, ha="right" if long else "center", fontsize=7)
    panel.set_ylabel("%", fontsize=8)
