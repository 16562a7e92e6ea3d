"""What validation says of weights: their loss on patients that they were not trained on, and who they give away.

A network that memorises gets better at its own patients than at others, long before its loss on others rises. So an
attack runs with every validation: whoever has a low loss is taken for a training patient. How well it does at first
says which patients are easy, and how much better it does later says what was memorised.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

PATIENTS = 512  # at most, of either part
FORWARD_PASSES = 2048  # of patients, that the draws of a small part may take
DRAWS, MOST_DRAWS = 4, 8
LARGEST_RISE = 0.05  # of the attack's AUC since the first validation, that weights may have which generate
EPOCHS = 25  # at most, between validations: a small table is memorised in a few hundred updates


class Validation(NamedTuple):
    """The averaged weights' loss on validation patients, the attack's AUC, and what it may be; 1 before the first."""

    loss: float = math.inf
    attack: float = 0.5
    attack_limit: float = 1.0

    @property
    def rank(self) -> tuple[bool, float]:
        """What weights are chosen by, lower is better: the loss, of those that give nobody away."""
        return self.attack > self.attack_limit, self.loss


def attack_auc(own: Tensor, others: Tensor) -> float:
    """Return how often a training patient has a lower loss than another patient, ties counted half.

    This is the AUC of the loss attack (Yeom et al. 2018, adversary 1); 1 where losses are not finite, of which nothing
    is known, and 0.5 where a part has no patients.

    Parameters
    ----------
    own, others : losses of training patients, (A,), and of others, (B,).
    """
    if not len(own) or not len(others):
        return 0.5
    if not (torch.isfinite(own).all() and torch.isfinite(others).all()):
        return 1.0
    difference = others.double() - own.double()[:, None]  # (A, B)
    return float(((difference > 0).double() + 0.5 * (difference == 0)).mean())


def largest_rise(own: int, others: int) -> float:
    """Return how far the attack's AUC may rise: by 0.05, or by its deviation, if that is more, where patients are few.

    Of a network that knows nothing of A training and B other patients, the AUC has the variance (A + B + 1) / 12 A B
    (Mann and Whitney 1947). Most of it is who the patients are, and does not change from one validation to the next.
    """
    return max(LARGEST_RISE, math.sqrt((own + others + 1) / (12 * max(own * others, 1))))


def spread(n: int) -> Tensor:
    """Return positions of at most 512 of n patients, evenly over the table, which may be sorted."""
    chosen = min(n, PATIENTS)
    return torch.arange(chosen) * n // max(chosen, 1)


def n_draws(patients: int) -> int:
    """Return how often so many patients are drawn noise for: the fewer they are, the more often."""
    return min(max(FORWARD_PASSES // max(patients, 1), DRAWS), MOST_DRAWS)


def updates_between(wanted: int, patients: int, batch: int) -> int:
    """Return after how many updates to validate: `wanted`, or fewer if 25 epochs are over before."""
    return min(wanted, max(EPOCHS * patients // batch, 1))
