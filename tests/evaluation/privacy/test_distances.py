"""Distances between records, against a plain loop over columns and times."""

from dataclasses import replace

import numpy as np
import pytest

from hg3.evaluation.draws import Parts
from hg3.evaluation.panel import Panel, scored, some_patients
from hg3.evaluation.privacy import distances as module
from hg3.evaluation.privacy.distances import distances, nearest, points
from hg3.table.column import Column
from tests.evaluation.privacy.cases import cohort, people
from tests.table.cases import make_schema, tiny_columns


def plain(panels: Parts[Panel]) -> np.ndarray:
    """Return the distances of synthetic to training records, cell by cell."""
    made, train = panels.made, panels.train
    cells = {column.name: numbers(panels, column) for column in made.schema.columns}
    found = np.zeros((made.n_patients, train.n_patients))
    for i in range(made.n_patients):
        for j in range(train.n_patients):
            times = max(made.lengths[i], train.lengths[j])
            for column in made.schema.columns:
                one, other = cells[column.name].made[i], cells[column.name].train[j]
                if column.static:
                    found[i, j] += cell(np.nanmax(one), np.nanmax(other), column.is_real)
                else:
                    found[i, j] += sum(cell(a, b, column.is_real) for a, b in zip(one, other, strict=True)) / times
    return found / len(made.schema.columns)


def numbers(panels: Parts[Panel], column: Column) -> Parts[np.ndarray]:
    return scored(panels, column) if column.is_real else panels.each(lambda panel: panel.row_values(column))


def cell(one: float, other: float, is_real: bool) -> float:
    if np.isnan(one) and np.isnan(other):
        return 0.0
    if np.isnan(one) or np.isnan(other):
        return 0.5 + 2 * (np.nansum([one, other]) - 0.5) ** 2 if is_real else 1.0
    return 2 * (one - other) ** 2 if is_real else float(one != other)


@pytest.mark.filterwarnings("ignore:All-NaN")
@pytest.mark.parametrize("block", [1, 100, 2**21])
def test_distance_is_that_of_a_plain_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    panels = Parts(people(11, 1), people(30, 2), people(20, 3))
    space, expected = points(panels), plain(panels)
    assert distances(space.made, space.train) == pytest.approx(expected, abs=1e-4)
    assert nearest(space.made, space.train)[:, 0] == pytest.approx(expected.min(axis=1), abs=1e-4)
    assert np.sort(nearest(space.made, space.train, 5), axis=1) == pytest.approx(
        np.sort(expected, axis=1)[:, :5], abs=1e-4
    )


def test_every_column_weighs_the_same() -> None:
    columns = [*tiny_columns()[:1], {"name": "drug", "kind": "categorical", "categories": [0, 1, 2]}]
    schema = make_schema(columns)
    rows = np.arange(6) < np.array([[6], [6], [6], [3]])
    drug = np.where(rows, [[0] * 6, [0] * 6, [1] * 6, [0] * 6], np.nan)
    sex = np.array([[0.0], [1.0], [0.0], [0.0]])
    panel = Panel(schema, {"sex": sex, "drug": drug}, rows, {"sex": ("F", "M"), "drug": (0, 1, 2)})
    apart = distances(*2 * [points(Parts(panel, panel, panel)).made])
    other_sex, other_drug, half_as_long = apart[0, 1:]
    assert other_sex == other_drug == 0.5
    assert half_as_long == 0.25  # one of two columns is half absent


def test_a_copy_lies_at_zero_and_ties_are_ties() -> None:
    panels = cohort(300).each(lambda panel: ten_times_as_long(panel))
    space = points(replace(panels, made=some_patients(panels.train, slice(0, 50))))
    assert (nearest(space.made, space.train) == 0).all()
    codes = make_schema([c for c in tiny_columns() if c["kind"] != "real" and not c.get("masks")], length=60)
    alike = Parts(*(ten_times_as_long(people(200, seed, codes)) for seed in range(3)))
    space = points(alike)
    there, back = distances(space.train, space.holdout), distances(space.holdout, space.train)
    assert (there == back.T).all()
    differing = there * 3 * np.maximum(alike.train.lengths[:, None], alike.holdout.lengths)
    assert differing == pytest.approx(np.rint(differing), abs=1e-3)  # codes that differ, whole numbers


def ten_times_as_long(panel: Panel) -> Panel:
    """Return records that repeat themselves ten times."""
    values = {n: v if v.shape[1] == 1 else np.tile(v, 10) for n, v in panel.values.items()}
    return replace(panel, values=values, has_row=np.tile(panel.has_row, 10))


def test_order_of_patients_changes_nothing() -> None:
    panels, order = cohort(60), np.random.default_rng(1).permutation(60)
    space, turned = points(panels), points(panels.each(lambda panel: some_patients(panel, order)))
    assert (nearest(space.train, space.made)[order] == nearest(turned.train, turned.made)).all()
