"""What is drawn on the screen: warnings, tables, bars."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table


def warn(sentence: str) -> None:
    print(f"hg3: warning: {sentence}", file=sys.stderr)


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else 100).print(table)


def print_verdicts(verdicts: Sequence[dict[str, Any]]) -> None:
    """Print what metrics.json and a certificate hold of the gates, a line each."""
    if not verdicts:
        print("no gate has a measure to look at")
        return
    rows = [
        {
            "question": verdict["question"],
            "gate": verdict["name"],
            "release": _number(verdict["score"]),
            "ceiling": _number(verdict["ceiling"]),
            "wanted": _wanted(verdict),
            "interval": " to ".join(map(_number, verdict["interval"])) + _few(verdict),
            "verdict": verdict["state"],
        }
        for verdict in verdicts
    ]
    print_table("what the release must reach", rows)


def _few(verdict: dict[str, Any]) -> str:
    """Return how many draws an interval is of where it is no 95% interval, but goes from the lowest to the highest."""
    n_draws = verdict.get("n_draws", 0)
    return f" ({n_draws} draws)" if 1 < n_draws < 10 else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 3) + 0.0:.3f}"  # no -0.000


def _wanted(verdict: dict[str, Any]) -> str:
    higher = verdict["better"] == "higher"
    if "margin" in verdict:
        return f"ceiling {'-' if higher else '+'} {verdict['margin']:g}"
    return f"{'at least' if higher else 'at most'} {verdict['limit']:g}"


@contextmanager
def progress() -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Yield a function of (stage, numbers) that draws live bars on standard error, with time left."""
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    bars, tasks = Progress(*columns, console=Console(stderr=True)), {}
    began: dict[str, tuple[float, int]] = {}  # by stage: when its first number came, and which

    def update(stage: str, entry: dict[str, Any]) -> None:
        done, total, unit = _place(stage, entry)
        if stage not in tasks:
            bars.start()  # not before there is something to draw: a refusal has standard error to itself
            tasks[stage] = bars.add_task(stage, total=None, note="")
            began[stage] = time.perf_counter(), done
        at, first = began[stage]
        rate = f", {(done - first) / (time.perf_counter() - at):.1f} {unit}/s" if done > first else ""
        loss = f", loss {entry['loss']:.3f}" if "loss" in entry else ""
        skipped = f", {entry['skipped']} skipped" if entry.get("skipped") else ""
        note = f"{done:,}/{f'{total:,}' if total else '?'}" if unit else ""
        bars.update(tasks[stage], completed=done, total=total, note=note + loss + rate + skipped)

    try:
        yield update
    finally:
        if tasks:
            bars.stop()


def _place(stage: str, entry: dict[str, Any]) -> tuple[int, int | None, str]:
    """Return how far a stage is, of how much if that is known, and in what unit."""
    if stage == "train":
        return entry["update"], entry["total"], "updates"
    if stage == "generate":
        return entry["patients"], entry["of"], "patients"
    if stage == "evaluate":
        return entry["done"], entry["of"], "sections"
    return 1, 1, ""
