"""The nearest of all records, in blocks: as if all distances were there at once."""

from dataclasses import replace

import numpy as np
import pytest

from hg3.evaluation.draws import Parts
from hg3.evaluation.panel import some_patients
from hg3.evaluation.privacy import search
from hg3.evaluation.privacy.distances import distances, points
from hg3.evaluation.privacy.search import near_everybody
from tests.evaluation.privacy.cases import people


@pytest.mark.parametrize("block", [7, 50, 1000])
def test_blocks_find_whom_all_distances_find(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_POINTS", block)
    panels = Parts(people(150, 1), people(60, 2), people(40, 3))
    some = replace(panels, made=some_patients(panels.made, slice(20)))
    whole = points(panels)
    train, holdout = distances(whole.train, whole.made), distances(whole.holdout, whole.made)
    for found in (near_everybody(panels.made, some, points(some)), near_everybody(panels.made, panels, whole)):
        np.testing.assert_allclose(found.made, train.min(axis=0), atol=1e-4)
        np.testing.assert_allclose(found.train, train.min(axis=1), atol=1e-4)
        np.testing.assert_allclose(found.holdout, holdout.min(axis=1), atol=1e-4)
