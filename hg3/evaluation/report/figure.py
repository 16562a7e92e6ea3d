"""A figure of the report: pictures under one title, and what is chosen where there are too many columns."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hg3.evaluation.report.svg import Picture
from hg3.table.schema import TableSchema

Named = TypeVar("Named")


@dataclass(frozen=True)
class Group:
    """Pictures that belong together, a column's say; without a title they are all there are."""

    pictures: tuple[Picture, ...]
    title: str = ""


@dataclass(frozen=True)
class Figure:
    """What is drawn of one thing.

    Parameters
    ----------
    explained : how to read it, in a sentence or two.
    left_out : what is not shown, and why; empty if nothing.
    layout : "grid", small pictures of equal width; "roomy", larger ones; "flow", pictures of their own width one
        after the other.
    """

    title: str
    explained: str
    groups: tuple[Group, ...]
    left_out: tuple[str, ...] = ()
    layout: str = "grid"

    @property
    def pictures(self) -> list[Picture]:
        return [picture for group in self.groups for picture in group.pictures]


def file_name(*parts: str) -> str:
    """Return words as the name of a file, without its ending."""
    return "-".join(filter(None, (re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)))[:80]


def most_apart(names: Sequence[str], apart: Mapping[str, float], most: int) -> list[str]:
    """Return the `most` names that lie furthest apart, in the order in which they were."""
    kept = set(sorted(names, key=lambda name: -apart.get(name, 0.0))[:most])
    return [name for name in names if name in kept]


def left_out(shown: int, there: int, what: str = "columns") -> tuple[str, ...]:
    """Return what is said where not everything is shown."""
    if shown >= there:
        return ()
    return (f"Shown are {shown} of {there} {what}: those in which synthetic and real patients differ most.",)


def important(schema: TableSchema) -> list[str]:
    """Return the columns that users work with by what the schema says: targets, rewards, in its order."""
    named = {target.column for target in schema.targets} | {term.column for term in schema.reward}
    return [column.name for column in schema.columns if column.name in named]
