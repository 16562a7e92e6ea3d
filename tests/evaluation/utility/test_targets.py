"""Who has an outcome, and that a prediction of it sees nothing that comes later."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hg3.evaluation.panel import Panel, panel_of
from hg3.evaluation.utility.targets import features, labels
from hg3.table.checks import checked_cohort
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.schema import load_schema
from tests.evaluation.cases import panel
from tests.evaluation.utility.cases import SCHEMA, made
from tests.table.cases import make_schema
from tests.table.test_real_tables import cohort_of

NONE = None
MONTHLY: dict[str, Any] = {"name": "t", "column": "x", "below": 0.0, "observe": 2}
COLUMNS: list[dict[str, Any]] = [
    {"name": "x", "kind": "real", "missing": "modelled"},
    {"name": "end", "kind": "categorical", "categories": ["dead", "alive", "moved"], "static": True},
    {"name": "known", "kind": "binary", "static": True, "indicates": "end"},
]


def records(*of_patients: Sequence[float | None], target: dict[str, Any], end: str = "dead") -> Panel:
    """Return a panel with the values of x of each patient, a row for each."""
    rows = [(k, month, x, end, 1) for k, record in enumerate(of_patients) for month, x in enumerate(record)]
    table = pd.DataFrame(rows, columns=["id", "month", "x", "end", "known"])
    return panel(table, make_schema(COLUMNS, targets=[target]))


LABELS = [
    ([1, 1, 1, -1, 1, 1], {}, 1.0),
    ([1, 1, 1, 0, 1, 1], {}, 1.0),
    ([1, 1, 1, 1, 1, 1], {}, 0.0),
    ([1, -1, 1, -1, 1, 1], {}, np.nan),  # it has happened before
    ([1, 1], {}, np.nan),  # nothing is known of the time after
    ([1, 1, NONE, NONE], {}, np.nan),
    ([1, 1, NONE, 1], {}, 0.0),
    ([1, 1, 1, 1, -1, 1], {"until": 4}, 0.0),  # it happens too late to count
    ([1, 1, 1, -1, 1, 1], {"until": 4}, 1.0),
    ([1, 1, 1], {"until": 4}, np.nan),  # the record ends before
    ([1, 1, -1], {"until": 4}, 1.0),
    ([NONE, NONE, -1], {}, 1.0),
    ([1, 1, 1, 5], {"below": None, "above": 5.0}, 1.0),
    ([1, 1, 1, 4.9], {"below": None, "above": 5.0}, 0.0),
]


@pytest.mark.parametrize(("record", "changes", "label"), LABELS)
def test_an_outcome_over_time(record: list[float | None], changes: dict[str, Any], label: float) -> None:
    one = records(record, [1, 1, 1, 1, 1, 1], target={**MONTHLY, **changes})
    np.testing.assert_array_equal(labels(one, one.schema.targets[0])[0], label)


@pytest.mark.parametrize(
    ("end", "record", "observe", "label"),
    [
        ("dead", [1, 1, 1], 2, 1.0),
        ("moved", [1, 1, 1], 2, 1.0),
        ("alive", [1, 1, 1], 2, 0.0),
        ("dead", [1, 1], 2, np.nan),  # a record this short tells who died
        ("dead", [1, 1], 6, 1.0),  # the window is the whole grid
    ],
)
def test_an_outcome_of_a_patient(end: str, record: list[float], observe: int, label: float) -> None:
    target = {"name": "t", "column": "end", "codes": ["dead", "moved"], "observe": observe}
    one = records(record, target=target, end=end)
    np.testing.assert_array_equal(labels(one, one.schema.targets[0]), [label])


def test_a_prediction_sees_nothing_later() -> None:
    """Whatever comes after the window, and what tells the outcome, may be anything."""
    one = made(40, seed=0)
    other = made(40, seed=1)
    for target in SCHEMA.targets:
        later = np.arange(one.has_row.shape[1]) >= target.observe
        told = {*target.hide, target.column} if SCHEMA.by_name[target.column].static else set(target.hide)
        values = {
            name: np.where(later, other.values[name], value) if value.shape[1] > 1 else value
            for name, value in one.values.items()
        }
        values |= {name: other.values[name] for name in told}
        has_row = one.has_row & ~(later & (np.arange(40) % 2 == 0)[:, None])
        changed = replace(one, values=values, has_row=has_row)
        assert any((changed.values[name] != one.values[name]).any() for name in values)
        np.testing.assert_array_equal(features(changed, target).values, features(one, target).values)


def test_what_tells_the_outcome_is_no_feature() -> None:
    for target in SCHEMA.targets:
        seen = {name.split(":")[0] for name in features(made(10, seed=0), target).names}
        assert not seen & {"died", "years"} and {"marker", "group", "drug"} <= seen
    assert "ill: last" in features(made(10, seed=0), SCHEMA.targets[1]).names  # its past may be seen
    static = {"name": "t", "column": "end", "codes": ["dead"], "observe": 2}
    one = records([1, 1, 1], target=static)
    assert not {"end", "known"} & set(features(one, one.schema.targets[0]).names)


def test_the_shipped_target_is_neither_rare_nor_common() -> None:
    schema = load_schema("art-hiv-v2")
    label = labels(panel_of(checked_cohort(simulate(1000, seed=5), schema)[0]), schema.targets[0])
    assert 0.3 < np.nanmean(label) < 0.45 and (~np.isnan(label)).sum() > 400


@pytest.mark.parametrize(
    ("file", "known", "happened"),
    [("icu_48h.csv.gz", [4000], [554]), ("pbc2.csv", [254], [132]), ("renal_monthly.csv.gz", [406, 387], [125, 108])],
)
def test_targets_of_real_tables(file: str, known: list[int], happened: list[int]) -> None:
    one = panel_of(cohort_of(file)[0])
    found = [labels(one, target) for target in one.schema.targets]
    assert [int((~np.isnan(label)).sum()) for label in found] == known
    assert [int(np.nansum(label)) for label in found] == happened
