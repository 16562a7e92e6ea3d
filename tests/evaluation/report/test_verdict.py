"""The verdict: what passes, what falls short, what differs most, in words with the right numbers."""

import numpy as np
import pandas as pd
import pytest

from hg3.evaluation.draws import Measured, Parts, make_draws
from hg3.evaluation.fidelity.pairs import pair_measures
from hg3.evaluation.fidelity.temporal import temporal_measures
from hg3.evaluation.fidelity.trends import trend_measures
from hg3.evaluation.gates import Gates, judge
from hg3.evaluation.report.sayings import SAYINGS
from hg3.evaluation.report.verdict import answers, excess, findings, gate_bound, gate_picture, in_one_sentence
from hg3.evaluation.report.words import SENTENCES, sentence
from hg3.evaluation.results import Evaluation, Section
from hg3.release.certify import passed
from tests.evaluation.cases import panel, shuffled_months, walks
from tests.evaluation.report.cases import invented

TABLE = walks(200, seed=1)
PANELS = Parts(panel(shuffled_months(TABLE)), panel(walks(200, seed=2)), panel(TABLE))


def evaluation(*measures: Measured, limit: float | None = None, margin: float | None = None) -> Evaluation:
    """Return an evaluation with one section of time and a gate on the first measure."""
    gate = {"name": "a gate", "question": "time", "measures": [measures[0].name], "limit": limit, "margin": margin}
    verdicts = judge(Gates.model_validate({"gates": [gate]}), measures)
    n_patients = Parts(200, 200, 200)
    return Evaluation({}, n_patients, 100, (Section("a section", "time", measures),), tuple(verdicts), {})


@pytest.mark.parametrize(
    ("score", "answer", "state"),
    [(0.01, "passes", "shown"), (0.2, "passes", "met"), (0.9, "falls short", "missed"), (np.nan, "cannot be told", "")],
)
def test_a_question_falls_short_by_one_missed_gate(score: float, answer: str, state: str) -> None:
    answered = {a.question: a for a in answers(evaluation(invented("an error", "a", score, 0.0), limit=0.2))}
    assert answered["time"].answer == answer
    assert answered["time"].counts[state or "not estimable"] == 1 and sum(answered["time"].counts.values()) == 1
    assert answered["privacy"].answer == "not measured" and sum(answered["privacy"].counts.values()) == 0


@pytest.mark.parametrize("optional", [True, False])
def test_what_cannot_be_told_passes_only_where_it_is_optional(optional: bool) -> None:
    measures = (invented("an error", "a", 0.1, 0.0), Measured("a risk", "", np.full(50, np.nan), np.full(50, np.nan)))
    gates = [
        {"name": name, "question": "privacy", "measures": [name], "limit": 0.2, "optional": may_lack}
        for name, may_lack in (("an error", False), ("a risk", optional))
    ]
    verdicts = judge(Gates.model_validate({"gates": gates}), measures)
    section = Section("a section", "privacy", measures)
    told = answers(Evaluation({}, Parts(200, 200, 200), 100, (section,), tuple(verdicts), {}))
    (privacy,) = [one for one in told if one.question == "privacy"]
    assert (privacy.answer == "passes") == passed(verdicts) == optional
    assert optional or in_one_sentence(told).startswith("Cannot be told on privacy; ")


def test_a_missed_gate_is_a_finding_at_its_ceiling_too() -> None:
    told = findings(evaluation(invented("an error", "a", 0.2, 0.2), limit=0.1), PANELS)
    assert len(told) == 1 and told[0].question == "time"


def test_the_verdict_is_a_sentence() -> None:
    told = in_one_sentence(answers(evaluation(invented("an error", "a", 0.9, 0.0), limit=0.2)))
    assert told == "Falls short on time; no gate on fidelity, utility and privacy."


def test_findings_are_what_lies_furthest_beyond_its_ceiling() -> None:
    measures = (
        invented("one", "a", 0.30, 0.1),
        invented("two", "b", 0.50, 0.1),
        invented("two", "c", 0.40, 0.1),  # of a kind that is told already
        invented("three", "b", 0.35, 0.1),  # of a subject that is told already
        invented("four", "d", 0.10, 0.1),  # not beyond its ceiling
        invented("five", "e", 0.10, 0.9),  # better than its ceiling
        invented("six", "f", 0.20, 0.9, higher_is_better=True),
        Measured("seven", "g", np.full(50, np.nan), np.full(50, np.nan)),
    )
    told = [finding.sentence for finding in findings(evaluation(*measures, limit=0.9), PANELS)]
    assert [words.split(" ")[0] for words in told] == ["Six", "Two", "One"]
    first = [finding.sentence for finding in findings(evaluation(*measures, limit=0.1), PANELS)]
    assert first[0].startswith("One of a: ")  # its gate is missed


def test_what_chance_explains_is_no_finding() -> None:
    assert findings(evaluation(invented("one", "a", 0.1, 0.1), invented("two", "b", 0.1, 0.9), limit=0.5), PANELS) == []


def test_a_difference_of_next_to_nothing_is_no_finding() -> None:
    assert excess(invented("sure", "a", 0.002, 0.001, 1e-6)) < 1 < excess(invented("sure", "a", 0.03, 0.001, 1e-6))


def test_two_draws_that_agree_prove_nothing_and_nine_do() -> None:
    for n_draws, sure in ((2, False), (9, True)):
        score = 0.8 + np.linspace(-0.02, 0.02, n_draws)
        assert (excess(Measured("an AUC", "", score, np.full(n_draws, 0.5))) > 1) == sure


def test_what_has_no_power_is_no_finding() -> None:
    bad = np.full(50, 0.5)
    for control, n_findings in ((bad + 0.4, 1), (bad - 0.1, 0)):
        measured = Measured("an AUC", "", np.r_[0.5, np.linspace(0.8, 0.9, 49)], bad, control=control)
        assert len(findings(evaluation(measured, limit=0.6), PANELS)) == n_findings


def test_a_change_rate_is_told_with_its_numbers() -> None:
    def rate(table: pd.DataFrame) -> float:
        same = table["id"].eq(table["id"].shift())
        return float((table["drug"] != table["drug"].shift())[same].mean())

    made, real = (rate(table) for table in (shuffled_months(TABLE), TABLE))
    told = sentence(invented("change rate", "drug", 0.2, 0.0), PANELS)
    assert made > real
    assert told == f"drug changes from month to month more often than among patients: {made:.0%} against {real:.0%}."


def test_every_measure_has_a_sentence_of_its_own() -> None:
    made = walks(200, seed=3).assign(sex="M")
    made["CD4"] = np.random.default_rng(0).permutation(made["CD4"]) * 0.7
    panels = Parts(panel(shuffled_months(made)), PANELS.train, PANELS.holdout)
    draws = make_draws(panels.each(lambda part: part.n_patients))
    sections = (temporal_measures, pair_measures, trend_measures)
    for measured in [m for section in sections for m in section(panels, draws) if m.is_known]:
        told = sentence(measured, panels)
        assert told[-1] == "." and "against" in told and "nan" not in told
        if measured.name not in ("change rate", "row-to-row difference"):
            assert not told.startswith(measured.name[0].upper() + measured.name[1:]), told
    assert {"TV", "KS", "transitions", "association", "autocorrelation"} < SENTENCES.keys()


def test_shares_and_points_of_distributions_are_told() -> None:
    made = panel(TABLE.assign(sex="M", CD4=TABLE["CD4"] * 0.5))
    panels = Parts(made, PANELS.train, PANELS.holdout)
    male = (TABLE.groupby("id")["sex"].first() == "M").mean()
    assert sentence(invented("TV", "sex", 0.5, 0.0), panels).startswith("sex is ")
    assert f"{male:.0%}" in sentence(invented("TV", "sex", 0.5, 0.0), panels) or "50%" in str(male)
    assert sentence(invented("KS", "CD4", 0.5, 0.0), panels).startswith("CD4 lies below ")


@pytest.mark.parametrize("name", [*SAYINGS, "two-sample AUC, GRU", "membership TPR at 1% FPR, density"])
def test_attacks_and_learners_are_told_without_gaps(name: str) -> None:
    told = sentence(invented(name, "CD4", 0.4, 0.1), PANELS)
    assert (told[-1] == "." and "{" not in told and "against" in told) or "from" in told or "chance" in told


def test_an_unknown_measure_is_told_by_its_name() -> None:
    told = sentence(invented("calibration slope", "death, within a year", 0.5, 1.0, 0.0), PANELS)
    assert told == "Calibration slope of death, within a year: 0.5, where real patients reach 1."


@pytest.mark.parametrize("higher", [True, False])
def test_left_of_the_bound_is_where_a_gate_is_reached(higher: bool) -> None:
    sign = -1 if higher else 1
    for worse in (-0.1, 0.1):
        measured = invented("a measure", "a", 0.5 + sign * (0.05 + worse), 0.5, 0.001, higher_is_better=higher)
        (verdict,) = evaluation(measured, margin=0.05).verdicts
        picture = gate_picture(verdict, higher, 1)
        assert picture is not None
        dot = float(picture.svg.partition('cx="')[2].partition('"')[0])
        assert (dot < 0.55 * 190) == (worse < 0) == verdict.passed
    assert gate_bound(verdict, higher) == f"at most 0.05 {'below' if higher else 'above'} the ceiling"
