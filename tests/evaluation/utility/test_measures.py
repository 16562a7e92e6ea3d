"""All of utility at once, and what is said where something is missing."""

import sys

import numpy as np
import pytest

from hg3.errors import MissingLibraryError
from hg3.evaluation.draws import Parts, make_draws
from hg3.evaluation.panel import Panel
from hg3.evaluation.utility import learning
from hg3.evaluation.utility.measures import costly_utility_measures, utility_measures
from tests.evaluation.utility.cases import made, needs, with_schema

PANELS = Parts(made(80, seed=1), made(80, seed=2), made(80, seed=3))
TARGETS = ("death", "illness")
DRAWS = make_draws(Parts(80, 80, 80))


def without(panels: Parts[Panel]) -> Parts[Panel]:
    return panels.each(lambda panel: with_schema(panel, targets=[], reward=[]))


@needs("sklearn")
def test_quick_measures() -> None:
    measures, tables, remarks = utility_measures(PANELS, DRAWS)
    assert {(m.name, m.subject) for m in measures} == {
        *((name, target) for name in ("TSTR AUROC", "TSTR AUPRC", "real and synthetic AUROC") for target in TARGETS),
        ("TSTR MAE", "marker"),
    }
    assert (tables, remarks) == ({}, [])
    assert all(np.isfinite(m.score).all() and m.higher_is_better == (m.name != "TSTR MAE") for m in measures)


@needs("lifelines", "d3rlpy")
def test_costly_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "STEPS", {"policy": 5, "value": 5})
    measures, tables, remarks = costly_utility_measures(PANELS, DRAWS)
    assert [(m.name, m.subject) for m in measures] == [
        *((name, target) for target in TARGETS for name in ("hazard ratios", "hazard ratio intervals")),
        ("policy disagreement", ""),
        ("policy value", ""),
    ]
    assert list(tables) == ["hazard ratios", "policies"]
    assert set(tables["hazard ratios"]["target"]) == {"illness"}
    assert remarks == ["death: no hazard ratios, because its outcome is known for a patient, not for a time."]


@needs("sklearn")
def test_a_schema_without_targets() -> None:
    measures, tables, remarks = utility_measures(without(PANELS), DRAWS)
    assert [m.name for m in measures] == ["TSTR MAE"] and tables == {}
    assert remarks == ["The schema names no [[targets]], so no outcome is predicted from the records."]
    assert costly_utility_measures(without(PANELS), DRAWS) == (
        [],
        {},
        ["No policies are learned: the schema has no [[reward]]."],
    )


@pytest.mark.parametrize(
    ("library", "package", "measures"),
    [
        ("sklearn", "scikit-learn", utility_measures),
        ("lifelines", "lifelines", costly_utility_measures),
        pytest.param("d3rlpy", "d3rlpy", costly_utility_measures, marks=needs("lifelines")),
    ],
)
def test_a_library_that_is_not_installed(library: str, package: str, measures, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibraryError, match=f"^{package} is not installed"):
        measures(PANELS, DRAWS)
