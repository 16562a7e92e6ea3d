"""The page: what is on it, in which order, and how it gets to the disk."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from hg3 import disk
from hg3.evaluation.draws import Parts
from hg3.evaluation.panel import Panel
from hg3.evaluation.report.associations import association_figure, associations, furthest_pairs
from hg3.evaluation.report.attacks import attack_figure
from hg3.evaluation.report.effects import hazard_figure, policy_figure
from hg3.evaluation.report.figure import Figure
from hg3.evaluation.report.marginals import marginals
from hg3.evaluation.report.measures import drawn, measures_figure
from hg3.evaluation.report.memory import memory_figure
from hg3.evaluation.report.records import records_figure
from hg3.evaluation.report.scales import three_decimals
from hg3.evaluation.report.subgroups import subgroup_figure
from hg3.evaluation.report.svg import Picture
from hg3.evaluation.report.trajectories import trajectory_figure
from hg3.evaluation.report.transitions import transition_figure
from hg3.evaluation.report.verdict import (
    ASKED,
    MEANINGS,
    SIGNS,
    answers,
    findings,
    gate_bound,
    gate_picture,
    higher_is_better,
    in_one_sentence,
)
from hg3.evaluation.results import Evaluation, Question, Section

TABLES = {"attack curves": attack_figure, "hazard ratios": hazard_figure, "policies": policy_figure}
TITLE_KEYS = ("title", "name")


@dataclass(frozen=True)
class GateRow:
    """One line of the table of gates."""

    name: str
    question: Question
    score: str
    ceiling: str
    bound: str
    interval: str
    picture: Picture | None
    state: str
    worst: str


def write_report(evaluation: Evaluation, panels: Parts[Panel], folder: Path) -> None:
    """Write `folder`/report.html, which needs nothing beside it, and its pictures once more into `folder`/figures.

    Equal evaluations of equal patients give equal bytes. The page is written last: where it is, all is.
    """
    page = _page(evaluation, panels)
    pictures, html = _pictures(page), _html(page)
    disk.remove_leftovers(folder / "figures")
    with disk.atomic_folder(folder / "figures.new") as temporary:
        for name, picture in pictures.items():
            (temporary / f"{name}.svg").write_text(picture.svg, encoding="utf-8")
    disk.replace_folder(folder / "figures.new", folder / "figures")
    disk.write_text(folder / "report.html", html)


def _page(evaluation: Evaluation, panels: Parts[Panel]) -> dict[str, Any]:
    """Return all that the template shows."""
    answered = answers(evaluation)
    return {
        "title": next((str(evaluation.about[key]) for key in TITLE_KEYS if evaluation.about.get(key)), "A release"),
        "about": {str(key): str(value) for key, value in evaluation.about.items() if value not in (None, "")},
        "verdict": in_one_sentence(answered),
        "answers": answered,
        "asked": ASKED,
        "signs": SIGNS,
        "meanings": MEANINGS,
        "findings": findings(evaluation, panels),
        "patients": evaluation.patients,
        "n_drawn": evaluation.n_drawn,
        "gates": [_gate_row(evaluation, number) for number in range(len(evaluation.verdicts))],
        "chapters": [_chapter(evaluation, panels, question) for question in ASKED],
    }


def _gate_row(evaluation: Evaluation, number: int) -> GateRow:
    verdict = evaluation.verdicts[number]
    higher = higher_is_better(evaluation, verdict)
    return GateRow(
        verdict.gate.name,
        verdict.gate.question,
        three_decimals(verdict.score),
        three_decimals(verdict.ceiling),
        gate_bound(verdict, higher),
        f"{' to '.join(map(three_decimals, verdict.interval))}; {drawn(verdict.n_draws)}",
        gate_picture(verdict, higher, number + 1),
        verdict.state,
        verdict.worst,
    )


def _chapter(evaluation: Evaluation, panels: Parts[Panel], question: Question) -> dict[str, Any]:
    """Return what is shown of a question: pictures of the patients, then each section of measures."""
    sections = [section for section in evaluation.sections if section.question == question]
    figures, pairs = _pictured(evaluation, panels, question)
    return {
        "question": question,
        "figures": figures,
        "pairs": pairs,
        "sections": [_section(section, evaluation.seconds.get(section.name)) for section in sections],
    }


def _pictured(
    evaluation: Evaluation, panels: Parts[Panel], question: Question
) -> tuple[list[Figure], list[tuple[str, str, str, str]]]:
    """Return the figures of the patients themselves, and the pairs of columns that differ most."""
    found: list[Figure | None] = []
    pairs: list[tuple[str, str, str, str]] = []
    if question == "fidelity":
        together = associations(panels)
        found = [marginals(panels), subgroup_figure(panels), association_figure(panels, together)]
        pairs = furthest_pairs(together)
    if question == "time":
        found = [trajectory_figure(panels), memory_figure(panels, evaluation), transition_figure(panels)]
        found.append(records_figure(panels))
    return [figure for figure in found if figure is not None], pairs


def _section(section: Section, seconds: float | None) -> dict[str, Any]:
    pictured = [draw(section.tables[name]) for name, draw in TABLES.items() if name in section.tables]
    unknown = sum(not measured.is_known for measured in section.measures)
    return {
        "name": section.name,
        "figures": [figure for figure in (*pictured, measures_figure(section)) if figure is not None],
        "remarks": section.remarks,
        "unknown": unknown,
        "seconds": None if seconds is None else f"{seconds:.1f}",
    }


def _pictures(page: dict[str, Any]) -> dict[str, Picture]:
    """Return all pictures of the page by the names of their files."""
    figures = [f for chapter in page["chapters"] for s in (chapter, *chapter["sections"]) for f in s["figures"]]
    found = [row.picture for row in page["gates"] if row.picture is not None]
    found += [picture for figure in figures for picture in figure.pictures]
    named: dict[str, Picture] = {}
    for picture in found:  # columns may differ in letters that no file name keeps
        twins = sum(name.partition("~")[0] == picture.name for name in named)
        named[f"{picture.name}~{twins + 1}" if twins else picture.name] = picture
    return named


def _html(page: dict[str, Any]) -> str:
    place = files("hg3.evaluation.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((place / "report.html").read_text(encoding="utf-8"))
    style = Markup((place / "report.css").read_text(encoding="utf-8"))  # ours, not the data's
    return template.render(page, style=style, inline=lambda picture: Markup(picture.svg))
