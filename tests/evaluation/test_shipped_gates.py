"""The gates that come with hg3 let good releases pass and notice bad ones."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hg3.evaluation.draws import Measured, Parts, make_draws
from hg3.evaluation.fidelity.health_gym import health_gym_measures
from hg3.evaluation.fidelity.marginals import marginal_measures
from hg3.evaluation.fidelity.subgroups import subgroup_measures
from hg3.evaluation.fidelity.temporal import temporal_measures
from hg3.evaluation.gates import judge, load_gates
from hg3.evaluation.panel import Panel, some_patients
from hg3.evaluation.privacy.measures import privacy_measures
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.schema import load_schema
from tests.evaluation.cases import panel, shuffled_months
from tests.evaluation.privacy.cases import cohort, people

N = 600


def missed(panels: Parts[Panel], *sections: Callable[..., list[Measured]]) -> set[str]:
    draws = make_draws(panels.each(lambda panel: panel.n_patients))
    measures = [measured for section in sections for measured in section(panels, draws)]
    return {verdict.gate.name for verdict in judge(load_gates(), measures) if not verdict.passed}


def attacks(panels: Parts[Panel], draws: Parts[np.ndarray]) -> list[Measured]:
    return privacy_measures(panels, draws)[0]


def changed(change: Callable[[Panel], Panel]) -> Parts[Panel]:
    """Return a release of the same distribution as the real patients, changed, beside them."""
    return Parts(change(people(N, 1)), people(N, 2), people(N, 3))


def without_group(panel: Panel) -> Panel:
    return some_patients(panel, panel.values["sex"][:, 0] == 0)


def without_code(panel: Panel) -> Panel:
    values = {**panel.values, "stage": np.where(panel.values["stage"] == 2, 1.0, panel.values["stage"])}
    return replace(panel, values=values)


def subgroups(panels: Parts[Panel], draws: Parts[np.ndarray]) -> list[Measured]:
    return subgroup_measures(panels, draws)[0]


SECTIONS = (marginal_measures, subgroups, health_gym_measures, temporal_measures)


def test_a_release_of_the_same_distribution_passes() -> None:
    assert missed(changed(lambda panel: panel), *SECTIONS) == set()


@pytest.mark.parametrize(
    ("change", "noticed"),
    [
        (without_group, {"no code lost", "no subgroup lost", "shares of subgroups", "shares of each category"}),
        (without_code, {"no code lost", "shares of each category"}),
    ],
)
def test_what_is_lost_is_noticed(change: Callable[[Panel], Panel], noticed: set[str]) -> None:
    assert noticed <= missed(changed(change), *SECTIONS)


def test_months_out_of_order_are_noticed_over_time_alone() -> None:
    schema = load_schema("art-hiv-v2")
    tables = [simulate(200, seed).rename(columns={"PatientID": "id", "Timestep": "month"}) for seed in range(3)]
    back = {"id": "PatientID", "month": "Timestep"}
    made, train, holdout = (panel(table.rename(columns=back), schema) for table in tables)
    mixed = panel(shuffled_months(tables[0]).rename(columns=back), schema)
    in_order, out_of_order = (missed(Parts(release, train, holdout), *SECTIONS) for release in (made, mixed))
    assert {"transitions of categories", "memory of reals, one time later"} <= out_of_order - in_order
    fidelity = {gate.name for gate in load_gates().gates if gate.question == "fidelity"}
    assert out_of_order & fidelity == in_order & fidelity == set()


def test_copies_of_training_patients_are_noticed() -> None:
    copied = missed(cohort(1200, 0.1, False), attacks)
    assert {"no copies of training patients", "members found at few false alarms"} <= copied
    independent = missed(cohort(1200, 0.0, False), attacks)
    assert not independent & {"no copies of training patients", "members found at few false alarms"}


def test_a_release_of_nothing_but_copies_fails_in_small_tables_too() -> None:
    train = people(200, 2)
    assert "no copies of training patients" in missed(Parts(train, train, people(200, 3)), attacks)
