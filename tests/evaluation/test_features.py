"""Patients as numbers: each of them for itself, and where a column's numbers stand."""

import numpy as np

from hg3.evaluation.draws import Parts
from hg3.evaluation.features import encode, places, summary
from tests.evaluation.cases import panel, walks


def test_a_record_adds_up_to_the_same_among_any_others() -> None:
    """Otherwise a learner could tell two parts by how the others of each part are."""
    table = walks(40)
    some = table[table["id"] < 112].reset_index(drop=True)
    whole, part = summary(panel(table)), summary(panel(some))
    assert whole.names == part.names
    np.testing.assert_allclose(part.values, whole.values[:12], rtol=1e-9)


def test_places_are_those_of_the_numbers() -> None:
    part = panel(walks(30))
    moving = encode(Parts(part, part, part)).holdout.moving
    where = places(part)
    assert list(where) == ["VL", "CD4", "CD4 (M)", "drug", "stage"]
    assert where["stage"].stop == moving.shape[2] - 1  # and whether there is a row
    for name, width in (("VL", 2), ("CD4", 2), ("CD4 (M)", 2), ("drug", 3), ("stage", 3)):
        assert moving[..., where[name]].shape[2] == width
    np.testing.assert_array_equal(
        moving[..., where["drug"]].argmax(axis=2)[part.has_row], part.values["drug"][part.has_row]
    )
