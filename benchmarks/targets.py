"""What a figure was to reach, and whether it does: `targets` of the speed programs' JSON."""

from typing import Any


def at_least(what: str, figure: float, target: float) -> dict[str, Any]:
    return {"what": what, "figure": figure, "target": target, "met": figure >= target}


def at_most(what: str, figure: float, target: float) -> dict[str, Any]:
    return {"what": what, "figure": figure, "target": target, "met": figure <= target}


def print_targets(targets: list[dict[str, Any]]) -> None:
    """Print a line a target; where none is set for this device, nothing."""
    for row in targets:
        verdict = "met" if row["met"] else "MISSED"
        print(f"{row['what']:<46}{row['figure']:>10.4g}  target {row['target']:<8.4g}{verdict}")
