"""Recurrent networks: what they can find, and that they leave nothing behind."""

import numpy as np
import torch

from hg3.evaluation.features import Encoded
from hg3.evaluation.learners import area_under_curve
from hg3.evaluation.recurrent import next_time_errors, recurrent_log_odds, sequences


def records(moving: np.ndarray) -> Encoded:
    """Return records of one number a time, (N, L), that have every row."""
    rows = np.ones_like(moving)
    return Encoded(np.zeros((len(moving), 0), np.float32), np.stack([moving, rows], axis=2).astype(np.float32))


def test_the_order_of_times_is_seen() -> None:
    """Ramps up against ramps down: every time, and every sum over times, is distributed alike."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    ramp = np.where(labels[:, None] == 1, np.arange(8), np.arange(8)[::-1]) / 8
    moving = (ramp + rng.random((200, 1))) % 1.0
    order = rng.permutation(200)
    found = recurrent_log_odds(sequences(records(moving)), labels, order[:150], order[150:], seed=0)
    assert area_under_curve(labels[order[150:]], found) > 0.95


def test_sequences_hold_numbers_steps_and_the_static_ones() -> None:
    moving = np.arange(24, dtype=np.float32).reshape(2, 4, 3) ** 2
    found = sequences(Encoded(np.array([[5.0], [7.0]], np.float32), moving))
    np.testing.assert_array_equal(found[..., :3], moving)
    np.testing.assert_array_equal(found[:, 2, 3:6], moving[:, 2] - moving[:, 1])
    assert (found[:, 0, 3:6] == 0).all() and found[..., 6].tolist() == [[5.0] * 4, [7.0] * 4]


def test_the_next_time_is_expected_where_it_follows() -> None:
    rng = np.random.default_rng(0)
    start, noise = rng.random((100, 1)), rng.random((100, 9))
    waves, dice = records((start + 0.3 * np.arange(9)) % 1.0), records(noise)
    errors = {
        (one, other): next_time_errors(*both, seed=0).sum(axis=0)
        for (one, other), both in {
            ("waves", "waves"): (waves, waves),
            ("dice", "waves"): (dice, waves),
            ("dice", "dice"): (dice, dice),
        }.items()
    }
    assert all(found[0] == 100 * 8 for found in errors.values())
    mean = {pair: found[1] / found[0] for pair, found in errors.items()}
    assert mean["waves", "waves"] < 0.18 < 0.22 < min(mean["dice", "waves"], mean["dice", "dice"])
    still = records(np.repeat(start, 9, axis=1))  # of which the line alone knows what comes
    assert next_time_errors(still, still, seed=0)[:, 1].max() < 0.05 * 8


def test_a_time_without_a_row_is_no_error() -> None:
    rng = np.random.default_rng(0)
    whole = records(rng.random((40, 6)))
    moving = whole.moving.copy()
    moving[::2, 3:] = [9.0, 0.0]  # as far off as can be, where no row is
    found = next_time_errors(whole, Encoded(whole.static, moving), seed=0)
    assert found[:, 0].tolist() == [2.0, 5.0] * 20
    assert found[::2, 1].max() < 3.0


def test_a_result_is_its_seeds_and_torch_is_left_as_it_was() -> None:
    rng = np.random.default_rng(0)
    values, labels = rng.random((40, 5, 3)).astype(np.float32), np.arange(40) % 2
    before = torch.get_rng_state()
    first, again, other = (
        recurrent_log_odds(values, labels, np.arange(30), np.arange(30, 40), seed) for seed in (3, 3, 4)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert first.tolist() == again.tolist() != other.tolist()
