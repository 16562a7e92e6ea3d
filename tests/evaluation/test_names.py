"""The names that a gate may give are those of the measures that there are."""

import pytest

from hg3.evaluation import learners, recurrent
from hg3.evaluation.draws import Parts
from hg3.evaluation.evaluate import COSTLY_STEPS, evaluate
from hg3.evaluation.gates import Gates, load_gates
from hg3.evaluation.names import KNOWN
from hg3.evaluation.panel import Panel
from hg3.evaluation.utility import learning
from hg3.table.schema import Target
from tests.evaluation.cases import panel as panel_of
from tests.evaluation.cases import walks
from tests.evaluation.utility.cases import needs
from tests.table.cases import make_schema, tiny_columns

LONG = 14  # times: lags to 12


def everything(seed: int) -> Panel:
    """Return patients of a schema that has every measure there is."""
    table = walks(40, seed)
    schema = make_schema(
        tiny_columns(),
        length=LONG,
        targets=[{"name": "ill", "column": "stage", "codes": ["NA"], "observe": 1}],
        reward=[{"column": "CD4", "weight": 1.0}],
    )
    assert isinstance(schema.targets[0], Target)
    table.loc[(table.index % 40 == 0), "drug"] = 3
    table["drug"] = table["drug"].where((table["drug"] != 3) | (table.index % 40 == 0), 0)  # a rare code
    return panel_of(table, schema)


@pytest.mark.slow
@needs("sklearn", "lifelines", "d3rlpy")
def test_every_measure_has_a_name_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name, value in (
        (recurrent, "EPOCHS", 1),
        (recurrent, "PREDICTING_EPOCHS", 1),
        (learners, "TREES", 2),
        (learners, "FOLDS", 2),
        (learning, "STEPS", {"policy": 5, "value": 5}),
    ):
        monkeypatch.setattr(place, name, value)
    panels = Parts(*(everything(seed) for seed in (1, 2, 3)))
    found = evaluate(panels, Gates(gates=load_gates().gates), utility=True)
    names = {measured.name for section in found.sections for measured in section.measures}
    assert {section.name for section in found.sections} >= {step.name for step in COSTLY_STEPS}
    assert names == {*KNOWN} - {"patients rejected"}  # which the manifest of a release tells
    assert len(KNOWN) == len({*KNOWN})
