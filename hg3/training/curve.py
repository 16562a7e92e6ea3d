"""The loss curve of a run, as a picture."""

import json
from pathlib import Path
from typing import Any

import matplotlib

from hg3 import disk

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

BLUE = "#08519c"

Series = list[tuple[int, float]]


def draw_loss_curve(metrics: Path, out: Path) -> None:
    """Draw losses, and below them the attack of each validation, over updates from metrics.jsonl into a PNG."""
    entries = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    attacks, limits = _series(entries, "attack"), _series(entries, "attack_limit")
    rows = 2 if attacks else 1
    figure, panels = plt.subplots(
        rows, figsize=(7, 3 + rows), height_ratios=(3, 1)[:rows], sharex=True, squeeze=False, layout="constrained"
    )
    _draw_losses(panels[0, 0], _series(entries, "loss"), _series(entries, "validation"))
    if attacks:
        _draw_attacks(panels[1, 0], attacks, limits[-1][1])
    panels[-1, 0].set(xlabel="update")
    for panel in panels[:, 0]:
        panel.spines[["top", "right"]].set_visible(False)
    with disk.atomic_path(out) as path:
        figure.savefig(path, dpi=120)
    plt.close(figure)


def _series(entries: list[dict[str, Any]], key: str) -> Series:
    """Return (update, value) where a line has a value of `key`."""
    return [(entry["update"], entry[key]) for entry in entries if entry.get(key) is not None]


def _draw_losses(axes: Axes, seen: Series, held: Series) -> None:
    if seen:
        axes.plot(*zip(*seen, strict=True), color="#9ecae1", linewidth=0.8, label="training, single batches")
    if held:
        axes.plot(*zip(*held, strict=True), "o-", color=BLUE, markersize=3, label="validation, averaged weights")
        axes.legend(frameon=False)
    axes.set(ylabel="loss (mean over columns)", yscale="log")


def _draw_attacks(axes: Axes, attacks: Series, limit: float) -> None:
    values = [value for _, value in attacks]
    axes.plot(*zip(*attacks, strict=True), "o-", color=BLUE, markersize=3)
    axes.axhline(limit, color="#a63603", linewidth=0.8, linestyle="--")
    axes.text(0.01, limit, "most that is kept", transform=axes.get_yaxis_transform(), va="bottom")
    axes.set(ylabel="attack AUC", ylim=(min(0.45, *values), max(limit + 0.05, *values)))
