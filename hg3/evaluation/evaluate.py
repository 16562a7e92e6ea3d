"""Everything that is measured of a release: the sections in order, then the gates."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hg3.evaluation.cohorts import Compared
from hg3.evaluation.draws import Draws, Measured, Parts, make_draws
from hg3.evaluation.fidelity.detection import detection
from hg3.evaluation.fidelity.health_gym import health_gym_measures
from hg3.evaluation.fidelity.marginals import marginal_measures
from hg3.evaluation.fidelity.pairs import pair_measures
from hg3.evaluation.fidelity.subgroups import subgroup_measures
from hg3.evaluation.fidelity.temporal import temporal_measures
from hg3.evaluation.fidelity.trends import trend_measures
from hg3.evaluation.gates import Gates, judge
from hg3.evaluation.learners import one_thread
from hg3.evaluation.panel import Panel, panel_of
from hg3.evaluation.privacy.measures import privacy_measures
from hg3.evaluation.results import Evaluation, Found, Question, Section
from hg3.evaluation.utility.measures import costly_utility_measures, utility_measures

Report = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Step:
    """One section to come: what it is called, which question it helps to answer, and what measures it."""

    name: str
    question: Question
    find: Callable[[Parts[Panel], Draws, int], Found]


def _unseeded(measures: Callable[[Parts[Panel], Draws], list[Measured]]) -> Callable[..., Found]:
    return lambda panels, draws, _: (measures(panels, draws), {}, [])


STEPS = (
    Step("columns", "fidelity", _unseeded(marginal_measures)),
    Step("columns together", "fidelity", _unseeded(pair_measures)),
    Step("subgroups", "fidelity", subgroup_measures),
    Step("as Health Gym measures", "fidelity", _unseeded(health_gym_measures)),
    Step("detection", "fidelity", detection),
    Step("course", "time", _unseeded(temporal_measures)),
    Step("trends", "time", _unseeded(trend_measures)),
    Step("prediction", "utility", utility_measures),
    Step("attacks", "privacy", privacy_measures),
)
COSTLY_STEPS = (Step("effects and policies", "utility", costly_utility_measures),)


def panels_of(compared: Compared) -> Parts[Panel]:
    """Return the three cohorts as panels."""
    return Parts(*(panel_of(cohort) for cohort in (compared.synthetic, compared.train, compared.holdout)))


def evaluate(
    panels: Parts[Panel],
    gates: Gates,
    utility: bool = False,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
    further: Iterable[Section] = (),
    report: Report = lambda stage, entry: None,
) -> Evaluation:
    """Return every measure of the synthetic patients beside its ceiling, and what comes of the gates.

    Parameters
    ----------
    utility : whether to train policies and hazard models too, which takes minutes.
    seed : fixes draws, folds and learners; the result is a pure function of the tables and it.
    further : sections that the caller knows and the tables do not tell.
    report : called with the stage "evaluate" and how many sections of how many are done.
    """
    n_patients = panels.each(lambda panel: panel.n_patients)
    draws = make_draws(n_patients, seed)
    sections, seconds = list(further), {}
    steps = (*STEPS, *(COSTLY_STEPS if utility else ()))
    for done, step in enumerate(steps):
        report("evaluate", {"section": step.name, "done": done, "of": len(steps)})
        started = time.perf_counter()
        with one_thread():
            measures, tables, remarks = step.find(panels, draws, seed)
        sections.append(Section(step.name, step.question, tuple(measures), tables, tuple(remarks)))
        seconds[step.name] = time.perf_counter() - started
    report("evaluate", {"section": "", "done": len(steps), "of": len(steps)})
    verdicts = judge(gates, (measured for section in sections for measured in section.measures))
    n_drawn = int(draws.made[0].sum())
    return Evaluation(dict(about or {}), n_patients, n_drawn, tuple(sections), tuple(verdicts), seconds)
