"""What an attacker who knows something of a patient takes from the nearest synthetic record."""

import numpy as np
import pytest

from hg3.evaluation.draws import Parts
from hg3.evaluation.panel import Panel, some_patients
from hg3.evaluation.privacy import inference
from hg3.evaluation.privacy.attributes import attributes, first_rows
from hg3.evaluation.privacy.inference import _right, inference_measures
from tests.evaluation.privacy.cases import by_name, cohort, people
from tests.table.cases import make_schema, tiny_columns

SEX, DRUG = tiny_columns()[0], {"name": "drug", "kind": "categorical", "categories": [0, 1, 2]}
CD4 = {"name": "CD4", "kind": "real", "missing": "modelled"}


def panel(sex: list[int], **moving: list[list[float]]) -> Panel:
    """Return patients of two times."""
    schema = make_schema([SEX, *([DRUG] if "drug" in moving else []), *([CD4] if "CD4" in moving else [])], length=2)
    values = {"sex": np.array(sex, float)[:, None], **{name: np.array(v, float) for name, v in moving.items()}}
    return Panel(schema, values, np.ones((len(sex), 2), bool), {"sex": ("F", "M"), "drug": (0, 1, 2)})


def right(panels: Parts[Panel], column: str) -> np.ndarray:
    sensitive = [one for one in attributes(panels) if one.column.name == column]
    return _right(first_rows(panels), sensitive, "train")[0]


def test_of_equally_near_records_any_is_taken() -> None:
    made = panel([0, 0, 0, 1], drug=[[0, 0], [0, 0], [1, 1], [2, 2]])
    train = panel([0, 0, 1, 1], drug=[[0, 0], [1, 1], [1, 1], [2, 2]])
    assert right(Parts(made, train, train), "drug") == pytest.approx([2 / 3, 1 / 3, 0, 1])


def test_the_first_row_is_known_but_for_the_column() -> None:
    made = panel([0, 0], drug=[[0, 0], [1, 1]], CD4=[[100, 100], [900, 900]])
    train = panel([0, 0, 0], drug=[[0, 1], [1, 0], [0, 0]], CD4=[[100, 100], [900, 500], [np.nan, 900]])
    panels = Parts(made, train, train)
    assert right(panels, "drug").tolist() == [1, 0, 0.5]  # most frequent of two alike: the first code
    assert right(panels, "CD4").tolist() == [1, 0, 0]  # by the drug alone: 100, 900, 100


def test_a_cell_without_a_value_is_like_others_without_one() -> None:
    made = panel([0, 0], drug=[[0, 0], [1, 1]], CD4=[[500, 500], [np.nan, 100]])
    train = panel([0, 0], drug=[[0, 0], [1, 1]], CD4=[[100, np.nan], [np.nan, np.nan]])
    panels = Parts(made, train, train)
    assert right(panels, "drug").tolist() == [1, 1]
    assert np.isnan(right(panels, "CD4")).tolist() == [False, True]


def test_only_quasi_identifiers_and_what_moves_are_known() -> None:
    schema = make_schema([*tiny_columns()[:2], DRUG], quasi_identifiers=["sex"], length=1)
    rows, codes = np.ones((2, 1), bool), {"sex": ("F", "M"), "drug": (0, 1, 2)}
    values = {"sex": np.zeros((2, 1)), "height": np.array([[150.0], [190]]), "drug": np.array([[0.0], [1]])}
    both = Panel(schema, values, rows, codes)
    panels = Parts(both, both, both)
    found = by_name(inference_measures(panels)[0])
    assert (found["attribute inference: drug"].score == 0.5).all()  # the height, which tells, is not known
    assert (found["attribute inference: height"].score == 1.0).all()  # the drug is


def test_what_all_patients_tell_is_no_advantage_and_copies_are() -> None:
    others, copies = (by_name(inference_measures(cohort(800, copied))[0]) for copied in (0.0, 0.5))
    assert set(others) == {f"attribute inference: {name}" for name in ("VL", "CD4", "CD4 (M)", "drug", "stage")}
    for name, measured in others.items():
        assert abs(measured.difference()[0]) < 0.05, name
    assert others["attribute inference: drug"].ceiling.mean() > 0.5  # the height tells of the drug
    for name, measured in copies.items():
        assert measured.difference()[1] > 0.02, name
    assert copies["attribute inference: drug"].difference()[0] > 0.1


def test_order_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    panels, order = cohort(60), np.random.default_rng(1).permutation(60)
    found = right(panels, "drug")
    assert found[order] == pytest.approx(right(panels.each(lambda panel: some_patients(panel, order)), "drug"))
    monkeypatch.setattr(inference, "BLOCK", 100)
    assert found == pytest.approx(right(panels, "drug"))


def test_identical_tables_tell_as_much_of_members_as_of_others() -> None:
    one = people(200, 1)
    for name, measured in by_name(inference_measures(Parts(one, one, one))[0]).items():
        np.testing.assert_array_equal(measured.score, measured.ceiling, err_msg=name)
        assert measured.score.mean() > 0.7, name  # each stands beside their own record


def test_a_release_that_is_the_training_tells_of_it() -> None:
    train, holdout = people(200, 1), people(200, 2)
    for name, measured in by_name(inference_measures(Parts(train, train, holdout))[0]).items():
        assert measured.difference()[1] > 0.1, name


def test_nothing_to_infer() -> None:
    panels = Parts(*(people(30, seed, make_schema([SEX])) for seed in range(3)))
    assert inference_measures(panels) == ([], ["No column but quasi-identifiers: there is nothing to infer."])
