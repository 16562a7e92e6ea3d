"""Training under differential privacy: DP-SGD (Abadi et al. 2016, algorithm 1) with the optimiser of every training.

Every draw of an update is fresh from the operating system: who is sampled, the diffusion's times and noises, and the
noise on the gradient. The first and the last must not be known to anyone. Those of the diffusion belong to a patient
each, none depends on who else is there, and so they may be drawn beforehand in the proof.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.func import functional_call

from hg3.diffusion.loss import Batch, Draw, denoising_loss
from hg3.training import entropy
from hg3.training.budget import Budget
from hg3.training.per_patient import Gradients, clipped_sum_over
from hg3.training.trainer import Trainer


@dataclass
class PrivateTrainer(Trainer):
    """A training that spends what `budget` plans and tells nothing else of its patients: no loss, no gradient."""

    budget: Budget = field(kw_only=True)
    validates: ClassVar[bool] = False

    def step(self) -> dict[str, float]:
        """Make one update and return its learning rate; it is made whoever was sampled, be it nobody."""
        rate = self._set_learning_rate()
        total = self._clipped_sum(self.train.select(self._sampled(), self.device))
        for name, weight in self.model.named_parameters():
            weight.grad = self._noised(total[name])
        self.optimizer.step()
        self._average(self.progress.update)
        self.progress.update += 1
        return {"learning_rate": rate, "epsilon": self.budget.spent(self.progress.update)}

    def _sampled(self) -> Tensor:
        """Return who is in the update: each patient with the same probability, on their own (Poisson sampling)."""
        return torch.nonzero(entropy.uniform(len(self.train)) < self.budget.sample_rate)[:, 0]

    def _clipped_sum(self, batch: Batch) -> Gradients:
        noise, uniform = independent_draw(batch, self.schedule.T, self.recipe.preset.training.condition)
        patients = (*vars(batch).values(), *vars(noise).values(), *uniform)
        weights = {name: weight.detach() for name, weight in self.model.named_parameters()}
        return clipped_sum_over(self._loss_of_one, weights, patients, self.budget.clip)

    def _loss_of_one(self, weights: Gradients, *patient: Tensor) -> Tensor:
        """Return the loss of a batch of one: all its sums and shares are over the patient's own cells."""
        preset, layout = self.recipe.preset, self.recipe.encoder.layout

        def model(*given: Tensor) -> Any:
            return functional_call(self.model, weights, given)

        batch, noise, uniform = Batch(*patient[:4]), Draw(*patient[4:8]), (patient[8], patient[9])
        cap = preset.loss.column_cap
        return denoising_loss(model, batch, noise, uniform, self.schedule, layout, preset.heads, cap)

    def _noised(self, total: Tensor) -> Tensor:
        """Return a sum with its noise, over the expected size of a sample: the real one would tell who is there."""
        deviation = self.budget.noise_multiplier * self.budget.clip
        noised = total.double().cpu() + deviation * entropy.noise(*total.shape)
        return (noised / self.budget.batch).to(total)

    def _more_state(self) -> dict[str, Any]:
        return {"privacy": self.budget.statement(self.progress.update)}


def independent_draw(batch: Batch, n_times: int, condition: float) -> tuple[Draw, tuple[Tensor, Tensor]]:
    """Return what `draw` and `draw_uniform` do, but each patient's own: times are not spread over the batch."""
    n, device = len(batch), batch.x_static.device
    t = (entropy.uniform(n) * n_times).long().to(device)
    eps = [entropy.normal(*x.shape).float().to(device) for x in (batch.x_static, batch.x_dynamic)]
    chosen = entropy.uniform(n, 1) < condition
    given = (chosen & (entropy.uniform(*batch.observed_static.shape) < 0.5)).to(device) & batch.observed_static
    static, dynamic = (
        entropy.uniform(*x.shape).float().to(device) for x in (batch.observed_static, batch.observed_dynamic)
    )
    return Draw(t, eps[0], eps[1], given), (static, dynamic)
