"""Patients in fixed blocks: each block a pure function of (network, table of the sampler, seed, block number)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hg3.config import HeadsConfig
from hg3.diffusion.heads import bounds_table, head_table
from hg3.diffusion.loss import Model
from hg3.errors import ReleaseError
from hg3.layout import Block, Layout
from hg3.sampling.ops import reverse_step
from hg3.sampling.philox import Stream, normal, stream_word
from hg3.sampling.solvers import SamplerTable

BLOCK_PATIENTS = 256  # fixed: the bytes of a patient depend on the size of the batch that computes it
SHOWN_PATIENTS = 5


@dataclass(frozen=True)
class Sample:
    """B sampled patients in model space: x_static (B, S), x_dynamic (B, C, L), float32 on the host.

    moved : int64, shape (B,): entries that the guardrail moved, over all steps.
    """

    x_static: np.ndarray
    x_dynamic: np.ndarray
    moved: np.ndarray


@dataclass
class _Half:
    """The static or the dynamic half of a block on its way from noise to data, (B, C, L) with L = 1 if static."""

    x: Tensor
    x_0_prev: Tensor
    layout: Tensor
    bounds: Tensor
    stream: Tensor

    @classmethod
    def start(
        cls,
        blocks: tuple[Block, ...],
        heads: HeadsConfig,
        length: int,
        streams: tuple[Stream, Stream],
        seed: Tensor,
        patient: Tensor,
    ) -> "_Half":
        channels = sum(block.width for block in blocks)
        first, step = (torch.full_like(patient, stream_word(stream)) for stream in streams)
        x = normal(seed, patient, first, torch.zeros_like(seed), channels, length)
        layout, bounds = (
            t.to(patient.device) for t in (head_table(blocks, heads.real, heads.category), bounds_table(blocks))
        )
        return cls(x, torch.zeros_like(x), layout, bounds, step)

    def advance(self, raw: Tensor, rows: Tensor, step: Tensor, seed: Tensor, patient: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step; return the moved and the non-finite entries per patient."""
        self.x, self.x_0_prev, moved, nonfinite = reverse_step(
            self.x, raw, self.x_0_prev, rows, step, self.layout, self.bounds, seed, patient, self.stream
        )
        return moved, nonfinite


def sample_patients(
    model: Model,
    patients: range,
    layout: Layout,
    heads: HeadsConfig,
    table: SamplerTable,
    seed: int,
    device: torch.device,
) -> Sample:
    """Return the patients with the numbers `patients`; the same ones for the same batch size, always.

    Parameters
    ----------
    model : any callable (x_static (B, S), x_dynamic (B, C, L), t (B,)) -> raw predictions of both shapes.
    seed : of the release, 64 bits.

    Raises
    ------
    ReleaseError
        If the network returned NaN or infinity for any of them; the patients and the step are named.
    """
    patient = torch.arange(patients.start, patients.stop, device=device)
    key = torch.tensor(seed, device=device)
    rows = torch.as_tensor(table.rows, dtype=torch.float32, device=device)
    static = _Half.start(layout.static, heads, 1, (Stream.INITIAL_STATIC, Stream.STEP_STATIC), key, patient)
    dynamic = _Half.start(
        layout.dynamic, heads, layout.length, (Stream.INITIAL_DYNAMIC, Stream.STEP_DYNAMIC), key, patient
    )
    moved, nonfinite = torch.zeros_like(patient), []
    with torch.inference_mode():
        for number, t in enumerate(table.times.tolist()):
            step = torch.tensor(number, device=device)
            raw_static, raw_dynamic = model(static.x[:, :, 0], dynamic.x, torch.full_like(patient, t))
            counts = [
                half.advance(raw, rows, step, key, patient)
                for half, raw in ((static, raw_static[:, :, None]), (dynamic, raw_dynamic))
            ]
            moved = moved + counts[0][0] + counts[1][0]
            nonfinite.append(counts[0][1] + counts[1][1])
    refuse_nonfinite(torch.stack(nonfinite), patients)
    return Sample(static.x[:, :, 0].cpu().numpy(), dynamic.x.cpu().numpy(), moved.cpu().numpy())


def refuse_nonfinite(nonfinite: Tensor, patients: range) -> None:
    """Raise if any entry of `nonfinite` (steps, B) is not 0: such a block is never released."""
    if not bool((nonfinite > 0).any()):
        return
    bad = [patients[i] for i in torch.nonzero(nonfinite.sum(dim=0)).flatten().tolist()]
    step = int(torch.nonzero(nonfinite.sum(dim=1)).flatten()[0])
    shown = ", ".join(map(str, bad[:SHOWN_PATIENTS])) + (", ..." if len(bad) > SHOWN_PATIENTS else "")
    raise ReleaseError(
        f"the network returned NaN or infinity for {len(bad)} patients ({shown}), first at step {step}; the block is "
        "refused: train again with a lower learning rate, or with training.precision=float32"
    )


def block_range(number: int, block_patients: int = BLOCK_PATIENTS) -> range:
    """Return the patient numbers of block `number`; the last block of a release is computed whole and cut later."""
    return range(number * block_patients, (number + 1) * block_patients)
