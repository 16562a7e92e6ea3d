"""What validation says of weights: their loss on patients that they were not trained on, and who they give away.

A network that memorises is better at its own patients than at others, long before its loss on others rises. So an
attack runs with every validation: whoever has a low loss is taken for a training patient.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

PATIENTS = 512  # at most, of either part
FORWARD_PASSES = 2048  # of patients, that the draws of a small part may take
DRAWS, MOST_DRAWS = 4, 8
MOST_ATTACK = 0.55  # the AUC that weights may have which generate, or more where chance alone gives that
ONE_IN_TWENTY = 1.645  # standard deviations that chance exceeds once in 20 times
EPOCHS = 25  # at most, between validations: a small table is memorised in a few hundred updates


class Validation(NamedTuple):
    """The averaged weights' loss on validation patients, the AUC of the attack, and how much of that is borne."""

    loss: float = math.inf
    attack: float = 0.5
    attack_limit: float = MOST_ATTACK

    @property
    def rank(self) -> tuple[float, float]:
        """What weights are chosen by, lower is better.

        Of those that give nobody away the lowest loss; if all do, those that do so least.
        """
        return (max(self.attack, self.attack_limit) if math.isfinite(self.loss) else math.inf), self.loss


def attack_auc(own: Tensor, others: Tensor) -> float:
    """Return how often a training patient has a lower loss than another patient, ties counted half.

    This is the AUC of the loss attack (Yeom et al. 2018, adversary 1): 0.5 where nothing was memorised, 1 where all
    was. It is stronger than any attack on a release, which has no weights to ask.

    Parameters
    ----------
    own, others : losses of training patients, (A,), and of others, (B,).
    """
    if not len(own) or not len(others):
        return 0.5
    difference = others.double() - own.double()[:, None]  # (A, B)
    return float(((difference > 0).double() + 0.5 * (difference == 0)).mean())


def attack_limit(own: int, others: int) -> float:
    """Return the AUC above which weights give their patients away: 0.55, or what chance exceeds once in 20 times.

    Of a network that knows nothing of A training and B other patients, the AUC has the variance (A + B + 1) / 12 A B
    (Mann and Whitney 1947).
    """
    deviation = math.sqrt((own + others + 1) / (12 * max(own * others, 1)))
    return max(MOST_ATTACK, 0.5 + ONE_IN_TWENTY * deviation)


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
