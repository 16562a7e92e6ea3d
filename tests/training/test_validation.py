"""Validation: the attack on cases with a known answer, and what weights are chosen by."""

import math

import pytest
import torch

from hg3.training.validation import PATIENTS, Validation, attack_auc, largest_rise, n_draws, spread, updates_between


@pytest.mark.parametrize(
    ("own", "others", "auc"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 0.5),
        ([0.1, 0.2], [0.3, 0.4, 0.5], 1.0),
        ([0.3, 0.4, 0.5], [0.1, 0.2], 0.0),
        ([1.0, 1.0], [1.0], 0.5),
        ([1.0], [], 0.5),
        ([1.0, 3.0], [2.0], 0.5),
        ([1.0, 2.0, 5.0, 5.0], [3.0, 5.0], (4 + 2 * 0.5) / 8),
    ],
)
def test_the_attack_counts_pairs(own: list[float], others: list[float], auc: float) -> None:
    assert attack_auc(torch.tensor(own), torch.tensor(others)) == pytest.approx(auc, abs=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_losses_that_are_not_finite_count_as_memorised(bad: float) -> None:
    assert attack_auc(torch.tensor([1.0, bad]), torch.ones(3)) == attack_auc(torch.ones(3), torch.tensor([bad])) == 1.0


@pytest.mark.parametrize("n", [0, 1, 7, PATIENTS, PATIENTS + 1, 5000])
def test_patients_are_spread_over_the_table(n: int) -> None:
    chosen = spread(n).tolist()
    assert len(set(chosen)) == len(chosen) == min(n, PATIENTS)
    assert chosen == sorted(chosen) and all(0 <= place < n for place in chosen)
    if n:
        gaps = torch.tensor([*chosen, n]).diff()
        assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(("patients", "draws"), [(0, 8), (1, 8), (256, 8), (400, 5), (512, 4)])
def test_few_patients_get_more_draws(patients: int, draws: int) -> None:
    assert n_draws(patients) == draws


@pytest.mark.parametrize(
    ("wanted", "patients", "batch", "between"),
    [(250, 5000, 64, 250), (250, 187, 64, 73), (10, 187, 64, 10), (9, 1, 64, 1)],
)
def test_a_small_table_is_validated_more_often(wanted: int, patients: int, batch: int, between: int) -> None:
    assert updates_between(wanted, patients, batch) == between


@pytest.mark.parametrize(
    ("own", "others", "rise"), [(512, 512, 0.05), (24, 6, 0.1339), (187, 46, 0.05), (5, 0, 0.7071)]
)
def test_few_patients_leave_more_to_chance(own: int, others: int, rise: float) -> None:
    assert largest_rise(own, others) == pytest.approx(rise, abs=1e-4)


def test_what_weights_are_chosen_by() -> None:
    sorted_best_first = [
        Validation(1.0, 0.55, 0.55),
        Validation(2.0, 0.40, 0.55),
        Validation(math.inf, 0.5, 0.55),
        Validation(0.5, 0.56, 0.55),
    ]
    assert sorted(reversed(sorted_best_first), key=lambda found: found.rank) == sorted_best_first
