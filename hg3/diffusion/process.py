"""The forward process and what a network may be asked to predict."""

import torch
from torch import Tensor

from hg3.diffusion.schedule import Schedule


def q_sample(x_0: Tensor, eps: Tensor, signal_t: Tensor, noise_t: Tensor) -> Tensor:
    """Return x_t = signal_t x_0 + noise_t eps (Ho et al. 2020, eq. 4); the coefficients broadcast over x_0."""
    return signal_t * x_0 + noise_t * eps


def v_target(x_0: Tensor, eps: Tensor, signal_t: Tensor, noise_t: Tensor) -> Tensor:
    """Return v = signal_t eps - noise_t x_0 (Salimans and Ho 2022, section 4)."""
    return signal_t * eps - noise_t * x_0


def coefficients(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return signal_t and noise_t, float32, shape (B, 1, 1), for times t (B,)."""
    signal = torch.as_tensor(schedule.signal, dtype=torch.float32, device=t.device)
    noise = torch.as_tensor(schedule.noise, dtype=torch.float32, device=t.device)
    return signal[t][:, None, None], noise[t][:, None, None]
