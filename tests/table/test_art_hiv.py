"""The ART-for-HIV stand-in: its format, its determinism, and how near it comes to the published figures."""

import numpy as np
import pandas as pd
import pytest

from hg3.errors import ConfigError
from hg3.table.cohorts.art_hiv import COLUMNS, N_MONTHS, latent_quantiles, simulate, targets_table
from hg3.table.cohorts.art_hiv_targets import REGIMEN
from hg3.table.cohorts.art_hiv_truths import PROBS, TRUTHS

N_PATIENTS = 3000
CODES = {
    "Gender": {1, 2},
    "Ethnic": {1, 2, 3, 4},
    "Base Drug Combo": set(range(6)),
    "Comp. INI": set(range(4)),
    "Comp. NNRTI": set(range(4)),
    "Extra PI": set(range(6)),
    "Extra pk-En": {0, 1},
    "VL (M)": {0, 1},
    "CD4 (M)": {0, 1},
    "Drug (M)": {0, 1},
}
LIMITS = {
    "published": {"VL": (0.1, 97566.41), "CD4": (7.96, 42475.2), "Rel CD4": (1.871, 586.635)},
    "euresist": {"VL": (0.1, 97566.41), "CD4": (10, 2500), "Rel CD4": (2, 85)},
}


@pytest.fixture(scope="module", params=["published", "euresist"])
def truth(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def table(truth: str) -> pd.DataFrame:
    return simulate(N_PATIENTS, seed=11, truth=truth)


@pytest.fixture(scope="module")
def missed(table: pd.DataFrame, truth: str) -> dict[str, float]:
    return by_name(table, truth, "miss")


@pytest.fixture(scope="module")
def reached(table: pd.DataFrame, truth: str) -> dict[str, float]:
    return by_name(table, truth, "reached")


def by_name(table: pd.DataFrame, truth: str, column: str) -> dict[str, float]:
    targets = targets_table(table, truth)
    return dict(zip(targets["name"], targets[column].astype(float), strict=True))


def test_header_is_that_of_the_file() -> None:
    header = (
        "VL,CD4,Rel CD4,Gender,Ethnic,Base Drug Combo,Comp. INI,Comp. NNRTI,Extra PI,Extra pk-En,"
        "VL (M),CD4 (M),Drug (M),PatientID,Timestep"
    )
    assert simulate(1).to_csv(index=False).splitlines()[0] == header


def test_dtypes_keys_and_missing_values(table: pd.DataFrame) -> None:
    assert list(table.columns) == COLUMNS
    assert (table.dtypes.iloc[:3] == np.float64).all() and (table.dtypes.iloc[3:] == np.int64).all()
    assert not table.isna().any().any()
    assert (table["PatientID"].to_numpy() == np.arange(N_PATIENTS).repeat(N_MONTHS)).all()
    assert (table["Timestep"].to_numpy() == np.tile(np.arange(N_MONTHS), N_PATIENTS)).all()


@pytest.mark.parametrize("column", CODES)
def test_every_code_of_the_dictionary_occurs_and_no_other(table: pd.DataFrame, column: str) -> None:
    assert set(table[column]) == CODES[column]


def test_laboratory_values_stay_within_the_limits(table: pd.DataFrame, truth: str) -> None:
    for column, (low, high) in LIMITS[truth].items():
        assert table[column].between(low, high).all(), column


def test_sex_and_ethnicity_are_constant_in_a_patient(table: pd.DataFrame) -> None:
    assert (table.groupby("PatientID")[["Gender", "Ethnic"]].nunique() == 1).all().all()


def test_a_month_has_at_most_one_third_agent(table: pd.DataFrame) -> None:
    not_applied = pd.Series({"Comp. INI": 3, "Comp. NNRTI": 3, "Extra PI": 5})
    assert (table[not_applied.index] != not_applied).sum(axis=1).max() == 1


def test_first_month_of_asian_patients_is_suppressed(table: pd.DataFrame) -> None:
    first = table[(table["Timestep"] == 0) & (table["Ethnic"] == 1)]
    assert len(first) > 0 and (first["VL"] <= 1000).all()


def test_same_arguments_same_table() -> None:
    pd.testing.assert_frame_equal(simulate(50, seed=3), simulate(50, seed=3), check_exact=True)


def test_seeds_and_truths_differ() -> None:
    tables = [simulate(50, seed=3), simulate(50, seed=4), simulate(50, seed=3, truth="euresist")]
    values = [t["VL"].to_numpy() for t in tables]
    assert not (values[0] == values[1]).any() and not (values[0] == values[2]).all()


@pytest.mark.parametrize("n_patients", [1, 7])
def test_small_cohorts(n_patients: int, truth: str) -> None:
    small = simulate(n_patients, seed=5, truth=truth)
    assert len(small) == n_patients * N_MONTHS and not small.isna().any().any()
    assert (targets_table(small, truth)["name"] != "").all()


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_patients": 0},
        {"n_patients": -3},
        {"n_patients": 1, "seed": -1},
        {"n_patients": 1, "truth": "real"},
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object]) -> None:
    last = list(arguments)[-1]
    with pytest.raises(ConfigError, match=f"{last} is "):
        simulate(**arguments)  # type: ignore[arg-type]


def test_targets_table_refuses_another_table() -> None:
    with pytest.raises(ConfigError, match="lacks columns \\['CD4'\\]"):
        targets_table(simulate(1).drop(columns="CD4"))
    with pytest.raises(ConfigError, match="59 rows"):
        targets_table(simulate(1).iloc[:-1])


def test_shares_of_codes(missed: dict[str, float]) -> None:
    # A share of .5 that never changes has a standard error of .009 at 3,000 patients: .03 is over 3 of them.
    shares = {name: miss for name, miss in missed.items() if " = " in name}
    assert len(shares) == 1 + 4 + 6 + 4 + 4 + 6 + 4
    assert {name: miss for name, miss in shares.items() if abs(miss) >= 0.03} == {}


def test_quartiles(table: pd.DataFrame, truth: str) -> None:
    # On the probability scale, because VL near its Q3 is so sparse that a small sample moves it tenfold.
    chosen = TRUTHS[truth]
    for column, scale in (("VL", chosen.vl), ("CD4", chosen.cd4), ("Rel CD4", chosen.rel_cd4)):
        for index in (4, 5, 6):
            share = (table[column] <= scale.values[index]).mean()
            assert share == pytest.approx(PROBS[index], abs=0.03), (column, PROBS[index])


def test_published_means_and_events() -> None:
    missed = by_name(simulate(N_PATIENTS, seed=11), "published", "miss")
    tolerance = {
        "VL mean": 800,  # each about 3 standard errors at 3,000 patients: 270, 20, .6 and .01
        "CD4 mean": 65,
        "Rel CD4 mean": 2,
        "starts with VL > 1000, later <= 1000": 0.03,
        "starts with CD4 < 500, later > 500": 0.03,
        "changes regimen at least once": 0.03,
    }
    assert {name: missed[name] for name, limit in tolerance.items() if abs(missed[name]) >= limit} == {}


def test_shapes_of_the_euresist_laboratory_values() -> None:
    reached = by_name(simulate(N_PATIENTS, seed=11, truth="euresist"), "euresist", "reached")
    assert reached["CD4 mode"] == pytest.approx(550, abs=75)  # three bins of the histogram
    assert reached["Rel CD4 mode"] == pytest.approx(30, abs=3)
    assert reached["CD4 share above 1,500"] < 0.01


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("r(VL (M), CD4 (M))", 0.01),
        ("r(VL, Drug (M))", 0.06),  # a known miss of up to .035 and sampling error
        ("r(Gender, Ethnic)", 0.08),  # 3 standard errors of .018, and a known miss of .026
        ("r(Comp. INI, Comp. NNRTI)", 0.09),  # a known miss of .06: nobody has both
        ("r(Base Drug Combo, Comp. NNRTI)", 0.08),
        ("r(Base Drug Combo, Extra PI)", 0.08),
        ("r(CD4, Rel CD4)", 0.09),  # heavy tails: a few patients carry it
    ],
)
def test_correlations(missed: dict[str, float], name: str, tolerance: float) -> None:
    assert abs(missed[name]) < tolerance


def test_viral_load_and_cd4_move_apart(reached: dict[str, float]) -> None:
    assert 0.75 < reached["VL and CD4 slopes opposite"] < 0.90
    assert -0.20 < reached["r(VL, CD4)"] < -0.03


def test_monthly_spread(reached: dict[str, float]) -> None:
    assert reached["monthly SD log10 CD4"] == pytest.approx(0.11, abs=0.02)
    assert reached["monthly SD log10 VL suppressed"] == pytest.approx(0.02, abs=0.01)
    assert reached["monthly SD log10 VL viraemic"] == pytest.approx(0.19, abs=0.05)


def test_regimens_keep_their_shares_over_time(table: pd.DataFrame) -> None:
    # Switches redraw from the same conditional shares: month 59 is distributed as month 0.
    for column in REGIMEN:
        first, last = (
            table.loc[table["Timestep"] == month, column].value_counts(normalize=True) for month in (0, N_MONTHS - 1)
        )
        assert first.sub(last, fill_value=0).abs().max() < 0.04, column


def test_latent_constants_are_those_of_the_course(truth: str) -> None:
    # 4,000 patients place a quartile of the widest latent (SD about 1.5) to about .03, VL's sparse Q3 to .25.
    measured = latent_quantiles(4000, seed=2, truth=truth)
    for name, quantiles in measured.items():
        latent = np.array(getattr(TRUTHS[truth], name).latent)
        np.testing.assert_allclose(quantiles[3:6], latent[3:6], atol=0.08)
        np.testing.assert_allclose(quantiles[6:9], latent[6:9], atol=0.25)
