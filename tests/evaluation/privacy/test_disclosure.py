"""The disclosure risk, against a plain loop over patients."""

import numpy as np
import pytest

from hg3.evaluation.draws import Parts
from hg3.evaluation.panel import Panel, some_patients
from hg3.evaluation.privacy import disclosure
from hg3.evaluation.privacy.attributes import attributes
from hg3.evaluation.privacy.disclosure import disclosure_measures
from tests.evaluation.privacy.cases import cohort, contains, people
from tests.table.cases import make_schema, tiny_columns


def plain(panels: Parts[Panel], part: str) -> float:
    """Return the risk of a part's patients, one by one."""
    found = {one.column.name: one.codes for one in attributes(panels)}
    quasi, sensitive = ("sex", "height"), ("VL", "CD4", "CD4 (M)", "drug", "stage")
    real = {name: [*codes.train, *codes.holdout] for name, codes in found.items()}
    key = {p: list(zip(*(getattr(found[name], p).tolist() for name in quasi), strict=True)) for p in vars(panels)}
    cohort_keys = key["train"] + key["holdout"]
    to_sample = to_cohort = 0.0
    for s, own in enumerate(key[part]):
        learned = []
        for record in (m for m, other in enumerate(key["made"]) if other == own):
            codes = [(getattr(found[name], part)[s], found[name].made[record], name) for name in sensitive]
            new = [a == b and a >= 0 and np.mean(np.array(real[name]) == a) < 0.5 for a, b, name in codes]
            learned.append(sum(new) >= 0.05 * len(sensitive))
        if learned:
            to_sample += np.mean(learned) / key[part].count(own)
            to_cohort += np.mean(learned) / cohort_keys.count(own)
    return max(to_sample / len(cohort_keys), to_cohort / len(key[part]))


@pytest.mark.parametrize("copied", [0.0, 0.6])
def test_risk_is_that_of_a_plain_loop(copied: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disclosure, "resamples", lambda n, seed: np.ones((1, n)))
    panels = cohort(60, copied)
    (measured,), remarks = disclosure_measures(panels)
    assert measured.score[0] == pytest.approx(plain(panels, "train"))
    assert measured.ceiling[0] == pytest.approx(plain(panels, "holdout"))
    assert remarks == []


def test_everybody_is_found_where_everybody_is_alone_and_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hg3.evaluation.privacy.attributes.N_BINS", 100_000)  # heights are a patient's own
    panels = cohort(100, 1.0)
    (measured,), _ = disclosure_measures(panels)
    has_height = ~np.isnan(panels.train.values["height"][:, 0])
    assert measured.score.mean() > 0.95 * has_height.mean()
    assert measured.ceiling.mean() < 0.1


def test_identical_tables_are_as_risky_as_one_another() -> None:
    """Who was trained on and who was held out are the same people: nothing is learned of the one and not the other."""
    one = people(300, 1)
    (measured,), _ = disclosure_measures(Parts(one, one, one))
    np.testing.assert_array_equal(measured.score, measured.ceiling)
    assert measured.score.mean() > 0.02


def test_the_order_of_patients_changes_chance_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disclosure, "resamples", lambda n, seed: np.ones((1, n)))
    panels, order = cohort(200, 0.3), np.random.default_rng(1).permutation(200)
    (found,), _ = disclosure_measures(panels)
    (turned,), _ = disclosure_measures(panels.each(lambda panel: some_patients(panel, order)))
    assert turned.score[0] == pytest.approx(found.score[0]) and turned.ceiling[0] == pytest.approx(found.ceiling[0])


@pytest.mark.parametrize("seed", [0, 1])
def test_a_release_of_others_is_no_risk_of_its_own(seed: int) -> None:
    (measured,), _ = disclosure_measures(cohort(500, seed=seed), seed)
    assert contains(measured)


def test_looking_at_some_of_many_matches_changes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    (all_matches,), _ = disclosure_measures(cohort(500))
    monkeypatch.setattr(disclosure, "MOST_MATCHES", 10)
    (some_matches,), _ = disclosure_measures(cohort(500))
    assert some_matches.score.mean() == pytest.approx(all_matches.score.mean(), rel=0.1)


@pytest.mark.parametrize(
    ("columns", "lacking"), [(tiny_columns()[2:], "quasi-identifier"), (tiny_columns()[:2], "other column")]
)
def test_nothing_known_or_nothing_to_learn(columns: list[dict[str, object]], lacking: str) -> None:
    schema = make_schema(columns)
    (measured,), remarks = disclosure_measures(Parts(*(people(30, seed, schema) for seed in range(3))))
    assert np.isnan(measured.score).all() and np.isnan(measured.ceiling).all()
    assert remarks == [f"The disclosure risk is not estimable: made has no {lacking}."]
