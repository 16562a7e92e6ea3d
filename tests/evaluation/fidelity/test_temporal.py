"""Measures over time, on pairs and of trends: against loops, and what they must and must not see."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from hg3.evaluation.draws import Draws, Measured, Parts
from hg3.evaluation.fidelity.pairs import pair_measures
from hg3.evaluation.fidelity.temporal import dwell_times, temporal_measures
from hg3.evaluation.fidelity.trends import slopes_of, trend_measures
from hg3.evaluation.panel import Panel, rows_first
from hg3.evaluation.summaries import total_variation
from tests.evaluation.cases import SCHEMA, everybody, panel, scores, shuffled_months, walks
from tests.table.cases import make_table

MEASURES = [temporal_measures, pair_measures, trend_measures]
Measures = Callable[[Parts[Panel], Draws], list[Measured]]


@pytest.mark.parametrize("measures", MEASURES)
def test_the_same_patients_in_any_order_are_at_no_distance(measures: Measures) -> None:
    table = walks(60)
    renamed = table.assign(id=table["id"].map(lambda number: 900 - number)).sort_values(["id", "month"])
    for made in (table, renamed.reset_index(drop=True)):
        found = scores(measures, panel(made), panel(table))
        assert np.nanmax([*found.values()]) == pytest.approx(0.0, abs=1e-9)
        assert np.isfinite([*found.values()]).mean() > 0.9


def test_shuffled_months_are_seen_over_time_and_not_on_rows() -> None:
    table = walks(200)
    table = table[table["id"] % 2 == 0].reset_index(drop=True).assign(VL=100.0)  # whole records
    made, real = panel(shuffled_months(table)), panel(table)
    on_rows = scores(pair_measures, made, real)
    assert np.nanmax([*on_rows.values()]) == pytest.approx(0.0, abs=1e-9)  # VL, a constant, goes with nothing
    over_time = scores(temporal_measures, made, real)
    for name in ("row-to-row difference: CD4", "transitions: drug", "dwell times: drug", "change rate: drug"):
        assert over_time[name] > 0.05, name
    assert over_time["record length: "] == over_time["gap share: "] == 0.0


def test_a_memory_that_is_lost_is_the_error_of_autocorrelation() -> None:
    table = walks(300)
    mixed = table.assign(CD4=np.random.default_rng(0).permutation(table["CD4"]))
    found = scores(temporal_measures, panel(mixed), panel(table))
    assert found["autocorrelation, lag 1: CD4"] > 0.7 and found["autocorrelation, lag 5: CD4"] > 0.4
    assert "autocorrelation, lag 6: CD4" not in found  # a grid of 6 times has 5 lags
    assert found["autocorrelation, lag 1: VL"] == pytest.approx(0.0)


def rows_of(table: pd.DataFrame, name: str) -> list[list[int]]:
    return [rows.sort_values("month")[name].tolist() for _, rows in table.groupby("id")]


def test_transitions_are_counted_between_consecutive_rows() -> None:
    made, real = make_table(40, seed=1), make_table(50, seed=2)

    def table_of(rows: list[list[int]]) -> np.ndarray:
        out, codes = np.zeros((3, 3)), {-1: 0, 0: 1, 3: 2}
        for record in rows:
            for one, other in pairwise(record):
                out[codes[one], codes[other]] += 1
        return out

    counts, held = (table_of(rows_of(table, "drug")) for table in (made, real))
    expected = sum(
        held[k].sum() / held.sum() * 0.5 * np.abs(counts[k] / counts[k].sum() - held[k] / held[k].sum()).sum()
        for k in range(3)
    )
    assert scores(temporal_measures, panel(made), panel(real))["transitions: drug"] == pytest.approx(expected)


def test_dwell_times_are_runs_of_rows() -> None:
    table = make_table(2).assign(sex="F", height=170.0)
    stay = table[table["id"] == 100].assign(drug=[0, 0, 3, 3, 3, -1])  # two, three, one
    moved = stay.assign(drug=[0, 0, 0, 3, 3, -1])  # three, two, one
    panels = Parts(*(rows_first(panel(part)) for part in (moved, stay, stay)))
    found = dwell_times(panels, SCHEMA.by_name["drug"], everybody(panels))
    assert found.score[0] == pytest.approx(2 / 3) and found.ceiling[0] == 0.0


def test_what_is_missing_has_transitions_of_its_own() -> None:
    table = walks(100).assign(VL=100.0)
    gone = table.assign(VL=np.where(table["month"] % 2 == 0, 100.0, np.nan))
    found = scores(temporal_measures, panel(gone), panel(table))
    assert found["mask transitions: VL"] > 0.8  # but for the rows on both sides of a gap
    assert found["mask transitions: CD4"] == 0.0  # masked by its indicator as before


def test_rows_first_closes_gaps() -> None:
    part = rows_first(panel(make_table(8)))
    assert (np.diff(part.has_row.astype(int), axis=1) <= 0).all()
    table = make_table(8)
    assert part.row_values(SCHEMA.by_name["drug"])[1, :2].tolist() == [
        [-1, 0, 3].index(code) for code in table[table["id"] == 101]["drug"].head(2)
    ]


def test_a_subgroup_that_is_dropped_is_seen_in_joint_tables() -> None:
    table = walks(200)
    table = table.assign(stage=np.where(table["sex"] == "F", "mild", table["stage"]))
    without = table[(table["sex"] == "M")].reset_index(drop=True)
    found = scores(pair_measures, panel(without), panel(table))
    assert found["joint table: sex, drug"] > 0.4 and found["association: sex, stage"] > 0.2


def test_slopes_are_those_of_least_squares() -> None:
    table = walks(30)
    part, column = panel(table), SCHEMA.by_name["CD4"]
    values, spread = part.row_values(column), np.nanstd(part.row_values(column))
    for patient, slope in enumerate(slopes_of(part, column)):
        here = ~np.isnan(values[patient])
        if here.sum() < 3:
            assert np.isnan(slope)
        else:
            expected = np.polyfit(np.flatnonzero(here), values[patient, here], 1)[0] / spread
            assert slope == pytest.approx(expected, abs=1e-9)


def test_slopes_that_part_ways_are_seen() -> None:
    months = np.tile(np.arange(6), 100)
    ids, sign = np.repeat(np.arange(100), 6), np.repeat(np.random.default_rng(1).choice([-1, 1], 100), 6)
    base = make_table(2).iloc[:1].drop(columns=["id", "month"])
    table = pd.concat([base] * 600, ignore_index=True).assign(id=ids, month=months, height=170.0)
    table["CD4 (M)"], table["CD4"] = 1, 500 + 10.0 * sign * months
    together, apart = (table.assign(VL=300 + factor * sign * months) for factor in (5.0, -5.0))
    found = scores(trend_measures, panel(apart), panel(together))
    assert found["slope signs: VL, CD4"] == pytest.approx(1.0)
    assert found["slopes: VL, CD4"] == pytest.approx(2.0)
    assert np.isnan(found["slope signs: VL, CD4 (M)"])  # a constant has no slope to agree with


def test_what_a_release_does_not_define_is_wrong_and_never_perfect() -> None:
    """Constants have no slopes and go with nothing; records of one row have no steps."""
    table = walks(80)
    flat, single = table.assign(CD4=500.0, drug=0, stage="mild"), table.groupby("id").head(1)
    found = scores(trend_measures, panel(flat), panel(table)) | scores(pair_measures, panel(flat), panel(table))
    for name in ("slope signs: VL, CD4", "slopes: VL, CD4", "association: VL, CD4", "association: drug, stage"):
        assert found[name] == 1.0, name
    assert found["association: CD4, drug" if "association: CD4, drug" in found else "association: drug, CD4"] == 1.0
    one_row = panel(single.assign(month=0).reset_index(drop=True))
    found = scores(temporal_measures, one_row, panel(table))
    assert found["change rate: drug"] == found["autocorrelation, lag 1: CD4"] == 1.0
    back = scores(temporal_measures, panel(table), one_row)
    assert np.isnan(back["change rate: drug"]) and np.isnan(back["autocorrelation, lag 1: CD4"])


def test_nothing_to_measure_is_no_distance() -> None:
    assert total_variation(np.zeros((2, 3)), np.zeros((2, 3))).tolist() == [0.0, 0.0]
