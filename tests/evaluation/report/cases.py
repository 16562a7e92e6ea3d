"""Evaluations for tests of the report: real measures where there are any, and invented ones."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from hg3.evaluation.draws import Draws, Measured, Parts, make_draws, measure
from hg3.evaluation.fidelity.pairs import pair_measures
from hg3.evaluation.fidelity.temporal import temporal_measures
from hg3.evaluation.fidelity.trends import trend_measures
from hg3.evaluation.gates import Gates, judge
from hg3.evaluation.panel import Panel
from hg3.evaluation.report.patients import cells
from hg3.evaluation.results import Evaluation, Section
from hg3.evaluation.summaries import Events, kolmogorov_smirnov, total_variation

GATES = {
    "gates": [
        {"name": "shares of categories", "question": "fidelity", "measures": ["TV"], "margin": 0.01},
        {"name": "distributions of reals", "question": "fidelity", "measures": ["KS"], "margin": 0.02},
        {"name": "associations", "question": "fidelity", "measures": ["association"], "margin": 0.02},
        {"name": "transitions", "question": "time", "measures": ["transitions"], "margin": 0.02, "over": "worst"},
        {"name": "changes", "question": "time", "measures": ["change rate"], "margin": 0.01},
        {"name": "prediction", "question": "utility", "measures": ["AUC"], "margin": 0.05},
        {"name": "calibration", "question": "utility", "measures": ["calibration slope"], "margin": 0.1},
        {"name": "membership", "question": "privacy", "measures": ["membership, found at 1%"], "limit": 0.05},
    ]
}


def evaluation_of(panels: Parts[Panel], title: str = "A sample <b>cohort</b>") -> Evaluation:
    """Return an evaluation with all four questions answered."""
    n_patients = panels.each(lambda panel: panel.n_patients)
    draws = make_draws(n_patients)
    sections = (
        Section("marginals", "fidelity", tuple(_marginals(panels, draws))),
        Section("pairs", "fidelity", tuple(pair_measures(panels, draws))),
        Section("over time", "time", tuple(temporal_measures(panels, draws))),
        Section("trends", "time", tuple(trend_measures(panels, draws))),
        Section("prediction", "utility", *_utility()),
        Section("attacks", "privacy", *_privacy()),
    )
    gates = Gates.model_validate(GATES)
    verdicts = tuple(judge(gates, (m for section in sections for m in section.measures)))
    about = {"name": panels.holdout.schema.name, "title": title, "release": "sha256:" + 8 * "0123abcd"}
    return Evaluation(about, n_patients, int(draws.made[0].sum()), sections, verdicts, {"pairs": 1.25})


def _marginals(panels: Parts[Panel], draws: Draws) -> list[Measured]:
    found = []
    for column in panels.holdout.schema.columns:
        seen = panels.each(lambda panel, column=column: cells(panel, column))  # type: ignore[misc]
        known = np.unique(np.concatenate([seen.made[0], seen.train[0], seen.holdout[0]]))
        shape = (max(len(known), 1),)
        events = seen.each(
            lambda part, known=known, shape=shape: Events(part[1], np.searchsorted(known, part[0]), shape)  # type: ignore[misc]
        )
        name, distance = ("KS", kolmogorov_smirnov) if column.is_real else ("TV", total_variation)
        found.append(measure(name, column.name, events, draws, distance))
    return found


def invented(
    name: str, subject: str, score: float, ceiling: float, spread: float = 0.01, higher_is_better: bool = False
) -> Measured:
    random = np.random.default_rng(len(name + subject))
    scores, ceilings = (random.normal(mean, spread, 50) for mean in (score, ceiling))
    return Measured(name, subject, scores, ceilings, higher_is_better)


def _utility() -> tuple[tuple[Measured, ...], Mapping[str, pd.DataFrame], tuple[str, ...]]:
    measures = (
        invented("AUC", "unsuppressed at the end", 0.74, 0.79, higher_is_better=True),
        invented("AUC", "switches its drugs", 0.61, 0.62, higher_is_better=True),
        invented("calibration slope", "dies", np.nan, np.nan),
    )
    random = np.random.default_rng(0)
    names = [
        "age, per 10 years",
        "female",
        "CD4 at the start, per 100",
        "first-line INI",
        "log viral load",
        "a long one",
    ]
    real, made = (np.exp(random.normal(0, 0.5, len(names))) for _ in range(2))
    ratios = pd.DataFrame({"covariate": names, "real": real, "real_low": real / 1.3, "real_high": real * 1.3})
    ratios = ratios.assign(synthetic=made, synthetic_low=made / 1.2, synthetic_high=made * 1.2)
    actions = pd.DataFrame({"action": ["stay", "switch NNRTI", "add PI"], "real": [0.9, 0.07, 0.03]})
    tables = {"hazard ratios": ratios, "policies": actions.assign(synthetic=[0.75, 0.2, 0.05])}
    return measures, tables, ("Nobody of the held-out patients dies, so that death cannot be predicted.",)


def _privacy() -> tuple[tuple[Measured, ...], Mapping[str, pd.DataFrame]]:
    measures = (
        invented("membership, found at 1%", "nearest neighbour", 0.02, 0.01, 0.004),
        invented("membership, found at 1%", "likelihood ratio", 0.045, 0.01, 0.01),
        invented("attribute inference", "Ethnic", 0.31, 0.30),
    )
    false = np.geomspace(1e-3, 1, 60)
    curves = [
        pd.DataFrame({"attack": name, "false_positive": false, "true_positive": false**power})
        for name, power in (("nearest neighbour", 0.97), ("likelihood ratio", 0.7), ("shadow classifier", 0.9))
    ]
    return measures, {"attack curves": pd.concat(curves, ignore_index=True)}
