"""The loss curve of a run, as a picture."""

import json
from pathlib import Path

import matplotlib

from hg3 import disk

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def draw_loss_curve(metrics: Path, out: Path) -> None:
    """Draw training and validation loss over updates from metrics.jsonl into a PNG."""
    entries = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    seen = [(e["update"], e["loss"]) for e in entries if e.get("loss") is not None]
    held = [(e["update"], e["validation"]) for e in entries if e.get("validation") is not None]
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    if seen:
        axes.plot(*zip(*seen, strict=True), color="#9ecae1", linewidth=0.8, label="training, single batches")
    if held:
        axes.plot(
            *zip(*held, strict=True),
            "o-",
            color="#08519c",
            markersize=3,
            label="validation, averaged weights",
        )
        axes.legend(frameon=False)
    axes.set(xlabel="update", ylabel="loss (mean over columns)", yscale="log")
    axes.spines[["top", "right"]].set_visible(False)
    with disk.atomic_path(out) as path:
        figure.savefig(path, dpi=120)
    plt.close(figure)
