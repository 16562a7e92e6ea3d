"""The next value of a real, predicted: known errors of what can be predicted and what cannot."""

from dataclasses import replace

import numpy as np

from hg3.evaluation.draws import Parts
from hg3.evaluation.panel import Panel, some_patients
from hg3.evaluation.utility.forecast import _pairs, forecast_measures
from tests.evaluation.utility.cases import made, needs

pytestmark = needs("sklearn")


def markers(values: np.ndarray) -> Panel:
    one = made(len(values), seed=0)
    return replace(one, values={**one.values, "marker": values})


def constant(n_patients: int, seed: int) -> Panel:
    """Each patient keeps one value."""
    level = np.random.default_rng(seed).normal(size=(n_patients, 1))
    return markers(np.broadcast_to(level, (n_patients, 12)).copy())


def noise(n_patients: int, seed: int) -> Panel:
    return markers(np.random.default_rng(seed).normal(size=(n_patients, 12)))


def test_who_learned_from_noise_is_a_quarter_of_all_values_away() -> None:
    """The mean distance of ranks from their middle is 1/4; what trees make of noise adds to it."""
    ((found,), remarks) = forecast_measures(Parts(noise(200, 0), constant(200, 1), constant(200, 2)))
    assert (found.name, found.subject, found.higher_is_better, remarks) == ("TSTR MAE", "marker", False, [])
    assert 0.24 < found.score.mean() < 0.31
    assert found.ceiling.mean() < 0.03


def test_patients_of_the_same_kind_teach_as_much() -> None:
    ((found,), _) = forecast_measures(Parts(constant(200, 0), constant(200, 1), constant(200, 2)))
    assert abs(found.difference()[0]) < 0.01 and found.score.shape == (50,)


def test_identical_tables_in_any_order_teach_the_same() -> None:
    one, order = constant(200, 1), np.random.default_rng(0).permutation(200)
    for made_ in (one, some_patients(one, order)):
        ((found,), _) = forecast_measures(Parts(made_, one, constant(200, 2)))
        assert abs(found.difference()[0]) < 0.005


def test_a_pair_is_a_value_and_the_next_one_known() -> None:
    scores = np.array(
        [[0.1, np.nan, 0.3, 0.4, np.nan], [np.nan, np.nan, 0.5, np.nan, np.nan], [0.7, 0.8, 0.9, 1.0, 0.6]]
    )
    pairs = _pairs(scores, np.arange(15.0).reshape(3, 5, 1), np.random.default_rng(0))
    found = {
        (int(p), *map(float, seen), float(y))
        for p, seen, y in zip(pairs.patient, pairs.seen, pairs.following, strict=True)
    }
    assert found == {  # patient, last known, time, distance, next
        (0, 0.0, 0.0, 2.0, 0.3),
        (0, 2.0, 2.0, 1.0, 0.4),
        *((2, 10.0 + k, float(k), 1.0, float(scores[2, k + 1])) for k in range(4)),
    }


def test_a_long_record_counts_as_much_as_a_short_one() -> None:
    pairs = _pairs(np.random.default_rng(1).random((30, 40)), np.zeros((30, 40, 1)), np.random.default_rng(0))
    assert set(np.bincount(pairs.patient)) == {5}
    assert len(set(pairs.seen[:, 1])) > 20  # from anywhere in it


def test_too_few_values_are_told() -> None:
    once = np.full((200, 12), np.nan)
    once[:, 3] = 1.0
    ((found,), remarks) = forecast_measures(Parts(markers(once), constant(200, 1), constant(200, 2)))
    assert np.isnan(found.score).all() and found.score.shape == (50,)
    assert remarks == ["The next value is not predicted of marker: fewer than 10 patients have two values."]
