"""Hazard ratios: those that were planted, those of lifelines, and the rows that they are learned from."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hg3.evaluation.draws import Parts, make_draws
from hg3.evaluation.panel import Panel, some_patients
from hg3.evaluation.utility.episodes import KEYS, episodes, times_at_risk
from hg3.evaluation.utility.survival import effects, hazard_measures
from tests.evaluation.utility.cases import SCHEMA, made, needs

pytestmark = needs("lifelines")
DEATH, ILLNESS = SCHEMA.targets
GROUP = "group: two"


def same(one: Panel) -> Parts[Panel]:
    return Parts(one, one, one)


def hazards(made_: Panel, train: Panel, holdout: Panel) -> tuple[dict[str, float], dict[str, float], pd.DataFrame]:
    """Return the mean scores and ceilings by measure, and the table."""
    panels = Parts(made_, train, holdout)
    found, table, remarks = hazard_measures(panels, ILLNESS, make_draws(panels.each(lambda p: p.n_patients)))
    assert remarks == [] and table is not None
    assert [m.higher_is_better for m in found] == [False, True]
    return {m.name: m.score.mean() for m in found}, {m.name: m.ceiling.mean() for m in found}, table


def test_times_at_risk_one_patient_at_a_time() -> None:
    one = made(80, seed=0)
    random = np.random.default_rng(0)
    has_row = one.has_row & (random.random(one.has_row.shape) < 0.8)  # with gaps, and records of other lengths
    ill = np.where(has_row, one.values["ill"], np.nan)
    one = replace(one, has_row=has_row, values={**one.values, "ill": ill})
    expected = []
    for patient in range(80):
        months = np.flatnonzero(has_row[patient])
        happened = np.flatnonzero(ill[patient] == 1)
        if not len(months) or months[-1] < 2 or (len(happened) and happened[0] < 2):
            continue
        last = happened[0] if len(happened) else months[-1]
        expected += [(patient, month, month == last and len(happened) > 0) for month in range(2, last + 1)]
    risk = times_at_risk(one, ILLNESS)
    assert list(zip(risk.patient, risk.time, risk.event, strict=True)) == expected
    assert {event for *_, event in expected} == {True, False}


def test_covariates_come_from_the_time_before() -> None:
    one = made(200, seed=0)
    rows = episodes(same(one), ILLNESS).train
    assert list(rows.columns) == [*KEYS, "marker", GROUP, "drug: a"] or "drug: b" in rows.columns
    patient, before = rows["patient"].to_numpy(), rows["start"].to_numpy() + ILLNESS.observe - 1
    drug = next(name for name in rows.columns if name.startswith("drug"))
    code = ["a", "b"].index(drug[-1])
    np.testing.assert_array_equal(rows[drug], one.values["drug"][patient, before] == code)
    marker = one.values["marker"][patient, before]
    assert abs(rows["marker"].mean()) < 1e-9 and abs(rows["marker"].std(ddof=0) - 1) < 1e-9
    assert pd.Series(marker).corr(rows["marker"], method="spearman") > 0.9999
    assert (rows["stop"] - rows["start"] == 1).all()


def test_an_unknown_value_is_the_last_known_one() -> None:
    one = made(100, seed=0)
    months = np.arange(12)
    has_row = one.has_row & (months != 4)
    values = {n: np.where(has_row, v, np.nan) if v.shape[1] > 1 else v for n, v in one.values.items()}
    rows = episodes(same(replace(one, has_row=has_row, values=values)), ILLNESS).train
    at_5 = rows[rows["start"] == 5 - ILLNESS.observe]
    drug = next(name for name in rows.columns if name.startswith("drug"))
    code = ["a", "b"].index(drug[-1])
    np.testing.assert_array_equal(at_5[drug], one.values["drug"][at_5["patient"], 3] == code)


def test_a_rare_code_has_no_column() -> None:
    one = made(300, seed=0)
    assert GROUP in episodes(same(one), ILLNESS).made.columns
    many = made(800, seed=0)
    for share, is_there in ((30, False), (60, True)):  # under and over 5% of the real, and of more than 10 patients
        few = replace(many, values={**many.values, "group": (np.arange(800) < share)[:, None].astype(float)})
        assert (GROUP in episodes(same(few), ILLNESS).made.columns) == is_there
    lacks = replace(one, values={**one.values, "group": (np.arange(300) < 9)[:, None].astype(float)})
    assert GROUP not in episodes(Parts(lacks, one, one), ILLNESS).made.columns  # under 10 of the synthetic


@pytest.mark.filterwarnings("ignore:Starting with pandas")
def test_the_planted_hazard_ratio_is_found_as_lifelines_finds_it() -> None:
    from lifelines import CoxPHFitter

    rows = episodes(same(made(1500, seed=1, log_ratio=0.8)), ILLNESS).train[[*KEYS, GROUP]]
    found = effects(rows)
    assert abs(found.log_ratio[GROUP] - 0.8) < 0.2
    assert found.low[GROUP] < 0.8 < found.high[GROUP]
    of_patient = rows.groupby("patient").agg(months=("stop", "max"), event=("event", "max"), group=(GROUP, "first"))
    other = CoxPHFitter().fit(of_patient, "months", "event")
    assert abs(found.log_ratio[GROUP] - other.params_["group"]) < 0.01
    np.testing.assert_allclose(
        [found.low[GROUP], found.high[GROUP]], other.confidence_intervals_.to_numpy()[0], atol=0.01
    )


def test_a_release_with_the_same_effects() -> None:
    scores, ceilings, table = hazards(*(made(800, seed=seed) for seed in (1, 2, 3)))
    assert abs(scores["hazard ratios"] - ceilings["hazard ratios"]) < 0.15
    assert scores["hazard ratio intervals"] > 0.9
    assert list(table.columns) == [
        *("target", "covariate", "real", "real_low", "real_high"),
        *("synthetic", "synthetic_low", "synthetic_high"),
    ]
    group = table[table["covariate"] == GROUP]
    assert (group["real_low"] < np.exp(0.8)).all() and (np.exp(0.8) < group["real_high"]).all()
    assert list(group["target"]) == ["illness"]
    assert (table["synthetic_low"] < table["synthetic"]).all() and (table["synthetic"] < table["synthetic_high"]).all()


def test_a_release_with_a_turned_effect() -> None:
    scores, ceilings, table = hazards(
        made(400, seed=1, log_ratio=-0.8, hazard=0.2), made(400, seed=2), made(400, seed=3)
    )
    assert scores["hazard ratios"] > ceilings["hazard ratios"] + 0.3  # 1.6 of one covariate in three
    assert scores["hazard ratio intervals"] < 0.75 < 0.9 < ceilings["hazard ratio intervals"]
    assert (table.loc[table["covariate"] == GROUP, "synthetic"] < 0.7).all()


def test_identical_patients_differ_by_the_draw_alone() -> None:
    one = made(300, seed=1)
    found, _, _ = hazard_measures(same(one), ILLNESS, Parts(*3 * [np.ones((2, 300))]))
    np.testing.assert_allclose(found[0].score, 0.0)
    np.testing.assert_allclose(found[1].ceiling, 1.0)
    assert found[0].score.shape == (2,)


def test_what_cannot_be_told_is_said() -> None:
    one = made(60, seed=1)
    nobody = replace(one, values={**one.values, "ill": np.zeros_like(one.values["ill"])})
    draws = make_draws(Parts(60, 60, 60))
    for panels, target, sentence in (
        (same(one), DEATH, "death: no hazard ratios, because its outcome is known for a patient, not for a time."),
        (
            Parts(nobody, one, one),
            ILLNESS,
            "illness: no hazard ratios, because it happens to fewer than 10 patients of a part.",
        ),
    ):
        found, table, remarks = hazard_measures(panels, target, draws)
        assert remarks == [sentence] and table is None
        assert [m.name for m in found] == ["hazard ratios", "hazard ratio intervals"]
        assert all(np.isnan(m.score).all() for m in found)


def test_the_order_of_patients_changes_chance_alone() -> None:
    release, train, holdout = (made(800, seed=seed) for seed in (1, 2, 3))
    order = np.random.default_rng(0).permutation(800)
    (found, _, table), (turned, _, other) = (
        hazards(one, train, holdout) for one in (release, some_patients(release, order))
    )
    for name in found:
        assert turned[name] == pytest.approx(found[name], abs=0.05), name
    pd.testing.assert_frame_equal(other, table, rtol=1e-6)  # the effects of everybody, whatever order they come in
