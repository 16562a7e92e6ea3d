"""hg3::reverse_step, the one operator of sampling: head, guardrail, update and noise.

The torch implementation below serves every device that the compiled extension has no kernel for, see `hg3.extension`.
"""

import torch
from torch import Tensor

from hg3.diffusion.heads import predict_x_0
from hg3.extension import register
from hg3.philox import normal
from hg3.sampling.check_arguments import check_devices, check_reverse_step, check_tables
from hg3.sampling.solvers import HISTORY, STEP_STD

NAME = "hg3::reverse_step"
ARGUMENTS = "Tensor rows, Tensor step, Tensor layout, Tensor bounds, Tensor seed, Tensor patient, Tensor stream"
SCHEMAS = (
    f"reverse_step(Tensor x_t, Tensor raw, Tensor x_0_prev, {ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor)",
    f"reverse_step_(Tensor(a!) x, Tensor raw, Tensor(b!) x_0, {ARGUMENTS}) -> (Tensor, Tensor)",
)

Result = tuple[Tensor, Tensor, Tensor, Tensor]


def _reverse_step_torch(
    x_t: Tensor,
    raw: Tensor,
    x_0_prev: Tensor,
    rows: Tensor,
    step: Tensor,
    layout: Tensor,
    bounds: Tensor,
    seed: Tensor,
    patient: Tensor,
    stream: Tensor,
) -> Result:
    check_reverse_step(x_t, raw, x_0_prev, rows, step, layout, bounds, seed, patient, stream)
    on_cpu = x_t.device.type == "cpu"
    if on_cpu:  # a look at the tables is free on a CPU; a GPU would stall
        check_tables(int(step), len(rows), layout.tolist())
    signal_t, noise_t, a, b0, b1, step_std, history = rows.index_select(0, step.reshape(1))[0].float().unbind()
    x_0_hat, moved, nonfinite = predict_x_0(x_t, raw, signal_t, noise_t, layout, bounds)
    # 0 times an uninitialised NaN is NaN, so x_0_prev is masked, not multiplied away.
    past = torch.where(history > 0, b1 * x_0_prev, 0.0)
    x_s = a * x_t + b0 * x_0_hat + past
    if not (on_cpu and rows[int(step), STEP_STD] == 0):
        x_s = x_s + step_std * normal(seed, patient, stream, step, x_t.shape[1], x_t.shape[2])
    return x_s.contiguous(), x_0_hat.contiguous(), moved, nonfinite


def _reverse_step_in_place_torch(x: Tensor, raw: Tensor, x_0: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    x_s, x_0_hat, moved, nonfinite = _reverse_step_torch(x, raw, x_0, *rest)
    for name, tensor in (("x", x), ("x_0", x_0)):
        if not tensor.is_contiguous():
            raise ValueError(f"{NAME}_: {name} is not contiguous; use reverse_step")
    if _share_memory(x, x_0):
        raise ValueError(f"{NAME}_: x and x_0 lie over one another, expected two tensors")
    rows, step = rest[:2]
    x.copy_(x_s)
    x_0.copy_(torch.where(rows.index_select(0, step.reshape(1))[0, HISTORY] > 0, x_0_hat, x_0))
    return moved, nonfinite


def _share_memory(one: Tensor, other: Tensor) -> bool:
    """Whether two contiguous tensors have bytes in common."""
    (first, size), (second, other_size) = ((t.data_ptr(), t.numel() * t.element_size()) for t in (one, other))
    return size > 0 and other_size > 0 and first < second + other_size and second < first + size


def _reverse_step_fake(
    x_t: Tensor,
    raw: Tensor,
    x_0_prev: Tensor,
    rows: Tensor,
    step: Tensor,
    layout: Tensor,
    bounds: Tensor,
    seed: Tensor,
    patient: Tensor,
    stream: Tensor,
) -> Result:
    check_devices(x_t, raw, x_0_prev, rows, step, layout, bounds, seed, patient, stream)
    plain = torch.empty(x_t.shape, dtype=torch.float32, device=x_t.device)
    counts = torch.empty(x_t.shape[:1], dtype=torch.int64, device=x_t.device)
    return plain, torch.empty_like(plain), counts, torch.empty_like(counts)


def _reverse_step_in_place_fake(x: Tensor, raw: Tensor, x_0: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    counts = torch.empty(x.shape[:1], dtype=torch.int64, device=x.device)
    return counts, torch.empty_like(counts)


register(SCHEMAS[0], _reverse_step_torch, _reverse_step_fake)
register(SCHEMAS[1], _reverse_step_in_place_torch, _reverse_step_in_place_fake)


def reverse_step(
    x_t: Tensor,
    raw: Tensor,
    x_0_prev: Tensor,
    rows: Tensor,
    step: Tensor,
    layout: Tensor,
    bounds: Tensor,
    seed: Tensor,
    patient: Tensor,
    stream: Tensor,
) -> Result:
    """Return x_s, x_0_hat (B, C, L), and per patient the entries moved by the guardrail and not finite.

    Parameters
    ----------
    x_t : float32, shape (B, C, L); raw : the network's output, float32, bfloat16 or float16, any dense layout.
    x_0_prev : the x_0_hat of the step before; not read where the row's history flag is 0.
    rows : float32, shape (N, 7), of a `SamplerTable`; step : int64 scalar tensor, the row to take. Both are tensors
        so that a captured graph replays the right row and the right noise.
    layout, bounds : of `heads.head_table` and `heads.bounds_table`.
    seed : int64 scalar tensor; patient, stream : int64, shape (B,); see `philox.normal`.
    """
    return torch.ops.hg3.reverse_step.default(x_t, raw, x_0_prev, rows, step, layout, bounds, seed, patient, stream)


def reverse_step_(x: Tensor, raw: Tensor, x_0: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    """Do what `reverse_step` does where x_t and x_0_prev lie, x_s over x and x_0_hat over x_0; return the two counts.

    Where the row's history flag is 0, x_0 is neither read nor written.

    Parameters
    ----------
    x, x_0 : float32, shape (B, C, L), contiguous; the other arguments as in `reverse_step`.
    """
    return torch.ops.hg3.reverse_step_.default(x, raw, x_0, *rest)
