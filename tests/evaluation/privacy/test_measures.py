"""All measures of privacy together, on tables of every kind."""

from typing import Any

import numpy as np
import pytest

from hg3.evaluation.draws import Parts, make_draws
from hg3.evaluation.panel import Panel, some_patients
from hg3.evaluation.privacy import measures as module
from hg3.evaluation.privacy import search
from hg3.evaluation.privacy.measures import privacy_measures
from hg3.table.cohorts import art_hiv
from hg3.table.schema import load_schema
from tests.evaluation.cases import panel
from tests.evaluation.privacy.cases import by_name, cohort, people, slightly_wrong, together
from tests.table.cases import make_schema, make_table, tiny_columns

NAMES = {
    *(f"membership AUC, {attack}" for attack in ("distance", "density")),
    *(f"membership TPR at {rate} FPR, {attack}" for rate in ("1%", "0.1%") for attack in ("distance", "density")),
    *("exact copies", "near copies", "nearest-neighbour adversarial accuracy loss", "share closer to training"),
    *("attribute inference", "disclosure risk", "singling out", "singling out, rare subgroups"),
}


def measured(panels: Parts[Panel]) -> tuple[Any, ...]:
    return privacy_measures(panels, make_draws(panels.each(lambda part: part.n_patients)))


def test_every_measure_is_there_with_fifty_draws() -> None:
    found, tables, remarks = measured(cohort(200, 0.1))
    assert {m.name for m in found} == NAMES
    assert all(m.score.shape == m.ceiling.shape == (50,) for m in found)
    assert list(tables) == ["attack curves"]
    assert list(tables["attack curves"]) == ["attack", "false_positive", "true_positive"]
    assert set(tables["attack curves"]["attack"]) == {"distance", "density"}
    assert len(remarks) == 2  # both true positive rates


@pytest.mark.parametrize("n_patients", [5, 7, 24])
def test_small_tables_of_every_kind(n_patients: int) -> None:
    panels = Parts(*(panel(make_table(n_patients, seed=seed)) for seed in range(3)))
    found, _, remarks = measured(panels)
    assert {m.name for m in found} == NAMES
    exact = by_name(found)["exact copies"]
    assert (exact.score == 0).all() and (exact.ceiling == 0).all()
    assert any("Membership is not attacked" in remark for remark in remarks) == (n_patients < 20)


@pytest.mark.parametrize(
    ("columns", "table"),
    [
        (tiny_columns()[2:], {}),  # nothing static
        (tiny_columns()[:2], {}),  # nothing else
        (tiny_columns()[2:3], {}),  # one real
        (tiny_columns(), {"quasi_identifiers": [], "subgroups": []}),
    ],
)
def test_schemas_of_every_kind(columns: list[dict[str, Any]], table: dict[str, Any]) -> None:
    schema = make_schema(columns, **table)
    found = by_name(measured(Parts(*(people(40, seed, schema) for seed in range(3))))[0])
    assert np.isfinite(found["membership AUC, density"].score).all()
    assert np.isfinite(found["near copies"].score).all()


def test_of_many_patients_some_but_every_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PATIENTS", 100)
    panels = cohort(400, 0.1)
    found, _, remarks = measured(panels)
    assert (by_name(found)["exact copies"].score == 0.1).all()
    assert remarks[:3] == [
        "Copies, near copies and members are looked for in all of the 400 synthetic records; the other attacks use 100 "
        "of them.",
        *(f"All but exact copies is measured on 100 of the 400 {name} patients." for name in ("training", "hold-out")),
    ]


def test_copies_anywhere_in_a_large_release_are_near_and_give_members_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The release is forty times as large as what the other attacks take, and its copies stand at its end."""
    monkeypatch.setattr(module, "MOST_PATIENTS", 200)
    monkeypatch.setattr(search, "MOST_POINTS", 300)
    train, holdout, made = people(200, 1), people(200, 2), people(8_000, 3)
    leaking = together(some_patients(made, slice(60, None)), slightly_wrong(some_patients(train, slice(60))))
    others, copies = (by_name(measured(Parts(release, train, holdout))[0]) for release in (made, leaking))
    found = copies["near copies"].score.mean() - others["near copies"].score.mean()
    assert found == pytest.approx(60 / 8_000, abs=1e-3)
    for attack in ("distance", "density"):
        name = f"membership AUC, {attack}"
        assert copies[name].score.mean() - others[name].score.mean() > 0.03


def test_draws_are_of_the_patients_that_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PATIENTS", 40)
    found = by_name(measured(Parts(people(1000, 1), people(1000, 2), people(6, 3)))[0])
    assert np.isfinite(found["near copies"].score).all()


@pytest.mark.slow
def test_copies_in_a_release_of_the_stand_in_cohort_are_found() -> None:
    schema = load_schema("art-hiv-v2")
    everybody = panel(art_hiv.simulate(3_400), schema)
    made, train, holdout = (some_patients(everybody, slice(*ends)) for ends in ((0, 900), (900, 2_500), (2_500, 3_400)))
    with_copies = together(some_patients(made, slice(0, 800)), some_patients(train, slice(300, 400)))
    others, copies = (by_name(measured(Parts(release, train, holdout))[0]) for release in (made, with_copies))
    assert (others["exact copies"].score == 0).all()
    assert copies["exact copies"].score.mean() == pytest.approx(100 / 900)
    assert copies["near copies"].difference()[1] > 0.08
    for attack in ("distance", "density"):
        rate = f"membership TPR at 1% FPR, {attack}"
        assert copies[rate].difference()[1] > 0.03
        assert others[rate].difference()[1] < 0.01
