"""hg3::reverse_step, the one operator of sampling: head, guardrail, update and noise.

Where the compiled extension is absent, the torch implementation below is registered under the same schema; where it
is present but cannot be loaded, the error surfaces.
"""

from importlib.util import find_spec

import torch
from torch import Tensor

from hg3.diffusion.heads import predict_x_0
from hg3.sampling.philox import normal
from hg3.sampling.solvers import STEP_STD

NAME = "hg3::reverse_step"
SCHEMA = (
    "(Tensor x_t, Tensor raw, Tensor x_0_prev, Tensor rows, Tensor step, Tensor layout, Tensor bounds, "
    "Tensor seed, Tensor patient, Tensor stream) -> (Tensor, Tensor, Tensor, Tensor)"
)
IMPLEMENTATION = "extension" if find_spec("hg3._C") is not None else "torch"

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
    check_arguments(x_t, raw, x_0_prev, rows, layout, bounds, patient, stream)
    signal_t, noise_t, a, b0, b1, step_std, history = rows.index_select(0, step.reshape(1))[0].float().unbind()
    x_0_hat, moved, nonfinite = predict_x_0(x_t, raw, signal_t, noise_t, layout, bounds)
    # 0 times an uninitialised NaN is NaN, so x_0_prev is masked, not multiplied away.
    past = torch.where(history > 0, b1 * x_0_prev, 0.0)
    x_s = a * x_t + b0 * x_0_hat + past
    on_cpu = x_t.device.type == "cpu"
    if not (on_cpu and rows[int(step), STEP_STD] == 0):  # a look at the row is free on a CPU; a GPU would stall
        x_s = x_s + step_std * normal(seed, patient, stream, step, x_t.shape[1], x_t.shape[2])
    return x_s.contiguous(), x_0_hat.contiguous(), moved, nonfinite


def check_arguments(
    x_t: Tensor,
    raw: Tensor,
    x_0_prev: Tensor,
    rows: Tensor,
    layout: Tensor,
    bounds: Tensor,
    patient: Tensor,
    stream: Tensor,
) -> None:
    """Raise ValueError in a sentence if x_t is not float32 or shapes do not fit its (B, C, L)."""
    if x_t.dim() != 3:
        raise ValueError(f"{NAME}: x_t has shape {tuple(x_t.shape)}, expected (B, C, L)")
    if x_t.dtype != torch.float32:
        raise ValueError(f"{NAME}: x_t is {x_t.dtype}, expected torch.float32")
    batch, channels = x_t.shape[0], x_t.shape[1]
    wanted = (
        ("raw", raw, tuple(x_t.shape)),
        ("x_0_prev", x_0_prev, tuple(x_t.shape)),
        ("rows", rows, (rows.shape[0], 7)),
        ("layout", layout, (channels, 3)),
        ("bounds", bounds, (channels, 2)),
        ("patient", patient, (batch,)),
        ("stream", stream, (batch,)),
    )
    for name, tensor, shape in wanted:
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{NAME}: {name} has shape {tuple(tensor.shape)}, expected {shape}")


if IMPLEMENTATION == "extension":
    from hg3 import _C  # noqa: F401  an ImportError here is a broken build: let it surface
else:
    torch.library.define(NAME, SCHEMA)
    torch.library.impl(NAME, "CompositeExplicitAutograd")(_reverse_step_torch)


@torch.library.register_fake(NAME)  # type: ignore[untyped-decorator]
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
    plain = torch.empty(x_t.shape, dtype=torch.float32, device=x_t.device)
    counts = torch.empty(x_t.shape[:1], dtype=torch.int64, device=x_t.device)
    return plain, torch.empty_like(plain), counts, torch.empty_like(counts)


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
    x_0_prev : the x_0_hat of the step before; not read where the row's history flag is 0, and x_0_hat is undefined
        there.
    rows : float32, shape (N, 7), of a `SamplerTable`; step : int64 scalar tensor, the row to take. Both are tensors
        so that a captured graph replays the right row and the right noise.
    layout, bounds : of `heads.head_table` and `heads.bounds_table`.
    seed : int64 scalar tensor; patient, stream : int64, shape (B,); see `philox.normal`.
    """
    return torch.ops.hg3.reverse_step.default(x_t, raw, x_0_prev, rows, step, layout, bounds, seed, patient, stream)
