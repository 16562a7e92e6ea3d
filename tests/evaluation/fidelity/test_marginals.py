"""Measures of single columns: against obvious computations, and on tables with a known answer."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hg3.evaluation.draws import Parts
from hg3.evaluation.fidelity.marginals import RARE, marginal_measures, rare_ratio, wasserstein
from tests.evaluation.cases import everybody, panel, scores
from tests.table.cases import make_schema, make_table, tiny_columns

TABLE = make_table(60, seed=1)


def found(made: pd.DataFrame, real: pd.DataFrame = TABLE) -> dict[str, float]:
    return scores(marginal_measures, panel(made), panel(real))


def test_identical_tables_are_perfect() -> None:
    perfect = {"KS": 0, "TV": 0, "Wasserstein": 0, "missing rate": 0, "category coverage": 1, "boundary adherence": 1}
    perfect |= {"rare-category ratio": 1, "static constancy": 1}
    for name, score in found(TABLE).items():
        assert score == pytest.approx(perfect[name.split(":")[0]], abs=1e-12), name


def test_every_column_has_its_measures() -> None:
    names = set(found(TABLE))
    assert {"KS: VL", "Wasserstein: VL", "boundary adherence: VL", "missing rate: VL", "missing rate: CD4"} <= names
    assert {"TV: sex", "category coverage: sex", "static constancy: sex", "static constancy: height"} <= names
    assert "missing rate: drug" not in names and "static constancy: drug" not in names


def test_distances_are_those_of_scipy() -> None:
    made = make_table(60, seed=2)
    real, other = TABLE["VL"].dropna().to_numpy(), made["VL"].dropna().to_numpy()
    measured = found(made)
    assert measured["KS: VL"] == pytest.approx(stats.ks_2samp(real, other).statistic, abs=1e-12)
    ordered = np.sort(real)
    below, up_to = (np.searchsorted(ordered, other, side) for side in ("left", "right"))
    own = stats.rankdata(real) - 0.5  # ties in the middle
    expected = stats.wasserstein_distance(own / len(real), (below + up_to) / 2 / len(real))
    assert measured["Wasserstein: VL"] == pytest.approx(expected, abs=1e-12)
    shares = [t["drug"].value_counts(normalize=True).reindex([-1, 0, 3]) for t in (TABLE, made)]
    assert measured["TV: drug"] == pytest.approx(0.5 * (shares[0] - shares[1]).abs().sum(), abs=1e-12)


def test_a_static_column_counts_once_a_patient() -> None:
    first = TABLE.groupby("id")["height"].first().dropna()
    made = TABLE.assign(height=TABLE["height"] + 3)
    expected = stats.ks_2samp(first, first + 3).statistic
    assert found(made)["KS: height"] == pytest.approx(expected, abs=1e-12)
    assert found(made)["Wasserstein: height"] > 0.05


def test_masked_cells_do_not_count() -> None:
    made = TABLE.assign(CD4=TABLE["CD4"].where(TABLE["CD4 (M)"] == 1, 4999.0))
    assert found(made)["KS: CD4"] == found(TABLE)["KS: CD4"] == 0.0


def test_a_dropped_code_is_not_covered_and_a_rare_one_is_missed() -> None:
    rng = np.random.default_rng(0)
    rare = TABLE.assign(drug=np.where(rng.random(len(TABLE)) < 0.03, 3, TABLE["drug"].replace(3, 0)))
    share = (rare["drug"] == 3).mean()
    assert 0 < share < RARE
    dropped = found(rare.assign(drug=rare["drug"].replace(3, 0)), rare)
    assert dropped["category coverage: drug"] == pytest.approx(2 / 3)
    assert dropped["rare-category ratio: drug"] == 0.0
    assert dropped["TV: drug"] == pytest.approx(share)
    assert "rare-category ratio: sex" not in dropped


def test_values_beyond_the_real_ones_do_not_adhere() -> None:
    beyond = TABLE["VL"].copy()
    where = beyond.dropna().index[:10]
    beyond[where] = 9e6
    assert found(TABLE.assign(VL=beyond))["boundary adherence: VL"] == pytest.approx(1 - 10 / beyond.notna().sum())


def test_missing_rate_is_of_rows() -> None:
    made = TABLE.assign(VL=np.nan)
    measured = found(made)
    assert measured["missing rate: VL"] == pytest.approx(TABLE["VL"].notna().mean())
    assert measured["KS: VL"] == measured["Wasserstein: VL"] == 1.0  # nothing against something


def test_sex_that_flips_where_no_real_patient_changes_it() -> None:
    columns = [{**c, "static": False} if c["name"] == "sex" else c for c in tiny_columns()]
    schema = make_schema(columns, name="monthly")
    flipped = TABLE.copy()
    patients = TABLE["id"].unique()[:15]
    last = flipped[flipped["id"].isin(patients)].groupby("id").tail(1).index
    flipped.loc[last, "sex"] = flipped.loc[last, "sex"].map({"F": "M", "M": "F"})
    measured = scores(marginal_measures, panel(flipped, schema), panel(TABLE, schema))
    assert measured["static constancy: sex"] == pytest.approx(1 - 15 / 60)


def test_wasserstein_of_two_points_is_how_far_they_lie_apart() -> None:
    known = np.array([0.1, 0.4, 0.9])
    assert wasserstein(np.array([[1.0, 0, 0]]), np.array([[0, 0, 5.0]]), known) == pytest.approx(0.8)
    assert wasserstein(np.zeros((1, 3)), np.array([[0, 0, 5.0]]), known) == 1.0


def test_the_ratio_of_rare_codes_is_that_of_the_smaller_to_the_larger() -> None:
    rare = np.array([True, False])
    one, other = np.array([[2.0, 98]]), np.array([[4.0, 96]])
    assert rare_ratio(one, other, rare) == rare_ratio(other, one, rare) == pytest.approx(0.5)


def test_permuted_patients_change_nothing() -> None:
    ids = TABLE["id"].unique()
    order = dict(zip(ids, np.random.default_rng(3).permutation(ids), strict=True))
    made = TABLE.assign(id=TABLE["id"].map(order)).sort_values(["id", "month"], ignore_index=True)
    assert found(made) == pytest.approx(found(TABLE))


def test_a_draw_of_nobody_with_a_value_is_defined() -> None:
    empty = panel(TABLE.assign(VL=np.nan))
    panels = Parts(empty, empty, empty)
    assert all(np.isfinite(m.score).all() for m in marginal_measures(panels, everybody(panels)))
