"""What learners can tell apart, what they must not, and the scores that are made of it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hg3.evaluation import learners, recurrent
from hg3.evaluation.draws import N_DRAWS, Draws, Measured, Parts, make_draws
from hg3.evaluation.features import summary
from hg3.evaluation.fidelity import clusters, detection
from hg3.evaluation.fidelity.clusters import log_cluster
from hg3.evaluation.fidelity.detection import BOOSTING_DRAWS, GRU_DRAWS, detection_measures
from hg3.evaluation.gates import Gates, judge, load_gates
from hg3.evaluation.panel import Panel
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.schema import TableSchema, load_schema
from tests.evaluation.cases import SCHEMA, everybody, panel, shuffled_months, walks, without_value
from tests.table.cases import make_schema, tiny_columns

BOOSTING, GRU = "two-sample AUC, gradient boosting", "two-sample AUC, GRU"
DISCRIMINATIVE, LOG_CLUSTER = "discriminative score", "log-cluster"
NAMES = [BOOSTING, GRU, DISCRIMINATIVE, LOG_CLUSTER]


def found_in(made: Panel, train: Panel, holdout: Panel, *, draws: Draws | None = None) -> dict[str, Measured]:
    panels = Parts(made, train, holdout)
    measures = detection_measures(panels, draws or everybody(panels))
    return {f"{m.name}: {m.subject}" if m.subject else m.name: m for m in measures}


COURSE = make_schema(
    [
        {"name": "sex", "kind": "binary", "static": True},
        {"name": "lab", "kind": "real"},
        {"name": "drug", "kind": "categorical", "categories": [0, 1, 2]},
    ],
    length=12,
)


def course(seed: int, n_patients: int = 160) -> pd.DataFrame:
    """Return whole records of a lab that drifts around a patient's level and a drug that follows it."""
    rng = np.random.default_rng(seed)
    sex, level = rng.integers(0, 2, n_patients), rng.normal(size=(n_patients, 1))
    lab = 0.5 * level + rng.normal(0, 0.5, (n_patients, 12)).cumsum(axis=1)
    where = {"id": np.repeat(np.arange(n_patients), 12), "month": np.tile(np.arange(12), n_patients)}
    return pd.DataFrame(
        {**where, "sex": np.repeat(sex, 12), "lab": lab.ravel(), "drug": np.digitize(lab.ravel(), [-1, 1])}
    )


def narrow(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(lab=table["lab"] / 5)


@pytest.fixture(scope="module")
def real() -> tuple[Panel, Panel]:
    """Training and held-out patients of one distribution."""
    return panel(course(1), COURSE), panel(course(2), COURSE)


@pytest.fixture(scope="module")
def alike(real: tuple[Panel, Panel]) -> dict[str, Measured]:
    return found_in(panel(course(5), COURSE), *real)


@pytest.fixture
def little_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what does not depend on how well a learner learns."""
    monkeypatch.setattr(recurrent, "EPOCHS", 1)
    monkeypatch.setattr(recurrent, "PREDICTING_EPOCHS", 1)
    monkeypatch.setattr(learners, "TREES", 5)
    monkeypatch.setattr(learners, "FOLDS", 2)


def test_patients_of_one_distribution_are_not_told_apart(alike: dict[str, Measured]) -> None:
    for name in (BOOSTING, GRU):
        # 160 patients against 160: a deviation of 0.04 by chance
        assert 0.4 < alike[name].score[0] < 0.6 and 0.4 < alike[name].ceiling[0] < 0.6, name
    assert alike[DISCRIMINATIVE].score[0] < 0.1
    assert set(alike) == {*NAMES, "predictive score: lab", "predictive score: drug"}  # sex has no next time


def test_patients_of_exchanged_columns_are_told_from_patients_where_there_are_enough(
    real: tuple[Panel, Panel], alike: dict[str, Measured]
) -> None:
    control = alike[BOOSTING].control
    assert alike[BOOSTING].has_power and control is not None and control[0] > 0.7
    assert all(measured.has_power for name, measured in alike.items() if name != BOOSTING)  # which have no control


def test_exchanged_columns_are_those_of_patients_and_go_together_within() -> None:
    names, rng = ("rows", "a: mean", "a: last", "b: mean"), np.random.default_rng(0)
    values = np.arange(50)[:, None] + np.array([0, 100, 200, 300])
    found = detection._exchanged(names, values, rng)
    np.testing.assert_array_equal(np.sort(found, axis=0), values)
    np.testing.assert_array_equal(found[:, 2] - found[:, 1], np.full(50, 100))
    assert (found[:, 3] - found[:, 1] == 200).sum() < 10 and (found[:, 1] - found[:, 0] == 100).sum() < 10


def test_a_learner_without_power_says_so(little_training: None) -> None:
    """Of 12 patients a group nothing can be told, were they ever so bad; no gate takes that for a merit."""
    panels = Parts(*(panel(walks(24, seed)) for seed in (1, 2, 3)))
    measures, tables, remarks = detection.detection(panels, make_draws(Parts(24, 24, 24)))
    boosted = next(measured for measured in measures if measured.name == BOOSTING)
    assert boosted.is_known and not boosted.has_power and tables == {}
    assert len(remarks) == 1 and remarks[0].startswith(
        "Two-sample AUC, gradient boosting, has no power: of 12 patients"
    )
    (gate,) = [gate for gate in load_gates().gates if gate.measures == (BOOSTING,)]
    (verdict,) = judge(Gates(gates=(gate,)), measures)
    assert verdict.state == "not estimable" and verdict.passed


def test_shuffled_months_are_told(real: tuple[Panel, Panel], alike: dict[str, Measured]) -> None:
    found = found_in(panel(shuffled_months(course(5)), COURSE), *real)
    for name, least in ((BOOSTING, 0.8), (GRU, 0.7)):
        assert found[name].score[0] > least, name
        assert found[name].ceiling[0] == alike[name].ceiling[0]  # which is no matter of the release
    assert found[DISCRIMINATIVE].score[0] > 0.15
    for name in ("lab", "drug"):
        assert found[f"predictive score: {name}"].score[0] > 1.1 * alike[f"predictive score: {name}"].score[0]


@pytest.mark.slow
def test_labs_that_are_too_narrow_are_told(real: tuple[Panel, Panel], alike: dict[str, Measured]) -> None:
    found = found_in(panel(narrow(course(5)), COURSE), *real)
    assert found[BOOSTING].score[0] > 0.95 and found[GRU].score[0] > 0.9
    assert found[LOG_CLUSTER].score[0] > alike[LOG_CLUSTER].score[0] + 0.5


def test_the_training_patients_themselves_are_at_their_ceiling(
    real: tuple[Panel, Panel], little_training: None
) -> None:
    for measured in found_in(real[0], *real).values():
        assert measured.score.tolist() == measured.ceiling.tolist(), measured.name


def test_a_copy_of_the_held_out_patients_is_below_chance(real: tuple[Panel, Panel], little_training: None) -> None:
    """A patient's copy on the other side teaches the wrong label; that is reported as it is."""
    found = found_in(real[1], *real)
    assert found[BOOSTING].score[0] < 0.5
    assert found[LOG_CLUSTER].score[0] == pytest.approx(np.log(1 / (320**2 * 20)))


def test_what_clusters_see(real: tuple[Panel, Panel]) -> None:
    men = course(5, 320).loc[lambda table: table["sex"] == 1].reset_index(drop=True)
    values = Parts(*(summary(part) for part in (panel(men, COURSE), *real)))
    found = log_cluster(values, values.each(lambda features: np.ones((1, len(features.values)))))
    assert found.score[0] > found.ceiling[0] + 0.3


def test_a_column_without_a_value_is_told_and_breaks_nothing(little_training: None) -> None:
    made, train, holdout = (panel(walks(80, seed)) for seed in (3, 1, 2))
    found = found_in(without_value(made, "VL"), train, holdout)
    assert found[BOOSTING].score[0] > 0.95
    nowhere = found_in(*(without_value(part, "VL") for part in (made, train, holdout)))
    assert nowhere[BOOSTING].score[0] < 0.7
    assert all(np.isfinite(m.score).all() and np.isfinite(m.ceiling).all() for m in nowhere.values())


@pytest.mark.slow
def test_the_order_of_patients_says_nothing(real: tuple[Panel, Panel], alike: dict[str, Measured]) -> None:
    table = course(5)
    renamed = table.assign(id=900 - table["id"]).sort_values(["id", "month"]).reset_index(drop=True)
    found = found_in(panel(renamed, COURSE), *real)
    for name in (BOOSTING, GRU):  # other folds, other batches: alike and not equal
        assert found[name].score[0] == pytest.approx(alike[name].score[0], abs=0.1), name


def test_an_area_is_of_one_fold_and_not_of_log_odds_of_several(
    monkeypatch: pytest.MonkeyPatch, little_training: None
) -> None:
    """A learner that knows nothing says how often it met each sort, which in a pool of folds is less than chance."""
    monkeypatch.setattr(
        detection, "boosted_log_odds", lambda values, labels, train, test, seed: np.full(len(test), labels[train].sum())
    )
    parts = [panel(walks(23, seed)) for seed in (1, 2, 3)]
    assert found_in(*parts)[BOOSTING].score[0] == 0.5


def test_draws_and_seed_say_all(little_training: None) -> None:
    panels = Parts(*(panel(walks(40, seed)) for seed in (1, 2, 3)))
    draws = make_draws(panels.each(lambda part: part.n_patients))
    first = detection_measures(panels, draws, seed=5)
    n_draws = {BOOSTING: BOOSTING_DRAWS, LOG_CLUSTER: N_DRAWS}
    assert all(len(m.score) == len(m.ceiling) == n_draws.get(m.name, GRU_DRAWS) for m in first)
    one_draw = draws.each(lambda weights: weights[:1])
    again, other = (detection_measures(panels, one_draw, seed) for seed in (5, 6))
    for one, two in zip(first, again, strict=True):
        assert one.score[0] == two.score[0] and one.ceiling[0] == two.ceiling[0], one.name
    assert any(one.score[0] != three.score[0] for one, three in zip(first, other, strict=True))


def test_only_the_patients_of_a_draw_are_looked_at(little_training: None) -> None:
    panels = Parts(*(panel(walks(40, seed)) for seed in (1, 2, 3)))
    draws = make_draws(panels.each(lambda part: part.n_patients))
    two = draws.each(lambda weights: weights[:1])
    odd = np.flatnonzero(two.made[0] == 0)
    values = {name: value.copy() for name, value in panels.made.values.items()}
    values["CD4"][odd] = 5000.0
    changed = replace(panels, made=replace(panels.made, values=values))
    for one, other in zip(detection_measures(panels, two), detection_measures(changed, two), strict=True):
        if one.name != LOG_CLUSTER:
            assert one.score.tolist() == other.score.tolist(), one.name


@pytest.mark.parametrize(
    ("made", "held", "expected"),
    [
        ([50, 0], [0, 50], np.log(0.25)),
        ([50, 50, 0], [50, 50, 0], np.log(1 / (200**2 * 3))),  # one patient too many is the least
        ([30, 10], [10, 30], np.log(0.0625)),
        ([30, 10], [30, 90], np.log(((0.5 - 0.75) ** 2 + (0.9 - 0.75) ** 2) / 2)),
    ],
)
def test_log_cluster_is_that_of_the_paper(made: list[int], held: list[int], expected: float) -> None:
    found = clusters._log_cluster_of(np.array([made], float), np.array([held], float))
    assert found.tolist() == pytest.approx([expected])


def test_twelve_patients_have_scores_and_one_has_none(little_training: None) -> None:
    parts = [panel(walks(12, seed)) for seed in (1, 2, 3)]
    found = found_in(*parts, draws=make_draws(Parts(12, 12, 12)))
    for name, measured in found.items():
        assert np.isfinite(measured.score).all() != (name == LOG_CLUSTER), name
    made = panel(walks(1, seed=1).assign(height=170.0))
    found = found_in(made, *parts[1:], draws=make_draws(Parts(1, 12, 12)))
    for name in NAMES:
        assert np.isnan(found[name].score).all() and np.isnan(found[name].ceiling).all(), name


WITHOUT = {
    "no static": make_schema([c for c in tiny_columns() if not c.get("static")]),
    "no real": make_schema([c for c in tiny_columns() if c["kind"] != "real" and "indicates" not in c]),
    "no course": make_schema([c for c in tiny_columns() if c.get("static")]),
    "one time": make_schema(tiny_columns(), length=1),
}


@pytest.mark.parametrize("schema", WITHOUT.values(), ids=WITHOUT)
def test_any_schema_has_what_it_can_have(schema: TableSchema, little_training: None) -> None:
    tables = [walks(30, seed) for seed in (1, 2, 3)]
    wanted = ["id", "month", *(c.name for c in schema.columns)]
    first = (table.loc[table["month"] < schema.length, wanted].reset_index(drop=True) for table in tables)
    found = found_in(*(panel(table, schema) for table in first))
    assert all(np.isfinite(m.score).all() and np.isfinite(m.ceiling).all() for m in found.values())
    predicted = {m.subject for m in found.values() if m.name == "predictive score"}
    going_on = {c.name for c in schema.columns if not c.static} if schema.length > 1 else set()
    assert predicted == going_on


def test_records_that_do_not_go_on_predict_nothing(little_training: None) -> None:
    single = [walks(30, seed).loc[lambda t: t["month"] == 2].reset_index(drop=True) for seed in (1, 2, 3)]
    parts = [panel(table.assign(month=0), SCHEMA) for table in single]
    found = found_in(*parts)
    assert np.isnan(found["predictive score: CD4"].score).all()
    assert np.isfinite(found[GRU].score).all()


@pytest.mark.slow
def test_power_on_a_cohort_of_its_size() -> None:
    """500 against 500 patients of 60 months: what a release may get wrong, and what chance does."""
    schema = load_schema("art-hiv-v2")

    def cohort(seed: int) -> pd.DataFrame:
        table = simulate(1000, seed=seed)
        return table[["PatientID", "Timestep", *(column.name for column in schema.columns)]]

    real, table = (panel(cohort(2), schema), panel(cohort(3), schema)), cohort(1)
    as_months = {"PatientID": "id", "Timestep": "month"}
    shuffled = shuffled_months(table.rename(columns=as_months)).rename(columns={b: a for a, b in as_months.items()})
    narrow = table.copy()
    for lab in ("VL", "CD4", "Rel CD4"):
        logs = np.log(table[lab] + 1e-3)
        narrow[lab] = np.round(np.exp(logs.mean() + (logs - logs.mean()) / 5), 6)
    draws = make_draws(Parts(1000, 1000, 1000))
    same, mixed, flat = (found_in(panel(made, schema), *real, draws=draws) for made in (table, shuffled, narrow))
    for name in (BOOSTING, GRU):
        assert abs(same[name].difference()[0]) < 0.06, name
        assert mixed[name].score.min() > 0.95 and flat[name].score.min() > 0.95, name
    assert mixed["predictive score: VL"].score.min() > 1.2 * same["predictive score: VL"].score.max()
