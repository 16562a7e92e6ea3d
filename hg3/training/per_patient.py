"""Gradients of one patient each, shortened to a length, and their sum: what bounds the influence of a patient."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

GRADIENT_BYTES = 2**28  # of the gradients that are held at once
SMALLEST_NORM = 1e-6  # added to a norm before it divides: a sum of rounded squares may be a little short

Gradients = dict[str, Tensor]
Loss = Callable[..., Tensor]


def gradients_of_each(loss: Loss, weights: Gradients, patients: tuple[Tensor, ...]) -> Gradients:
    """Return the gradient of each patient's own loss, by weight, of shape (B, *weight).

    Parameters
    ----------
    loss : a function of `weights` and of one patient, (1, ...) each of `patients`, to a scalar. It is called for a
        patient alone, so that no other one can enter, whatever it sums over.
    patients : tensors of shape (B, ...).
    """

    def of_one(given: Gradients, *patient: Tensor) -> Tensor:
        return loss(given, *(part[None] for part in patient))

    # The other ways to attend have no rule for a batch of gradients.
    with sdpa_kernel(SDPBackend.MATH):
        return vmap(grad(of_one), in_dims=(None, *(0 for _ in patients)))(weights, *patients)


def clipped_sum(gradients: Gradients, clip: float) -> Gradients:
    """Return the sum over patients of their gradients, each at most `clip` long (Abadi et al. 2016, algorithm 1).

    The length is the Euclidean norm over all weights together. A gradient that is not finite counts as 0: a patient
    whose numbers overflow must not be told from one who is not there by an update that fails.
    """
    norm = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients.values()]).norm(dim=0)  # (B,)
    finite = torch.isfinite(norm)
    factor = torch.where(finite, (clip / (norm + SMALLEST_NORM)).clamp(max=1.0), 0.0)
    kept = {name: torch.where(_beside(finite, each), each, 0.0) for name, each in gradients.items()}
    return {name: torch.tensordot(factor, each, dims=1) for name, each in kept.items()}


def _beside(of_patient: Tensor, gradient: Tensor) -> Tensor:
    """Return a value a patient in a shape that broadcasts over (B, *weight)."""
    return of_patient.reshape(-1, *(1 for _ in gradient.shape[1:]))


def clipped_sum_over(loss: Loss, weights: Gradients, patients: tuple[Tensor, ...], clip: float) -> Gradients:
    """Return `clipped_sum` of `gradients_of_each`, over as many patients at once as memory is meant for."""
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    size = sum(weight.numel() * weight.element_size() for weight in weights.values())
    at_once = max(GRADIENT_BYTES // size, 1)
    for first in range(0, len(patients[0]), at_once):
        some = tuple(part[first : first + at_once] for part in patients)
        for name, part in clipped_sum(gradients_of_each(loss, weights, some), clip).items():
            total[name] += part
    return total
