"""What few patients stand behind is not told by what is told of the others."""

import numpy as np
import pytest

from hg3.evaluation.report.marginals import _shares
from hg3.evaluation.report.patients import missing_share
from tests.evaluation.cases import SCHEMA, panel
from tests.table.cases import make_table

TABLE = make_table(120)
HEIGHT = SCHEMA.by_name["height"]
FEW = TABLE["id"] < 103  # three patients


def test_the_other_code_does_not_tell_how_many_have_the_rare_one() -> None:
    part = panel(TABLE.assign(sex=np.where(FEW, "F", "M")))
    assert _shares(part, SCHEMA.by_name["sex"], 2).tolist() == [0.0, 1.0]
    many = panel(TABLE.assign(sex=np.where(TABLE["id"] < 112, "F", "M")))
    assert _shares(many, SCHEMA.by_name["sex"], 2).tolist() == pytest.approx([0.1, 0.9])


def test_few_patients_without_a_value_are_none() -> None:
    assert missing_share(panel(TABLE.assign(height=np.where(FEW, np.nan, 170.0))), HEIGHT) == 0.0
    assert missing_share(panel(TABLE), HEIGHT) == pytest.approx(0.2)
