"""The 1-D U-Net: noisy static vector and dynamic matrix in, raw predictions for both out.

Activations are (B, L, W), channels last: layer norms and linear maps read them as they are, and convolutions see
them as channels-last images of height 1, which is the fast path on CPUs and GPUs alike.
"""

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hg3.config import NetworkConfig
from hg3.diffusion.chain import Chains
from hg3.diffusion.schedule import Schedule
from hg3.layout import Block, Layout

TIME_FEATURES = 128

Module = TypeVar("Module", bound=nn.Module)


class UNet(nn.Module):
    """Denoiser of x_static (B, S) and x_dynamic (B, C, L) at times t (B,), or (1,) where all patients share it.

    Static blocks that are `given`, bool (B, static blocks), hold clean values at any time: a condition.

    Each level has ceil(length / 2^level) times and no pad: where a length is odd, a convolution reads a zero after its
    end, and no normalisation looks along time.

    Two short cuts give what many layers would have to learn. The time means of the input reach every block through
    FiLM: under strong noise they are what is known of a patient's own level. And a category's logits begin with what
    its own noisy channels say (see `evidence`) and with what all times of its chain say, where the layout has one (see
    `Chains`), so that the layers are left with the rest. A column that is no Markov chain is held for smoother than it
    is: how far a chain is trusted is learned.

    Parameters
    ----------
    layout : gives S, C, L and which channels are categories; schedule : gives T and the strength of the evidence.
    """

    channels_last = True
    padding = 0
    evidence: Tensor
    static_codes: Tensor
    dynamic_codes: Tensor
    static_blocks: Tensor

    def __init__(self, layout: Layout, schedule: Schedule, config: NetworkConfig) -> None:
        super().__init__()
        n_static, n_dynamic, length = layout.n_static, layout.n_dynamic, layout.length
        n_input = n_dynamic + n_static + len(layout.static)
        width, levels = config.width, config.levels
        self.n_times = schedule.T
        self.register_buffer("evidence", evidence(schedule), persistent=False)
        self.register_buffer("static_codes", code_channels(layout.static), persistent=False)
        self.register_buffer("dynamic_codes", code_channels(layout.dynamic), persistent=False)
        blocks = [number for number, block in enumerate(layout.static) for _ in range(block.width)]
        self.register_buffer("static_blocks", torch.tensor(blocks, dtype=torch.long), persistent=False)
        self.time = nn.Sequential(nn.Linear(TIME_FEATURES, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.level = nn.Sequential(nn.Linear(n_input, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        n_positions = length + -length % 2**levels  # those past the end are never read; checkpoints hold them
        self.position = nn.Parameter(0.02 * torch.randn(n_positions, width))
        self.enter = nn.Linear(n_input, width)
        self.down_blocks = nn.ModuleList(ResidualBlock(width) for _ in range(levels))
        self.downs = nn.ModuleList(TimeConv(width, 4, stride=2) for _ in range(levels))
        self.middle = nn.ModuleList([ResidualBlock(width), Attention(width, config.heads), ResidualBlock(width)])
        self.ups = nn.ModuleList(TimeUpConv(width) for _ in range(levels))
        self.up_blocks = nn.ModuleList(ResidualBlock(width) for _ in range(levels))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, n_dynamic))
        self.chains = Chains(layout.chains, layout.dynamic)
        self.trust = _zeroed(nn.Linear(4 * width, n_dynamic)) if layout.chains else None
        self.static_chains = Chains(layout.static_chains, layout.static)
        self.static_trust = _zeroed(nn.Linear(4 * width, n_static)) if layout.static_chains else None
        self.leave_static = _pooled_head(width, n_static) if n_static else None

    def forward(self, x_static: Tensor, x_dynamic: Tensor, t: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return raw predictions for x_static, (B, S), and for x_dynamic, (B, C, L)."""
        length = x_dynamic.shape[2]
        static = torch.cat([x_static, given.to(x_static.dtype)], dim=1)
        level = torch.cat([x_dynamic.sum(dim=2) / math.sqrt(length), static], dim=1)  # unit variance in pure noise
        time = F.silu(self.time(time_features(t, self.n_times)) + self.level(level))  # (B, 4W)
        everywhere = static[:, None, :].expand(-1, length, -1)
        h = self.enter(torch.cat([x_dynamic.transpose(1, 2), everywhere], dim=2)) + self.position[:length]
        skips = []
        for block, down in zip(self.down_blocks, self.downs, strict=True):
            h = block(h, time)
            skips.append(h)
            h = down(h)
        first, attention, last = self.middle
        h = last(attention(first(h, time)), time)
        pooled = h.mean(dim=1)  # (B, W)
        for block, up in zip(self.up_blocks, self.ups, strict=True):
            skip = skips.pop()
            h = block(up(h)[:, : skip.shape[1]] + skip, time)
        strength = self.evidence[t][:, None]  # (B, 1)
        own = (strength * self.dynamic_codes)[:, :, None] * x_dynamic
        raw_dynamic = self.leave(h).transpose(1, 2) + own
        if self.trust is not None:
            raw_dynamic = raw_dynamic + (1.0 + self.trust(time)[:, :, None]) * self.chains(own)
        if self.leave_static is None:
            return x_static, raw_dynamic
        clean = given[:, self.static_blocks]  # (B, S)
        own = torch.where(clean, self.evidence[0], strength) * self.static_codes * x_static
        raw_static = self.leave_static(torch.cat([pooled, h.mean(dim=1)], dim=1)) + own
        if self.static_trust is not None:
            raw_static = raw_static + (1.0 + self.static_trust(time)) * self.static_chains(own[:, :, None])[:, :, 0]
        return raw_static, raw_dynamic


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(film(norm(x)))))): FiLM (Perez et al. 2018) tells it the diffusion time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.LayerNorm(width, elementwise_affine=False), nn.LayerNorm(width)
        self.film = nn.Linear(4 * width, 2 * width)
        self.conv_in, self.conv_out = TimeConv(width, 3), _zeroed(TimeConv(width, 3))  # early training needs identities

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return (B, L, W) from x (B, L, W) and time features (B, 4W)."""
        gamma, beta = self.film(time)[:, None, :].chunk(2, dim=2)
        h = self.conv_in(F.silu(self.norm_in(x) * (1 + gamma) + beta))
        return x + self.conv_out(F.silu(self.norm_out(h)))


class TimeConv(nn.Module):
    """Convolution over time of (B, L, W), kernel 3, or kernel 4 and stride 2, which gives ceil(L / 2) times."""

    def __init__(self, width: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        conv = nn.Conv2d(width, width, (1, kernel))
        self.weight, self.bias, self.stride = conv.weight, conv.bias, stride

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] % self.stride:
            x = F.pad(x, (0, 0, 0, 1))
        return _as_sequence(F.conv2d(_as_image(x), self.weight, self.bias, stride=(1, self.stride), padding=(0, 1)))


class TimeUpConv(nn.Module):
    """Transposed convolution (kernel 4, stride 2) that doubles the length of (B, L, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        conv = nn.ConvTranspose2d(width, width, (1, 4))
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        return _as_sequence(F.conv_transpose2d(_as_image(x), self.weight, self.bias, stride=(1, 2), padding=(0, 1)))


class Attention(nn.Module):
    """Self-attention over time, which carries what a convolution of local reach cannot: the patient's own level."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out = _zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, W) from x (B, L, W)."""
        qkv = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1))  # (B, L, 3, heads, W / heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def evidence(schedule: Schedule) -> Tensor:
    """Return by how much a channel of a noisy one-hot block speaks for its code, float32, shape (T,).

    x_t = signal_t x_0 + noise_t eps with x_0 in {-1, 1} has log p(x_t | code k) = 2 signal_t x_t[k] / noise_t^2 up to
    a constant (Bayes, Gaussian noise).
    """
    return torch.as_tensor(2.0 * schedule.signal / schedule.noise**2).float()


def code_channels(blocks: tuple[Block, ...]) -> Tensor:
    """Return which channels encode a code, float32, shape (channels,): 1 for a category, 0 for a real."""
    return torch.tensor([float(block.kind == "category") for block in blocks for _ in range(block.width)])


def _zeroed(module: Module) -> Module:
    """Return a module whose output begins as 0: the path around it is all there is at first."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def _pooled_head(width: int, n_static: int) -> nn.Sequential:
    """Return the layers from features pooled over time, (B, 2W), to raw static predictions, (B, S)."""
    return nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, n_static))


def time_features(t: Tensor, n_times: int) -> Tensor:
    """Return sinusoidal features (B, 128) of times t (B,), scaled to 0..1000 (Vaswani et al. 2017, section 3.5)."""
    half = TIME_FEATURES // 2
    frequency = torch.exp(-math.log(10_000.0) * torch.arange(half, device=t.device) / half)
    angle = (t.float() * (1000.0 / n_times))[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _as_image(x: Tensor) -> Tensor:
    """View (B, L, W) as a channels-last image (B, W, 1, L), without a copy."""
    return x.transpose(1, 2).unsqueeze(2)


def _as_sequence(image: Tensor) -> Tensor:
    """View a channels-last image (B, W, 1, L) as (B, L, W)."""
    return image.squeeze(2).transpose(1, 2)
