"""What the published code of Health Gym v3 does, as plainly as it does it: the other side of the speed benchmarks.

Eager torch with its own random numbers, a time for each patient, the network of hg3.diffusion.health_gym_v3. It shares
no step with hg3's sampler or training loop, so that nothing of theirs slows it down or speeds it up.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hg3.diffusion.health_gym_v3 import RECONSTRUCTION_WEIGHT, PublishedUNet
from hg3.diffusion.schedule import Schedule

BATCH = 100  # patients that it samples at once


def noise_and_reverse(network: PublishedUNet, schedule: Schedule, x: Tensor, n_steps: int) -> Tensor:
    """Return x (B, C, P) after the first `n_steps` of the T ancestral steps (Ho et al. 2020, algorithm 2)."""
    alpha_bar = torch.as_tensor(schedule.signal**2, dtype=torch.float32, device=x.device)
    alpha = alpha_bar / torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    nothing = x.new_zeros(len(x), 0)
    with torch.no_grad():
        for t in range(schedule.T - 1, schedule.T - 1 - n_steps, -1):
            times = torch.full((len(x),), t, device=x.device)
            _, eps_hat = network(nothing, x, times, nothing)
            x = (x - (1 - alpha[t]) / (1 - alpha_bar[t]).sqrt() * eps_hat) / alpha[t].sqrt()
            if t > 0:
                x = x + (1 - alpha[t]).sqrt() * torch.randn_like(x)
    return x


def in_range(x: Tensor) -> Tensor:
    """Return which patients the published filter keeps, bool (B,): both reals, its first channels, on [-1, 1]."""
    return (x[:, :2].abs() <= 1).all(dim=2).all(dim=1)


def make_update(network: PublishedUNet, schedule: Schedule, length: int) -> Callable[[Tensor], float]:
    """Return the published update: a batch x_0 (B, C, P) in, the loss out; Adam, clipped, fp16 on a GPU."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    device = next(network.parameters()).device.type
    scaler = torch.amp.GradScaler(device, enabled=device == "cuda")
    alpha_bar = torch.as_tensor(schedule.signal**2, dtype=torch.float32, device=device)

    def update(x_0: Tensor) -> float:
        t = torch.randint(schedule.T, (len(x_0),), device=device)
        signal, noise = alpha_bar[t].sqrt()[:, None, None], (1 - alpha_bar[t]).sqrt()[:, None, None]
        eps = torch.randn_like(x_0)
        x_t = signal * x_0 + noise * eps
        nothing = x_0.new_zeros(len(x_0), 0)
        optimizer.zero_grad()
        with torch.autocast(device, torch.float16, enabled=device == "cuda"):
            _, eps_hat = network(nothing, x_t, t, nothing)
            r = torch.rand_like(eps)
            x_0_hat = (x_t - noise * (r * eps + (1 - r) * eps_hat)) / (signal + 1e-8)
            errors = ((eps_hat - eps) ** 2, (x_0_hat - x_0) ** 2)
            difference, reconstruction = (error[:, :, :length].mean() for error in errors)
            loss = difference + RECONSTRUCTION_WEIGHT * reconstruction
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss.item()

    return update
