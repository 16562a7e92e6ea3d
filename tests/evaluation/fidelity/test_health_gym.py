"""The Health Gym line's measures against loops over patients, and what their tables may tell."""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.signal import detrend

from hg3.evaluation.draws import N_DRAWS, Parts, make_draws
from hg3.evaluation.fidelity.health_gym import CYCLE, STATIC, TREND, health_gym_measures, matrices
from hg3.evaluation.panel import Panel
from hg3.table.schema import TableSchema
from tests.evaluation.cases import panel, scores, walks, without_value
from tests.table.cases import make_schema, make_table, tiny_columns

DYNAMIC = ["VL", "CD4", "drug"]
PLAIN = make_schema([{**c, "masks": False} for c in tiny_columns() if c["name"] in ("sex", *DYNAMIC)])


def whole_records(n_patients: int = 60, seed: int = 0) -> pd.DataFrame:
    """Return a table of `PLAIN` without gaps, in which VL and CD4 always have a value."""
    table = walks(n_patients, seed)
    table = table[table["id"] % 2 == 0].reset_index(drop=True)
    table["VL"] = np.round(np.random.default_rng(seed).lognormal(6, 1, len(table)) + table["CD4"], 2)
    return table[["id", "month", "sex", *DYNAMIC]]


def published(table: pd.DataFrame, one: str, other: str) -> dict[str, float]:
    """Return trend and cycle of a pair of columns as the notebooks do, a patient at a time; records of one length."""
    found: dict[str, list[float]] = {TREND: [], CYCLE: []}
    for _, rows in table.groupby("id"):
        x, y = (rows[name].to_numpy(float) for name in (one, other))
        if min(np.ptp(x), np.ptp(y)) > 0:
            for name, u, v in ((TREND, x - detrend(x), y - detrend(y)), (CYCLE, detrend(x), detrend(y))):
                found[name].append(np.arctanh(np.clip(np.corrcoef(u, v)[0, 1], -0.999999, 0.999999)))
    return {name: float(np.tanh(np.mean(values))) for name, values in found.items()}


def cell(matrix: pd.DataFrame, one: str, other: str) -> float:
    return float(matrix.to_numpy()[matrix.index.get_loc(one), matrix.columns.get_loc(other)])


def only(made: Panel) -> Parts[Panel]:
    return Parts(made, made, made)


def test_trend_and_cycle_are_those_of_the_notebooks() -> None:
    table = whole_records()
    found = matrices(only(panel(table, PLAIN)))
    for one, other in combinations(DYNAMIC, 2):
        for name, expected in published(table, one, other).items():
            assert cell(found[name].made, one, other) == pytest.approx(expected, abs=1e-6), (name, one, other)
        assert cell(found[CYCLE].made, other, one) == cell(found[CYCLE].made, one, other)
    assert found[TREND].made.loc["sex"].drop("sex").isna().all()  # a static column has no course
    assert (np.diag(found[CYCLE].made) == 1.0).all()


def test_the_static_matrix_is_pearsons_of_codes_over_rows() -> None:
    table = whole_records()
    expected = table.assign(sex=(table["sex"] == "M").astype(float))[["sex", *DYNAMIC]].corr()  # drug is -1, 0, 3
    found = matrices(only(panel(table, PLAIN)))[STATIC].holdout
    pd.testing.assert_frame_equal(found.loc[expected.index, expected.columns], expected)


@pytest.mark.parametrize(("together", "expected"), [(10, 1.0), (6, 0.8963), (5, 0.0), (0, -1.0)])
def test_trends_saturate(together: int, expected: float) -> None:
    """tanh(7.254 (2p - 1)) of the share p of patients whose slopes agree, whatever the slopes are."""
    table = make_table(20).loc[lambda t: t["id"] % 2 == 0].reset_index(drop=True)
    sign = np.where(table["id"] < 100 + 2 * together, 1.0, -1.0)
    steep = np.random.default_rng(0).permuted(np.linspace(0.01, 1.0, 10))[(table["id"] - 100) // 2]
    table["CD4"], table["VL"] = 500 + 10 * table["month"], 300 + np.round(steep * sign * table["month"], 2)
    found = matrices(only(panel(table[["id", "month", "sex", *DYNAMIC]], PLAIN)))
    assert cell(found[TREND].made, "VL", "CD4") == pytest.approx(expected, abs=1e-3)


def test_what_hardly_varies_has_no_correlation() -> None:
    """Detrending a constant leaves rounding errors, which the notebooks correlate: 1.00 for two static columns."""
    table = whole_records()
    dust = 1e-10 * np.random.default_rng(0).random((2, len(table)))
    table = table.assign(VL=1000.1 + 0.3 * (table["id"] % 7) + dust[0], CD4=table["id"] + dust[1])
    found = matrices(only(panel(table, PLAIN)))
    for name in (TREND, CYCLE):
        assert np.isnan(cell(found[name].made, "VL", "CD4")), name
    moving = whole_records()
    errors = scores(health_gym_measures, panel(moving, PLAIN), panel(table, PLAIN))
    assert errors[f"{CYCLE}: VL, CD4"] == pytest.approx(abs(published(moving, "VL", "CD4")[CYCLE]))


def test_a_gap_is_left_out_and_takes_its_time() -> None:
    table = whole_records().assign(VL=lambda t: 50.0 + 3 * t["month"] * (1 + t["id"] % 3))
    table["CD4"] = 500 + 20 * table["month"]
    some = table.assign(VL=table["VL"].where(table["month"] != 2))
    found = matrices(Parts(*(panel(part, PLAIN) for part in (some, table, table))))
    assert np.isnan(cell(found[CYCLE].made, "VL", "CD4"))  # a straight line, with and without the month in it
    assert cell(found[TREND].made, "VL", "CD4") == pytest.approx(0.999999)
    few = table.assign(VL=table["VL"].where(table["month"] < 3))  # n - 3 = 0: no patient weighs anything
    assert np.isnan(cell(matrices(only(panel(few, PLAIN)))[TREND].made, "VL", "CD4"))


def test_the_same_patients_in_any_order_are_at_no_distance() -> None:
    table = walks(60)
    renamed = table.assign(id=table["id"].map(lambda number: 900 - number)).sort_values(["id", "month"])
    found = scores(health_gym_measures, panel(renamed.reset_index(drop=True)), panel(table))
    n_pairs = len(list(combinations(range(7), 2)))
    assert len(found) == n_pairs + 2 * len(list(combinations(range(5), 2))) + 1
    assert max(found.values()) == pytest.approx(0.0, abs=1e-9)


def test_draws_are_of_their_patients_alone() -> None:
    tables = [whole_records(n, seed) for n, seed in ((60, 1), (80, 2), (70, 3))]
    panels = Parts(*(panel(table, PLAIN) for table in tables))
    draws = make_draws(panels.each(lambda part: part.n_patients))
    found = {f"{m.name}: {m.subject}": m for m in health_gym_measures(panels, draws)}
    held, made, train = (
        published(table[table["id"].isin(table["id"].unique()[weights[7] > 0])], "VL", "CD4")[CYCLE]
        for table, weights in ((tables[2], draws.holdout), (tables[0], draws.made), (tables[1], draws.train))
    )
    cycle = found[f"{CYCLE}: VL, CD4"]
    assert cycle.score.shape == (N_DRAWS,)
    assert cycle.score[7] == pytest.approx(abs(made - held)) and cycle.ceiling[7] == pytest.approx(abs(train - held))


GROUPS: list[dict[str, Any]] = [
    {"name": "sex", "kind": "binary", "static": True, "categories": ["F", "M"], "labels": ["female", "male"]},
    {"name": "site", "kind": "categorical", "static": True, "categories": [1, 2, 3], "missing": "modelled"},
    {"name": "CD4", "kind": "real"},
]


def grouped(counts: dict[tuple[str, float], int]) -> Panel:
    """Return as many patients of each sex and site, with one row each."""
    groups = [group for group, n in counts.items() for _ in range(n)]
    table = pd.DataFrame(groups, columns=["sex", "site"])
    return panel(table.assign(id=range(len(table)), month=0, CD4=500.0), make_schema(GROUPS))


REAL = {("F", 1): 20, ("M", 1): 40, ("M", 2): 29, ("M", 3): 8, ("F", np.nan): 3}


def test_a_subgroup_that_is_dropped_is_mode_collapse() -> None:
    real = grouped(REAL)
    without = grouped({group: n for group, n in REAL.items() if group != ("F", 1)})
    assert scores(health_gym_measures, without, real)["mode collapse: "] == pytest.approx(0.2)
    one = grouped({("M", 1): 5})
    assert scores(health_gym_measures, one, real)["mode collapse: "] == pytest.approx(0.6)
    assert scores(health_gym_measures, real, real)["mode collapse: "] == 0.0


WITHOUT = {
    "no static": make_schema([c for c in tiny_columns() if not c.get("static")]),
    "no real": make_schema([c for c in tiny_columns() if c["kind"] != "real" and "indicates" not in c]),
    "one column": make_schema([c for c in tiny_columns() if c["name"] == "drug"]),
}


@pytest.mark.parametrize("schema", WITHOUT.values(), ids=WITHOUT)
def test_any_schema_has_what_it_can_have(schema: TableSchema) -> None:
    table = walks(40)[["id", "month", *(c.name for c in schema.columns)]]
    part = panel(table, schema)
    found = scores(health_gym_measures, part, part)
    assert all(value == pytest.approx(0.0, abs=1e-9) for value in found.values())
    assert ("mode collapse: " in found) == ("sex" in schema.by_name)
    assert matrices(only(part))[STATIC].made.shape == (len(schema.columns),) * 2


@pytest.mark.parametrize("n_patients", [1, 12])
def test_few_patients_and_a_column_without_a_value(n_patients: int) -> None:
    table = walks(n_patients).assign(VL=100.0, height=170.0)
    panels = only(without_value(panel(table), "VL"))
    for measured in health_gym_measures(panels, make_draws(panels.each(lambda part: part.n_patients))):
        assert np.isfinite(measured.score).all() and np.isfinite(measured.ceiling).all(), measured.name
        if "VL" in measured.subject.split(", "):
            assert (measured.score == 0.0).all()
