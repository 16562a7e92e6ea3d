"""Our measures beside those of SDMetrics, which are 1 at best where ours are 0, on one draw of everybody."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hg3.evaluation.draws import Parts, measure
from hg3.evaluation.features import summary
from hg3.evaluation.fidelity.health_gym import health_gym_measures
from hg3.evaluation.fidelity.pairs import pair_measures
from hg3.evaluation.fidelity.temporal import temporal_measures
from hg3.evaluation.panel import Panel
from hg3.evaluation.summaries import events_at, kolmogorov_smirnov, ranked, total_variation
from tests.evaluation.cases import SCHEMA, everybody, panel, scores, walks
from tests.table.cases import make_table

sdmetrics = pytest.importorskip("sdmetrics")
from sdmetrics import column_pairs, single_column  # noqa: E402  after the check that it is there


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A release and real patients, far from one another; where the indicator is 0, CD4 has no value."""
    made, real = make_table(60, seed=1), walks(80, seed=2)
    return tuple(table.assign(CD4=table["CD4"].where(table["CD4 (M)"] == 1)) for table in (made, real))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def panels(tables: tuple[pd.DataFrame, pd.DataFrame]) -> tuple[Panel, Panel]:
    made, real = (panel(table) for table in tables)
    return made, real


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """SDMetrics warns of constant columns, few rows and of what pandas will change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def error(metric: Any, tables: tuple[pd.DataFrame, pd.DataFrame], *names: str, **options: Any) -> float:
    """Return 1 minus SDMetrics' score of a column, or of a pair."""
    made, real = (table[list(names)] if len(names) > 1 else table[names[0]] for table in tables)
    return 1.0 - float(metric.compute(real, made, **options))


def sequences_error(metric: Any, tables: tuple[pd.DataFrame, pd.DataFrame], name: str, **options: Any) -> float:
    made, real = ((table["id"], table[name]) for table in tables)
    return 1.0 - float(metric.compute(real, made, **options))


def test_ks_of_rows_is_that_of_kscomplement(
    tables: tuple[pd.DataFrame, pd.DataFrame], panels: tuple[Panel, Panel]
) -> None:
    parts = Parts(panels[0], panels[1], panels[1])
    for name in ("VL", "CD4"):
        rows = ranked(parts.each(lambda part: part.row_values(SCHEMA.by_name[name])))  # noqa: B023  called at once
        found = measure("KS", name, rows, everybody(parts), kolmogorov_smirnov)
        assert (
            found.score[0] == pytest.approx(error(single_column.KSComplement, tables, name)) and found.score[0] > 0.02
        )


def test_tv_of_rows_is_that_of_tvcomplement(
    tables: tuple[pd.DataFrame, pd.DataFrame], panels: tuple[Panel, Panel]
) -> None:
    parts = Parts(panels[0], panels[1], panels[1])
    for name in ("drug", "stage"):

        def of_codes(part: Panel, name: str = name) -> Any:
            codes = part.row_values(SCHEMA.by_name[name])
            return events_at(~np.isnan(codes), codes, (3,))

        found = measure("TV", name, parts.each(of_codes), everybody(parts), total_variation)
        assert (
            found.score[0] == pytest.approx(error(single_column.TVComplement, tables, name)) and found.score[0] > 0.02
        )


def test_two_reals_are_twice_correlationsimilarity(
    tables: tuple[pd.DataFrame, pd.DataFrame], panels: tuple[Panel, Panel]
) -> None:
    """Theirs is half the difference of the correlations, so that it lies between 0 and 1; ours is the difference.

    Pearson's agrees with our static correlation of the Health Gym line. Spearman's agrees where a table is compared
    with one of as many tied values; ours ranks both tables on the scale of real patients, and theirs each on its own,
    which a change of shape between them does not move. The two then differ by little, and on purpose.
    """
    correlation = column_pairs.CorrelationSimilarity
    gym, pairs = (scores(measures, *panels) for measures in (health_gym_measures, pair_measures))
    pearson = 2 * error(correlation, tables, "VL", "CD4", coefficient="Pearson")
    assert gym["Health Gym static correlation: VL, CD4"] == pytest.approx(pearson, abs=1e-9)
    spearman = 2 * error(correlation, tables, "VL", "CD4", coefficient="Spearman")
    assert pairs["association: VL, CD4"] == pytest.approx(spearman, abs=0.03)


def test_joint_tables_are_contingencysimilarity(
    tables: tuple[pd.DataFrame, pd.DataFrame], panels: tuple[Panel, Panel]
) -> None:
    found = scores(pair_measures, *panels)
    for one, other in (("drug", "stage"), ("sex", "drug"), ("CD4 (M)", "stage")):
        expected = error(column_pairs.ContingencySimilarity, tables, one, other)
        assert found[f"joint table: {one}, {other}"] == pytest.approx(expected), (one, other)


def test_row_to_row_differences_are_interrowmsas(
    tables: tuple[pd.DataFrame, pd.DataFrame], panels: tuple[Panel, Panel]
) -> None:
    """Of version 0.25 and later, which compares the differences themselves; earlier ones averaged those of a record,
    which is last minus first, whatever lies between."""
    found = scores(temporal_measures, *panels)
    for name in ("VL", "CD4"):
        expected = sequences_error(column_pairs.InterRowMSAS, tables, name)
        assert found[f"row-to-row difference: {name}"] == pytest.approx(expected), name


@pytest.mark.parametrize(
    ("ours", "theirs"), [("mean", "mean"), ("lowest", "min"), ("highest", "max"), ("deviation", "std")]
)
def test_what_a_record_adds_up_to_is_statisticmsas(
    ours: str, theirs: str, tables: tuple[pd.DataFrame, pd.DataFrame], panels: tuple[Panel, Panel]
) -> None:
    """Their deviation divides by n - 1, and a single value has none; ours divides by n, and a single value's is 0: a
    learner is told beside it how many values there are."""
    for name in ("VL", "CD4"):
        found = []
        for table, part in zip(tables, panels, strict=True):
            features = summary(part)
            values = features.values[:, features.names.index(f"{name}: {ours}")]
            if ours == "deviation":
                n = table.groupby("id")[name].count().to_numpy()
                values = np.where(n > 1, values * np.sqrt(n / np.maximum(n - 1, 1)), np.nan)
            found.append(np.round(values, 9)[:, None])  # ties as theirs, whatever the order of a sum
        parts = Parts(found[0], found[1], found[1])
        distance = measure(
            "", name, ranked(parts), parts.each(lambda part: np.ones((1, len(part)))), kolmogorov_smirnov
        )
        expected = sequences_error(column_pairs.StatisticMSAS, tables, name, statistic=theirs)
        assert distance.score[0] == pytest.approx(expected) and expected > 0.05, name


def test_a_static_column_counts_once_a_patient_and_not_once_a_row() -> None:
    """Theirs is over rows, in which a patient with a long record counts more; our distribution of a subgroup is not."""
    table = make_table(2).assign(height=170.0, sex=lambda t: np.where(t["id"] == 100, "F", "M"))
    short = table[(table["id"] == 100) | (table["month"] < 1)].reset_index(drop=True)
    found = scores(health_gym_measures, panel(short), panel(table))["mode collapse: "]
    by_rows = error(single_column.TVComplement, (short, table), "sex")
    assert found == 0.0 and by_rows > 0.1
