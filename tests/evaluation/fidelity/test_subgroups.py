"""Which subgroups a release has, on patients who are counted by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from hg3.evaluation.draws import Measured, Parts, make_draws
from hg3.evaluation.fidelity.health_gym import health_gym_measures
from hg3.evaluation.fidelity.subgroups import subgroup_measures, wanted_subgroups
from hg3.evaluation.gates import judge, load_gates
from hg3.evaluation.panel import Panel
from hg3.evaluation.report.words import sentence
from tests.evaluation.cases import panel
from tests.table.cases import make_schema

COLUMNS: list[dict[str, Any]] = [
    {"name": "sex", "kind": "binary", "static": True, "categories": ["F", "M"], "labels": ["female", "male"]},
    {"name": "site", "kind": "categorical", "static": True, "categories": [1, 2, 3], "missing": "modelled"},
    {"name": "CD4", "kind": "real"},
]
Counts = dict[tuple[str, float], int]
REAL: Counts = {("F", 1): 100, ("M", 1): 200, ("M", 2): 155, ("M", 3): 9, ("F", 2): 12, ("F", np.nan): 24}


def grouped(counts: Counts, times: int = 1, **table: Any) -> Panel:
    """Return so many patients of each sex and site, with one row each."""
    groups = [group for group, n in counts.items() for _ in range(times * n)]
    frame = pd.DataFrame(groups, columns=["sex", "site"])
    return panel(frame.assign(id=range(len(frame)), month=0, CD4=500.0), make_schema(COLUMNS, **table))


def without(*groups: tuple[str, float]) -> Counts:
    return {group: n for group, n in REAL.items() if group not in groups}


def coverage(made: Panel) -> Measured:
    real = grouped(REAL)
    ((found,), _, remarks) = subgroup_measures(Parts(made, real, real), make_draws(Parts(1, 1, 1)))
    assert remarks == [] and found.higher_is_better
    return found


def test_identical_tables_have_every_subgroup() -> None:
    assert (coverage(grouped(REAL)).score == 1.0).all()
    assert (coverage(grouped(REAL)).ceiling == 1.0).all()  # of 500, 12 is the smallest of all


def test_subgroups_of_ten_real_patients_count_and_no_value_is_one() -> None:
    real = grouped(REAL)
    few = grouped({group: n // 2 for group, n in REAL.items()})
    found = wanted_subgroups(Parts(grouped(REAL), few, few))
    assert sorted(found.real) == [12, 24, 100, 154, 200]  # 8 of the third site are no subgroup, and no one is missing
    assert found.made.tolist() == [100, 12, 24, 200, 155]
    assert len(wanted_subgroups(Parts(grouped(REAL, times=2), real, real)).cell) == 6  # 18 of both parts are


@pytest.mark.parametrize("group", [("F", 2), ("F", np.nan), ("M", 2)])
def test_a_subgroup_that_is_dropped_fails_coverage_however_small_it_is(group: tuple[str, float]) -> None:
    """The smallest are 2.4% of patients, less than the margin of a total variation."""
    real, made = grouped(REAL), grouped({key: n for key, n in REAL.items() if repr(key) != repr(group)}, times=2)
    panels = Parts(made, real, real)
    draws = make_draws(panels.each(lambda part: part.n_patients))
    measures = [*subgroup_measures(panels, draws)[0], *health_gym_measures(panels, draws)]
    verdicts = {verdict.gate.name: verdict for verdict in judge(load_gates(), measures)}
    assert verdicts["no subgroup lost"].state == "missed"
    assert verdicts["no subgroup lost"].score == pytest.approx(5 / 6)
    assert group != ("F", 2) or verdicts["shares of subgroups"].passed
    told = sentence(measures[0], panels)
    assert told.startswith("1 of 6 subgroups is not in the release, the largest ") and told.count(" · ") == 1


def test_the_largest_subgroup_that_is_lost_is_named() -> None:
    real = grouped(REAL)
    panels = Parts(grouped(without(("M", 2), ("F", 2)), times=3), real, real)
    ((found,), _, _) = subgroup_measures(panels, make_draws(Parts(1, 1, 1)))
    assert sentence(found, panels) == (
        "2 of 6 subgroups are not in the release, the largest male · 2: 31% of real patients, against none of the "
        "synthetic ones."
    )


def test_a_patient_in_a_large_release_is_found() -> None:
    """In 50 draws of 250 of 50,000 it would mostly not be."""
    made = grouped(without(("F", 2)), times=100)
    sites = made.values["site"].copy()
    sites[0] = 1.0  # a woman of the first site, of the second now
    found = coverage(Panel(made.schema, {**made.values, "site": sites}, made.has_row, made.categories))
    assert (found.score == 1.0).all()


def test_what_chance_alone_decides_is_left_out_of_a_small_release() -> None:
    small = {group: n // 10 for group, n in REAL.items()}
    real = grouped(REAL)
    found = wanted_subgroups(Parts(grouped(small), real, real))
    assert sorted(found.real) == [310, 400]  # 15 and 19 of a release of 48
    few = Parts(grouped({("M", 1): 12}), real, real)
    ((measured,), _, remarks) = subgroup_measures(few, make_draws(Parts(1, 1, 1)))
    assert np.isnan(measured.score).all()
    assert len(remarks) == 1 and remarks[0].startswith("No subgroup is looked for: that takes 10 real patients")


def test_a_schema_without_subgroups_has_no_coverage() -> None:
    alone = grouped(REAL, subgroups=[])
    assert subgroup_measures(Parts(alone, alone, alone), make_draws(Parts(1, 1, 1))) == ([], {}, [])
