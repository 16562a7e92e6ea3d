"""Health Gym v3 as published: its network and its loss, kept apart from ours (see docs/health-gym-v3.md)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hg3.config import NetworkConfig
from hg3.diffusion.loss import Batch, Draw, Model
from hg3.diffusion.process import coefficients, q_sample
from hg3.diffusion.schedule import Schedule
from hg3.errors import ConfigError
from hg3.layout import Layout

TIME_FEATURES = 128
GROUPS = 8
RECONSTRUCTION_WEIGHT = 20.0


class PublishedUNet(nn.Module):
    """The published 1-D U-Net: denoiser of x_dynamic (B, C, P), P the padded length, at times t (B,), or (1,).

    Every level has `width` channels; a time embedding of its own reaches the first normalisation of each residual
    block as scale and shift. It knows no static columns: x_static (B, 0) and given (B, 0) are passed through.
    7,373,334 trainable parameters at 22 channels and width 256.
    """

    channels_last = False

    def __init__(self, layout: Layout, schedule: Schedule, config: NetworkConfig) -> None:
        super().__init__()
        if layout.static:
            names = ", ".join(block.name for block in layout.static)
            raise ConfigError(
                f"network.kind health-gym-v3 knows no static columns and the schema has {names}; say static = false "
                "there, as the published code does, or choose another preset"
            )
        if layout.length > config.pad_to:
            raise ConfigError(f"the schema has {layout.length} times and network.pad_to is {config.pad_to}; raise it")
        self.padding = config.pad_to - layout.length
        channels, width, levels = layout.n_dynamic, config.width, config.levels
        self.enter = nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))
        self.down_times = nn.ModuleList(TimeEmbedding(schedule.T, width) for _ in range(levels))
        self.down_blocks = nn.ModuleList(GroupedBlock(width) for _ in range(levels))
        self.downs = nn.ModuleList(nn.Conv1d(width, width, 4, stride=2, padding=1) for _ in range(levels))
        self.middle_time = TimeEmbedding(schedule.T, width)
        self.middle = nn.ModuleList(GroupedBlock(width) for _ in range(2))
        self.up_times = nn.ModuleList(TimeEmbedding(schedule.T, width) for _ in range(levels))
        self.ups = nn.ModuleList(nn.ConvTranspose1d(width, width, 4, stride=2, padding=1) for _ in range(levels))
        self.up_blocks = nn.ModuleList(GroupedBlock(width) for _ in range(levels))
        self.smooth = nn.Conv1d(width, width, 3, padding=1)
        self.leave = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, channels))

    def forward(self, x_static: Tensor, x_dynamic: Tensor, t: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return x_static as it is, (B, 0), and the predicted noise of x_dynamic, (B, C, P)."""
        h = self.enter(x_dynamic.transpose(1, 2)).transpose(1, 2)  # (B, W, P)
        skips = []
        for block, time, down in zip(self.down_blocks, self.down_times, self.downs, strict=True):
            h = block(h, time(t))
            skips.append(h)
            h = down(h)
        middle_time = self.middle_time(t)
        for block in self.middle:
            h = block(h, middle_time)
        for up, block, time in zip(self.ups, self.up_blocks, self.up_times, strict=True):
            skip = skips.pop()
            h = up(h)[:, :, : skip.shape[2]]
            h = block(F.pad(h, (0, skip.shape[2] - h.shape[2])) + skip, time(t))
        return x_static, self.leave(self.smooth(h).transpose(1, 2)).transpose(1, 2)


class TimeEmbedding(nn.Module):
    """Scale and shift, (B, W, 1) each, from a frozen sinusoidal table of the T times and two layers."""

    def __init__(self, n_times: int, width: int) -> None:
        super().__init__()
        half = TIME_FEATURES // 2
        frequency = torch.exp(-torch.log(torch.tensor(10_000.0)) * torch.arange(half) / half)
        angle = torch.arange(n_times)[:, None] * frequency
        self.register_buffer("table", torch.cat([angle.sin(), angle.cos()], dim=1), persistent=False)
        self.layers = nn.Sequential(nn.Linear(TIME_FEATURES, 2 * width), nn.SiLU(), nn.Linear(2 * width, 2 * width))

    table: Tensor

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        gamma, beta = self.layers(self.table[t])[:, :, None].chunk(2, dim=1)
        return gamma, beta


class GroupedBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(film(norm(x))))))), group norms over channels and times together, the pad too."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.GroupNorm(GROUPS, width), nn.GroupNorm(GROUPS, width)
        self.conv_in = nn.Conv1d(width, width, 3, padding=1)
        self.conv_out = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x: Tensor, time: tuple[Tensor, Tensor]) -> Tensor:
        gamma, beta = time
        h = self.conv_in(F.silu(self.norm_in(x) * (1 + gamma) + beta))
        return x + self.conv_out(F.silu(self.norm_out(h)))


def published_draw(batch: Batch, n_times: int, generator: torch.Generator) -> Draw:
    """Return times drawn independently and uniformly from 0..T-1, and noise."""
    n, device = len(batch), batch.x_static.device
    t = torch.randint(n_times, (n,), generator=generator, device=device)
    eps_static, eps_dynamic = (
        torch.randn(x.shape, generator=generator, device=device) for x in (batch.x_static, batch.x_dynamic)
    )
    return Draw(t, eps_static, eps_dynamic, torch.zeros_like(batch.observed_static))


def published_losses(
    model: Model, batch: Batch, noise: Draw, blend: Tensor, schedule: Schedule, length: int
) -> tuple[Tensor, Tensor]:
    """Return the noise loss and the reconstruction loss, whose sum is trained on; means over times 0..length-1.

    The reconstruction answers with a blend: x_0_hat = (x_t - noise_t eps~) / signal_t,
    eps~ = r eps + (1 - r) eps_hat, so that its error is (noise_t / signal_t) (1 - r) (eps - eps_hat).

    Parameters
    ----------
    blend : r, uniform on [0, 1], of the shape of x_dynamic (B, C, P), whose times from `length` on are pad.
    """
    signal_t, noise_t = coefficients(schedule, noise.t)
    x_0, eps = batch.x_dynamic, noise.eps_dynamic
    x_t = q_sample(x_0, eps, signal_t, noise_t)
    _, eps_hat = model(batch.x_static, x_t, noise.t, noise.given)
    eps_hat = eps_hat.float()
    blended = blend * eps + (1 - blend) * eps_hat
    x_0_hat = (x_t - noise_t * blended) / (signal_t + 1e-8)
    difference, reconstruction = (((a - b) ** 2)[:, :, :length].mean() for a, b in ((eps_hat, eps), (x_0_hat, x_0)))
    return difference, RECONSTRUCTION_WEIGHT * reconstruction
