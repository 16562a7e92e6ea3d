"""What is drawn on the screen: warnings, tables, bars."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:  # numpy is not loaded to draw a bar
    from hg3.evaluation.gates import Verdict


def warn(sentence: str) -> None:
    print(f"hg3: warning: {sentence}", file=sys.stderr)


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else 100).print(table)


def print_scores(summary: dict[str, Any]) -> None:
    rows = [
        {
            "column": column,
            "measure": measure.upper(),
            "synthetic": f"{distance:.3f}",
            "real ceiling": f"{summary[f'{measure}_ceiling'][column]:.3f}",
        }
        for measure in ("tv", "ks")
        for column, distance in summary[measure].items()
    ]
    print_table("distance to held-out patients, and what as many real patients reach (95th percentile)", rows)
    print(f"static constancy {summary['static_constancy']:.3f}, rejected {summary['rejected']}")


def print_verdicts(verdicts: Sequence["Verdict"]) -> None:
    if not verdicts:
        print("no gate has a measure to look at")
        return
    rows = [
        {
            "question": verdict.gate.question,
            "gate": verdict.gate.name,
            "release": f"{verdict.score:.3f}",
            "ceiling": f"{verdict.ceiling:.3f}",
            "wanted": _wanted(verdict),
            "95% interval": "{:.3f} to {:.3f}".format(*verdict.interval),
            "verdict": verdict.state,
        }
        for verdict in verdicts
    ]
    print_table("what the release must reach", rows)


def _wanted(verdict: "Verdict") -> str:
    gate = verdict.gate
    if gate.margin is not None:
        return f"ceiling {'-' if verdict.higher_is_better else '+'} {gate.margin:g}"
    return f"{'at least' if verdict.higher_is_better else 'at most'} {gate.limit:g}"


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
