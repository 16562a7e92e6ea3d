"""Fidelity measures against obvious computations, and what they must and must not see."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.quick_look import (
    CEILING_DRAWS,
    changing,
    column_sample,
    kolmogorov_smirnov,
    length_scores,
    marginal_scores,
    missing_rate,
    static_constancy,
    total_variation,
)
from hg3.table.checks import checked_cohort
from hg3.table.cohort import Cohort, missing_cells
from hg3.table.schema import TableSchema
from tests.table.cases import make_schema, make_table, tiny_columns

SCHEMA = make_schema(tiny_columns(), name="tiny")


def cohort_of(table: pd.DataFrame, schema: TableSchema = SCHEMA) -> Cohort:
    return checked_cohort(table, schema)[0]


@pytest.fixture(scope="module")
def real() -> tuple[Cohort, Cohort]:
    """Training and held-out patients of one distribution."""
    return cohort_of(make_table(120, seed=1)), cohort_of(make_table(60, seed=2))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([0, 0, 1, 1], [0, 1], 0.0),
        ([0, 0, 0, 1], [0, 1, 1, 1], 0.5),
        ([0, 0], [1, 2], 1.0),
        ([0, 1, 2, 2], [0, 0, 1, 2], 0.25),
        ([0, 1, -1, -1], [0, -1, 1], 0.0),
        ([-1], [0], 1.0),
        ([-1], [-1], 0.0),
    ],
)
def test_total_variation(one: list[int], other: list[int], expected: float) -> None:
    samples = np.array(one, np.int32), np.array(other, np.int32)
    assert total_variation(*samples) == total_variation(*samples[::-1]) == expected


def test_total_variation_matches_a_loop() -> None:
    rng = np.random.default_rng(0)
    for n_codes in (2, 6, 30):
        one, other = rng.integers(-1, n_codes, 500), rng.choice(n_codes, 300, p=rng.dirichlet(np.ones(n_codes)))
        shares = [[np.mean(s[s >= 0] == code) for code in range(n_codes)] for s in (one, other)]
        expected = sum(abs(a - b) for a, b in zip(*shares, strict=True)) / 2
        assert total_variation(one, other) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("decimals", [0, 1, 9])  # with many ties, and with none
def test_kolmogorov_smirnov_is_that_of_scipy(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    for n, m, shift in ((3, 2, 1.0), (50, 7, 0.0), (400, 900, 0.3), (30, 30, 9.0)):
        one, other = np.round(rng.normal(size=n), decimals), np.round(rng.normal(shift, size=m), decimals)
        expected = stats.ks_2samp(one, other, method="asymp").statistic
        assert kolmogorov_smirnov(one, other) == expected
        gaps = [np.full(3, np.nan)]
        assert kolmogorov_smirnov(np.concatenate([one, *gaps]), np.concatenate([*gaps, other])) == expected


def test_kolmogorov_smirnov_of_nothing() -> None:
    nothing, something = np.array([np.nan]), np.array([1.0, 2.0])
    assert kolmogorov_smirnov(nothing, nothing) == 0.0
    assert kolmogorov_smirnov(nothing, something) == kolmogorov_smirnov(something, nothing) == 1.0


def test_a_static_column_counts_once_a_patient() -> None:
    # Patient 0 has 6 rows, patient 1 has 3 to 6: by rows, neither sex would be half.
    table = make_table(2)
    table = table[(table["id"] == 100) | (table["month"] < 1)].assign(sex=lambda t: np.where(t["id"] == 100, "F", "M"))
    cohort = cohort_of(table.assign(height=170.0))
    sample = column_sample(cohort, SCHEMA.by_name["sex"])
    assert sample.values.tolist() == [0, 1] and sample.patient.tolist() == [0, 1]
    assert total_variation(sample.values, np.array([0, 1])) == 0.0
    assert len(column_sample(cohort, SCHEMA.by_name["drug"]).values) == len(table)


def test_a_static_value_is_found_on_whichever_row_it_stands() -> None:
    table = make_table(4)
    table["height"] = np.where(table["month"] == 2, 150.0 + table["id"], np.nan)
    table.loc[table["id"] == 102, "height"] = np.nan
    sample = column_sample(cohort_of(table), SCHEMA.by_name["height"])
    assert sample.patient.tolist() == [0, 1, 2, 3]
    np.testing.assert_equal(sample.values, [250.0, 251.0, np.nan, 253.0])
    assert missing_rate(sample) == 0.25


def test_what_an_indicator_masks_is_missing() -> None:
    """A masked value is no value of the real table: a release leaves the cell empty."""
    table = make_table(12)
    sample = column_sample(cohort_of(table), SCHEMA.by_name["CD4"])
    ordered = table.sort_values(["id", "month"])
    np.testing.assert_equal(sample.values, ordered["CD4"].where(ordered["CD4 (M)"] == 1).to_numpy())
    assert missing_rate(sample) == pytest.approx((table["CD4 (M)"] == 0).mean())


def plain_scores(synthetic: Cohort, holdout: Cohort, train: Cohort, n: int, seed: int) -> list[tuple[float, ...]]:
    """Return distance, ceiling and its 95th percentile of each column, each draw made and sorted anew."""
    rng = np.random.default_rng(seed)
    draws = [rng.choice(train.n_patients, n, replace=n > train.n_patients) for _ in range(CEILING_DRAWS)]
    scores: list[tuple[float, ...]] = []
    for column in synthetic.schema.columns:
        measure = kolmogorov_smirnov if column.is_real else total_variation
        made, held, seen = (column_sample(c, column) for c in (synthetic, holdout, train))
        rows = [seen.values[seen.patient == patient] for patient in range(train.n_patients)]
        ceiling = [measure(np.concatenate([rows[p] for p in draw]), held.values) for draw in draws]
        scores.append((measure(made.values, held.values), float(np.median(ceiling)), float(np.quantile(ceiling, 0.95))))
    return scores


@pytest.mark.parametrize("n", [50, 200])  # fewer than there are training patients, and more
def test_sorting_once_changes_nothing(n: int, real: tuple[Cohort, Cohort]) -> None:
    train, holdout = real
    synthetic = cohort_of(make_table(30, seed=3))
    scores = marginal_scores(synthetic, holdout, train, n_patients=n, seed=4)
    actual = scores[["distance", "ceiling", "ceiling_95"]].itertuples(index=False, name=None)
    assert list(actual) == plain_scores(synthetic, holdout, train, n, seed=4)


def test_scores_tell_the_column_the_measure_and_what_is_missing(real: tuple[Cohort, Cohort]) -> None:
    train, holdout = real
    scores = marginal_scores(holdout, holdout, train).set_index("column")
    assert scores.index.tolist() == [column.name for column in SCHEMA.columns]
    assert scores["measure"].tolist() == ["tv", "ks", "ks", "ks", "tv", "tv", "tv"]
    assert (scores["distance"] == 0.0).all()
    assert (scores["missing"] == scores["missing_real"]).all()
    missing = scores["missing"].to_dict()
    assert 0.2 < missing["VL"] < 0.4 and missing["drug"] == 0.0


def test_the_same_distribution_reaches_the_ceiling_and_a_shifted_one_does_not(real: tuple[Cohort, Cohort]) -> None:
    train, holdout = real
    table = make_table(50, seed=5)
    alike = marginal_scores(cohort_of(table), holdout, train).set_index("column")
    assert (alike["distance"] <= 1.5 * alike["ceiling_95"]).all()
    assert (alike["ceiling"] <= alike["ceiling_95"]).all() and (alike["ceiling"] > 0).all()
    shifted = table.assign(CD4=(1.5 * table["CD4"]).clip(upper=5000).round(), VL=table["VL"] / 5)
    shifted = shifted.assign(drug=0, sex="F")
    far = marginal_scores(cohort_of(shifted), holdout, train).set_index("column")
    moved = ["CD4", "VL", "drug", "sex"]
    assert (far.loc[moved, "distance"] > 1.5 * far.loc[moved, "ceiling_95"]).all()
    assert (far["ceiling_95"] == alike["ceiling_95"]).all()


def test_the_ceiling_of_more_patients_is_lower(real: tuple[Cohort, Cohort]) -> None:
    train, _ = real
    few, many = (marginal_scores(train, train, train, n_patients=n)["ceiling"].mean() for n in (10, 110))
    assert many < 0.5 * few


def test_static_constancy_sees_a_single_flip() -> None:
    cohort = cohort_of(make_table(8))
    assert static_constancy(cohort) == 1.0
    flipped = cohort.values["sex"].copy()
    flipped[3] = 1 - flipped[3]
    assert static_constancy(replace(cohort, values=cohort.values | {"sex": flipped})) == 7 / 8
    sometimes_missing = cohort.values["height"].copy()
    sometimes_missing[-1] = np.nan
    assert static_constancy(replace(cohort, values=cohort.values | {"height": sometimes_missing})) == 7 / 8
    dynamic = make_schema([c for c in tiny_columns() if not c.get("static")])
    table = make_table(4).drop(columns=["sex", "height"])
    assert static_constancy(cohort_of(table, dynamic)) == 1.0


def test_patients_who_change_what_nobody_changes_are_counted() -> None:
    columns = [column | {"static": False} for column in tiny_columns()]
    held = cohort_of(make_table(8), make_schema(columns))
    flipped = held.values["sex"].copy()
    flipped[3] = 1 - flipped[3]
    made = replace(held, values=held.values | {"sex": flipped})
    found = changing(made, held)
    assert found["sex"] == 1 / 8 and changing(held, held)["sex"] == 0.0
    assert "sex" not in changing(held, made)  # where real patients change, nothing is counted


def test_length_scores() -> None:
    table = make_table(4).assign(sex="F", height=170.0)
    whole = table[table["id"].isin([100, 102])]  # two records of 6 months
    short = whole[(whole["id"] == 100) | whole["month"].isin([0, 2])]  # one of 6, and one of 3 with a gap
    scores = length_scores(cohort_of(short), cohort_of(whole))
    assert scores == {
        "length_ks": 0.5,
        "length_mean": 4.5,
        "length_mean_real": 6.0,
        "gap_share": pytest.approx(1 / 9),
        "gap_share_real": 0.0,
    }


def test_samples_keep_patients_apart_from_rows(real: tuple[Cohort, Cohort]) -> None:
    for column in SCHEMA.columns:
        sample = column_sample(real[0], column)
        assert len(sample.values) == len(sample.patient)
        assert missing_cells(sample.values).dtype == bool
        if column.static:
            assert sample.patient.tolist() == list(range(120))
