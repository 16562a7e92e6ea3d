"""Small recurrent networks on encoded records: one tells two sorts of patients apart, one predicts the next time.

Both are made for a few hundred patients and seconds on one core. A result is a function of the records and the seed.
The one module of an evaluation that needs torch: `detection` imports it when it gets there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hg3.evaluation.features import Encoded

HIDDEN = 16
EPOCHS = 8
PREDICTING_EPOCHS = 10
LARGEST_BATCH, BATCHES = 100, 8  # patients a step, and the fewest steps an epoch
HIGHEST_RATE = 0.04  # of a one-cycle schedule
PREDICTING_RATE = 0.01  # lower, since the line is near its best from the start
RIDGE = 1.0  # as much as one row says: indicators of a category add up to 1
LARGEST_GRADIENT = 1.0


class Classifier(nn.Module):
    """Two GRU layers, and a line through the mean and the highest of each of their outputs over all times.

    A single last state, as in the published score, has to carry all times, and tells less in as many epochs.
    """

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.gru = nn.GRU(n_inputs, HIDDEN, 2, batch_first=True)
        self.line = nn.Linear(2 * HIDDEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the log odds of label 1, (B,), of records (B, L, numbers)."""
        found, _ = self.gru(x)
        return self.line(torch.cat([found.mean(dim=1), found.amax(dim=1)], dim=1))[:, 0]


class Predictor(nn.Module):
    """What is to be expected of the next time: a line through this time's numbers, and one GRU layer's correction.

    The line begins as least squares on the records to learn from. That what a patient takes stays mostly as it is
    would cost a network most of its epochs to find, and a release that taught the contrary would be hard to tell.
    """

    def __init__(self, x: Tensor, wanted: Tensor, has_row: Tensor) -> None:
        super().__init__()
        self.gru = nn.GRU(x.shape[2], HIDDEN, batch_first=True)
        self.correction = nn.Linear(HIDDEN, wanted.shape[2])
        self.line = nn.Linear(x.shape[2] + 1, wanted.shape[2], bias=False)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)
        known = _with_one(x)[has_row[..., 0] > 0].double()
        square = known.T @ known + RIDGE * torch.eye(known.shape[1])
        answer = torch.linalg.solve(square, known.T @ wanted[has_row[..., 0] > 0].double())
        self.line.weight.data = answer.T.float()

    def forward(self, x: Tensor) -> Tensor:
        """Return numbers, (B, L, outputs), of records (B, L, numbers)."""
        return self.line(_with_one(x)) + self.correction(self.gru(x)[0])


def _with_one(x: Tensor) -> Tensor:
    return F.pad(x, (0, 1), value=1.0)


def sequences(records: Encoded) -> np.ndarray:
    """Return per time the record's numbers, their steps from the time before and the static numbers, (N, L, 2 D + S).

    A network could find the steps itself, but not in a few epochs, and months out of order show mostly in them.
    """
    moving = records.moving
    steps = np.diff(moving, axis=1, prepend=moving[:, :1])
    static = np.repeat(records.static[:, None], moving.shape[1], axis=1)
    return np.concatenate([moving, steps, static], axis=2)


def recurrent_log_odds(
    values: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
) -> np.ndarray:
    """Return the log odds of label 1 for the patients `test`, by a GRU trained on the patients `train`, (test,).

    Parameters
    ----------
    values : float32, shape (N, L, numbers), as `sequences` makes them.
    labels : 0 or 1, shape (N,).
    train, test : positions of patients.
    """
    x, y = torch.from_numpy(values[train]), torch.from_numpy(labels[train]).float()
    with _seeded(seed):
        network = Classifier(x.shape[2])
        _fit(
            network,
            lambda chosen: F.binary_cross_entropy_with_logits(network(x[chosen]), y[chosen]),
            len(x),
            EPOCHS,
            HIGHEST_RATE,
        )
    with torch.no_grad():
        return np.asarray(network(torch.from_numpy(values[test])), float)


def next_time_errors(train: Encoded, test: Encoded, seed: int) -> np.ndarray:
    """Return how far the numbers of the next time are from what a GRU expects, where that time has a row.

    The GRU learns from the records `train` to make the mean absolute error small. Returned is that of each number,
    summed over the times of every patient of `test`, in front of how many times there are: shape (N, 1 + D - 1).
    """
    x, test_x = (torch.from_numpy(sequences(records)[:, :-1]) for records in (train, test))
    wanted, has_row = _next_times(train)
    with _seeded(seed):
        network = Predictor(x, wanted, has_row)

        def loss(chosen: Tensor) -> Tensor:
            error = (network(x[chosen]) - wanted[chosen]).abs() * has_row[chosen]
            return error.sum() / (has_row[chosen].sum() * wanted.shape[2]).clamp(min=1.0)

        _fit(network, loss, len(x), PREDICTING_EPOCHS, PREDICTING_RATE)
    wanted, has_row = _next_times(test)
    with torch.no_grad():
        error = (network(test_x) - wanted).abs() * has_row
    return np.concatenate([has_row.sum(dim=1), error.sum(dim=1)], axis=1).astype(float)


def _next_times(records: Encoded) -> tuple[Tensor, Tensor]:
    """Return the numbers of every time but the first, (N, L - 1, D - 1), and whether it has a row, (N, L - 1, 1)."""
    after = torch.from_numpy(records.moving[:, 1:])
    return after[..., :-1], after[..., -1:]


def _fit(network: nn.Module, loss_of: Callable[[Tensor], Tensor], n: int, epochs: int, rate: float) -> None:
    """Train a network by Adam on batches of n patients; `loss_of` takes the positions of a batch."""
    batch = max(2, min(LARGEST_BATCH, n // BATCHES))
    n_steps = epochs * -(-n // batch)
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=n_steps)
    for _ in range(epochs):
        for chosen in torch.randperm(n).split(batch):
            optimizer.zero_grad()
            loss_of(chosen).backward()
            nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
            optimizer.step()
            schedule.step()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw the weights and the order of patients from `seed`, and leave torch's own state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
