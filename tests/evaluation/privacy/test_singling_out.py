"""Descriptions of one patient, from releases that repeat patients and from others."""

from dataclasses import replace

import numpy as np
import pytest

from hg3.evaluation.draws import Measured, Parts
from hg3.evaluation.gates import judge, load_gates
from hg3.evaluation.panel import Panel, some_patients
from hg3.evaluation.privacy import singling_out as module
from hg3.evaluation.privacy.singling_out import (
    ANYBODY,
    RARELY,
    _anybody,
    _codes,
    _hits,
    _predicates,
    _rare,
    singling_out_measures,
)
from tests.evaluation.privacy.cases import cohort, contains, people, together
from tests.table.cases import make_schema, tiny_columns


def singled(panels: Parts[Panel], seed: int = 0) -> dict[str, Measured]:
    found, remarks = singling_out_measures(panels, seed)
    assert remarks == []
    return {measured.name: measured for measured in found}


def test_a_predicate_holds_of_one_synthetic_record() -> None:
    codes = _codes(cohort(200))
    predicates = _predicates(codes.made, _anybody(codes.made), np.random.default_rng(0))
    assert len(predicates) > 300
    assert min(len(columns) for columns, _ in predicates) >= 2
    assert all((values >= 0).all() for _, values in predicates)
    assert (_hits(codes.made, predicates).sum(axis=0) == 1).all()


def test_a_predicate_of_a_rare_subgroup_names_what_makes_it_rare() -> None:
    panels = cohort(200)
    made = _codes(panels).made
    guesses = _rare(panels, made)
    assert guesses.always.tolist() == [0, 1]  # sex and height
    groups = [tuple(record) for record in made[:, :2].tolist()]
    assert set(guesses.records) == {k for k, group in enumerate(groups) if groups.count(group) <= 10}
    predicates = _predicates(made, guesses, np.random.default_rng(0))
    assert len(predicates) > 100 and (_hits(made, predicates).sum(axis=0) == 1).all()
    for columns, values in predicates:
        own = tuple(values[:2].tolist()) if columns[1] == 1 else (values[0], -1)
        assert columns[0] == 0 and groups.count(own) <= 10 and len(columns) > 1 + (columns[1] == 1)


def test_copies_are_singled_out() -> None:
    copied = singled(cohort(500, 0.2))
    assert all(measured.difference()[1] > 0.02 for measured in copied.values())
    all_copied = singled(cohort(500, 1.0))
    assert 0.45 < all_copied[ANYBODY].score.mean() <= 0.6  # half of the originals are in a draw, and some are not alone
    assert 0.45 < all_copied[RARELY].score.mean() <= 0.6


def test_who_is_repeated_of_a_rare_subgroup_is_singled_out_among_the_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in 40 is a woman, and the release repeats the women of the training: of all its records they are few."""
    monkeypatch.setattr(module, "MOST_PREDICATES", 200)
    schema = make_schema(tiny_columns(), quasi_identifiers=["sex"])
    sex = (np.arange(1200) % 40 > 0)[:, None].astype(float)
    made, train, holdout = (
        replace(one, values={**one.values, "sex": sex}) for one in (people(1200, seed, schema) for seed in (1, 2, 3))
    )
    women = np.flatnonzero(sex[:, 0] == 0)
    leaking = together(some_patients(train, women), some_patients(made, np.flatnonzero(sex[:, 0] == 1)))
    others, repeated = (singled(Parts(release, train, holdout)) for release in (made, leaking))
    assert contains(others[RARELY]) and repeated[RARELY].difference()[1] > 0.2
    assert abs(repeated[ANYBODY].difference()[0]) < 0.05


def test_gates_notice_who_is_singled_out() -> None:
    names = {"nobody singled out", "nobody of a rare subgroup singled out"}
    for copied, missed in ((0.0, set()), (0.2, names)):
        verdicts = judge(load_gates(), singled(cohort(500, copied)).values())
        assert {verdict.gate.name for verdict in verdicts} == names
        assert {verdict.gate.name for verdict in verdicts if verdict.state == "missed"} == missed


def test_two_alike_are_not_singled_out() -> None:
    panels = cohort(300)
    four_times = some_patients(panels.made, np.tile(np.arange(300), 4))
    found = singled(Parts(panels.made, four_times, people(1200, 5)))
    assert 0.15 < found[ANYBODY].score.mean() < 0.3  # half are in a draw: one of four alone, 1 in 4 times


@pytest.mark.parametrize("seed", [0, 1])
def test_others_are_not(seed: int) -> None:
    assert all(contains(measured) for measured in singled(cohort(500, seed=seed), seed).values())


def test_training_and_held_out_patients_who_are_the_same_are_told_alike() -> None:
    panels = cohort(300, 0.5)
    for measured in singled(Parts(panels.made, panels.train, panels.train)).values():
        assert contains(measured) and abs(measured.difference()[0]) < 0.02, measured.name


def test_the_order_of_patients_changes_chance_alone() -> None:
    panels, order = cohort(400, 0.3), np.random.default_rng(1).permutation(400)
    found, turned = singled(panels), singled(panels.each(lambda panel: some_patients(panel, order)))
    for name, measured in found.items():
        assert turned[name].score.mean() == pytest.approx(measured.score.mean(), abs=0.03), name
        assert turned[name].ceiling.mean() == pytest.approx(measured.ceiling.mean(), abs=0.03), name


def test_records_that_are_all_alike_give_no_predicates() -> None:
    alike = some_patients(people(1, 0), np.zeros(30, int))
    found, remarks = singling_out_measures(Parts(alike, alike, alike))
    assert [measured.name for measured in found] == [ANYBODY, RARELY]
    assert all(np.isnan(measured.score).all() for measured in found)
    assert len(remarks) == 2 and all("the release gives 0 predicates that hold of one" in said for said in remarks)


def test_without_quasi_identifiers_nobody_is_rare() -> None:
    schema = make_schema(tiny_columns(), quasi_identifiers=[])
    found, remarks = singling_out_measures(Parts(*(people(200, seed, schema) for seed in range(3))))
    assert np.isfinite(found[0].score).all() and np.isnan(found[1].score).all()
    assert len(remarks) == 1 and remarks[0].startswith("Singling out, rare subgroups: not estimable")
