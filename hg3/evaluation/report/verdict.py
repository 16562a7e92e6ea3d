"""The verdict: four questions, what came of their gates, and what differs most."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy import stats

from hg3.evaluation.draws import FEWEST_FOR_INTERVAL, INTERVAL, Measured, Parts, interval
from hg3.evaluation.gates import State, Verdict
from hg3.evaluation.panel import Panel
from hg3.evaluation.report.measures import beyond, drawn, family_of
from hg3.evaluation.report.scales import short
from hg3.evaluation.report.svg import BEYOND, INK, REAL_LIGHT, RULE, SOFT, Drawing, Picture
from hg3.evaluation.report.words import sentence
from hg3.evaluation.results import Evaluation, Question

Answer = Literal["passes", "falls short", "cannot be told", "not measured"]
ASKED: dict[Question, str] = {
    "fidelity": "Does it look like the patients?",
    "time": "Does it move like them?",
    "utility": "Can it be worked with?",
    "privacy": "Does it give anyone away?",
}
SIGNS = {"shown": "●", "met": "◐", "missed": "✕", "not estimable": "–"}
MEANINGS = {
    "shown": "the whole interval reaches the bound",
    "met": "the better end of the interval reaches the bound, the worse end does not",
    "missed": "no part of the interval reaches the bound",
    "not estimable": "these patients do not suffice to say, or the measure has no power to tell among them",
}
N_FINDINGS = 3
SMALLEST = 0.01  # half of an interval, at least: a difference of less is no finding however sure it is


@dataclass(frozen=True)
class Answered:
    """One question, its answer, and how many of its gates are in each state."""

    question: Question
    answer: Answer
    counts: dict[str, int]
    n_measures: int

    @property
    def asked(self) -> str:
        return ASKED[self.question]


@dataclass(frozen=True)
class Finding:
    question: Question
    sentence: str


def answers(evaluation: Evaluation) -> list[Answered]:
    """Return the four questions in their order."""
    return [_answered(evaluation, question) for question in ASKED]


def _answered(evaluation: Evaluation, question: Question) -> Answered:
    verdicts = [verdict for verdict in evaluation.verdicts if verdict.gate.question == question]
    states = [verdict.state for verdict in verdicts]
    counts = {state: states.count(state) for state in get_args(State)}
    measured = sum(len(section.measures) for section in evaluation.sections if section.question == question)
    return Answered(question, _answer(verdicts), counts, measured)


def _answer(verdicts: list[Verdict]) -> Answer:
    """Return what the gates of a question come to: it passes where a certificate would."""
    if any(verdict.state == "missed" for verdict in verdicts):
        return "falls short"
    if not all(verdict.passed for verdict in verdicts):
        return "cannot be told"
    return "passes" if any(verdict.state != "not estimable" for verdict in verdicts) else "not measured"


def in_one_sentence(answered: list[Answered]) -> str:
    """Return the verdict of all questions."""
    of = {answer: [one.question for one in answered if one.answer == answer] for answer in get_args(Answer)}
    parts = []
    verbs: dict[Answer, str] = {
        "falls short": "Falls short on",
        "cannot be told": "cannot be told on",
        "passes": "passes on",
        "not measured": "no gate on",
    }
    for answer, verb in verbs.items():
        if of[answer]:
            parts.append(f"{verb} {_listed(of[answer])}")
    told = "; ".join(parts)
    return f"{told[0].upper()}{told[1:]}."


def _listed(words: list[Question]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def findings(evaluation: Evaluation, panels: Parts[Panel]) -> list[Finding]:
    """Return the worst that was found: measures of missed gates, then such as lie beyond their ceiling beyond doubt.

    Those first that are furthest beyond it for their interval, each of another kind and on other columns.
    """
    missed = [verdict.gate for verdict in evaluation.verdicts if verdict.state == "missed"]
    found = [(section.question, m) for section in evaluation.sections for m in section.measures if m.is_known]
    worse = [(question, m, excess(m), any(gate.takes(m) for gate in missed)) for question, m in found if m.has_power]
    worse = [one for one in worse if one[2] > 1.0 or one[3]]
    worse.sort(key=lambda one: (not one[3], -one[2]))
    chosen: list[tuple[Question, Measured]] = []
    for question, measured, _, _ in worse:
        again = any(family_of(measured) == family_of(m) or measured.subject == m.subject for _, m in chosen)
        if not again and len(chosen) < N_FINDINGS:
            chosen.append((question, measured))
    return [Finding(question, sentence(measured, panels)) for question, measured in chosen]


def excess(measured: Measured) -> float:
    """Return how far a measure lies beyond its ceiling, in halves of its 95% interval; above 1 it is beyond doubt.

    Of a few draws the interval is Student's, of where one more draw would lie: two that agree prove nothing.
    """
    paired, n = measured.score - measured.ceiling, len(measured.score)
    low, high = interval(paired)
    half = (high - low) / 2
    if 1 < n < FEWEST_FOR_INTERVAL:
        half = float(stats.t.ppf(INTERVAL[1], n - 1) * paired.std(ddof=1) * np.sqrt(1 + 1 / n))
    return beyond(measured) / max(half, SMALLEST)


def gate_bound(verdict: Verdict, higher_is_better: bool) -> str:
    """Return what a gate asks, in words."""
    gate, better = verdict.gate, "at least" if higher_is_better else "at most"
    over = ", the worst of all" if gate.over == "worst" else ""
    if gate.limit is not None:
        return f"{better} {short(gate.limit)}{over}"
    return f"at most {short(gate.margin or 0.0)} {'below' if higher_is_better else 'above'} the ceiling{over}"


def higher_is_better(evaluation: Evaluation, verdict: Verdict) -> bool:
    """Return whether the measures of a gate are scores, not errors."""
    of_gate = (m for s in evaluation.sections for m in s.measures if verdict.gate.takes(m))
    return any(measured.higher_is_better for measured in of_gate)


WIDTH, HEIGHT, BOUND_AT = 190, 30, 0.55  # pixels; where the bound stands, of the width


def gate_picture(verdict: Verdict, higher: bool, number: int) -> Picture | None:
    """Return a gate's value and interval beside its bound: left of the line it is reached; None if not estimable."""
    if not np.isfinite(verdict.interval).all():
        return None
    sign = -1.0 if higher else 1.0
    bound = verdict.gate.margin if verdict.gate.margin is not None else sign * (verdict.gate.limit or 0.0)
    value, *ends = (sign * part - bound for part in (verdict.value, *verdict.interval))
    beyond_by, short_by = max(*ends, value, 0.0), max(-min(*ends, value), abs(bound) / 2)
    room = (0.9 * BOUND_AT * WIDTH / max(short_by, 1e-12), 0.9 * (1 - BOUND_AT) * WIDTH / max(beyond_by, 1e-12))
    at = [BOUND_AT * WIDTH + min(room) * part for part in (value, *ends)]
    drawing = _gate_drawn(at, verdict.state)
    told = f"{short(verdict.interval[0])} to {short(verdict.interval[1])} of {drawn(verdict.n_draws)}"
    asked = gate_bound(verdict, higher)
    says = f"{verdict.gate.name}: {short(verdict.value)}, interval {told}, {asked}; {verdict.state}."
    return drawing.picture(f"gate-{number:02d}", says)


def _gate_drawn(at: list[float], state: str) -> Drawing:
    drawing, bound, middle = Drawing(WIDTH, HEIGHT), BOUND_AT * WIDTH, HEIGHT / 2
    drawing.rect(0, 2, bound, HEIGHT - 4, REAL_LIGHT)
    drawing.line(0, middle, WIDTH, middle, stroke=RULE)
    drawing.line(bound, 0, bound, HEIGHT, stroke=SOFT, width=1.5)
    colour = BEYOND if state == "missed" else INK
    drawing.line(at[1], middle, at[2], middle, stroke=colour, width=2)
    for end in at[1:]:
        drawing.line(end, middle - 4, end, middle + 4, stroke=colour, width=2)
    drawing.circle(at[0], middle, 4.5, colour)
    return drawing
