"""Patients in fixed blocks: each block a pure function of (network, table of the sampler, seed, block number)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hg3.config import HeadsConfig, SamplingConfig
from hg3.diffusion.heads import bounds_table, head_table
from hg3.diffusion.loss import Model, channelwise
from hg3.errors import ReleaseError
from hg3.layout import Block, Layout
from hg3.philox import Stream, stream_word
from hg3.sampling.ops import reverse_step, reverse_step_
from hg3.sampling.solvers import SamplerTable

BLOCK_PATIENTS = 256  # fixed: the bytes of a patient depend on the size of the batch that computes it
MOST_RETRIES = 100
SHOWN_PATIENTS = 5
_UNBOUNDED = torch.tensor([-torch.inf, torch.inf])
_PURE_NOISE = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]])  # a row: x_s = z


@dataclass(frozen=True)
class Sampler:
    """How patients are made, whichever they are.

    Parameters
    ----------
    length : times that the network sees: those of the layout, or more where a preset pads.
    seed : of the release, 64 bits.
    """

    layout: Layout
    heads: HeadsConfig
    guardrail: SamplingConfig
    table: SamplerTable
    length: int
    seed: int
    device: torch.device


@dataclass(frozen=True)
class Condition:
    """Static values that B patients are given: x_static (B, S) clean, and which blocks count, bool (B, blocks).

    The same blocks are given to all of them.
    """

    x_static: Tensor
    given: Tensor


@dataclass(frozen=True)
class Sample:
    """B sampled patients in model space: x_static (B, S), x_dynamic (B, C, L), float32.

    moved, attempts : int64, shape (B,): entries that the guardrail moved, over all steps, and how often the patient
    was sampled until the range filter, if there is one, let it pass.
    """

    x_static: Tensor
    x_dynamic: Tensor
    moved: Tensor
    attempts: Tensor


@dataclass
class _Half:
    """The static or the dynamic half of a batch on its way from noise to data, (B, C, L) with L = 1 if static."""

    x: Tensor
    x_0_prev: Tensor
    layout: Tensor
    bounds: Tensor
    stream: Tensor

    @classmethod
    def start(
        cls,
        blocks: tuple[Block, ...],
        sampler: Sampler,
        length: int,
        streams: tuple[Stream, Stream],
        retry: int,
        patient: Tensor,
    ) -> "_Half":
        device, heads = patient.device, sampler.heads
        first, step = (torch.full_like(patient, stream_word(stream, retry)) for stream in streams)
        seed = torch.tensor(sampler.seed, device=device)
        layout = head_table(blocks, heads.real, heads.category).to(device)
        bounds = bounds_table(blocks, heads.category, sampler.guardrail.clamp).to(device)
        rows, zero = _PURE_NOISE.to(device), torch.zeros(len(patient), len(layout), length, device=device)
        now = torch.zeros_like(seed)
        x = reverse_step(zero, zero, zero, rows, now, layout, bounds, seed, patient, first)[0]
        return cls(x, zero, layout, bounds, step)

    def advance(self, raw: Tensor, rows: Tensor, step: Tensor, seed: Tensor, patient: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step; return the moved and the non-finite entries per patient."""
        return reverse_step_(
            self.x, raw, self.x_0_prev, rows, step, self.layout, self.bounds, seed, patient, self.stream
        )


def sample_patients(model: Model, patients: range, sampler: Sampler, condition: Condition | None = None) -> Sample:
    """Return the patients with the numbers `patients`, on the host; the same ones for the same range, always.

    Parameters
    ----------
    model : any callable (x_static (B, S), x_dynamic (B, C, L), t (B,), given (B, static blocks)) -> raw predictions
        of the first two's shapes; t is (1,) here, so that what depends on it alone is computed once a step.

    Raises
    ------
    ReleaseError
        If the network returned NaN or infinity for any of them (the patients and the step are named), or one was
        rejected by the range filter 100 times.
    """
    numbers = torch.arange(patients.start, patients.stop, device=sampler.device)
    condition = condition or _unconditioned(len(patients), sampler)
    sample = _attempt(model, numbers, sampler, condition, retry=0)
    again = _leaves_range(sample, sampler)
    for retry in range(1, MOST_RETRIES + 1):
        if not bool(again.any()):
            break
        part = Condition(condition.x_static[again], condition.given[again])
        redone = _attempt(model, numbers[again], sampler, part, retry)
        for kept, new in zip(vars(sample).values(), vars(redone).values(), strict=True):
            kept[again] = new
        again[again.clone()] = _leaves_range(redone, sampler)
    if bool(again.any()):
        raise ReleaseError(
            f"{int(again.sum())} patients ({_shown(numbers[again].tolist())}) left the range of the training data "
            f"{MOST_RETRIES + 1} times: the network has not learnt; train longer, or choose another preset"
        )
    return Sample(*(part.cpu() for part in vars(sample).values()))


def _unconditioned(n_patients: int, sampler: Sampler) -> Condition:
    x_static = torch.zeros(n_patients, sampler.layout.n_static, device=sampler.device)
    given = torch.zeros(n_patients, len(sampler.layout.static), dtype=torch.bool, device=sampler.device)
    return Condition(x_static, given)


def _leaves_range(sample: Sample, sampler: Sampler) -> Tensor:
    """Return which patients the range filter rejects, bool (B,): a real is out of its bounds at some time."""
    rejected = torch.zeros_like(sample.moved, dtype=torch.bool)
    if sampler.guardrail.range_filter:
        for block in (b for b in sampler.layout.dynamic if b.kind == "real"):
            x = sample.x_dynamic[:, block.start]
            rejected |= ((x < block.low) | (x > block.high)).any(dim=1)
    return rejected


def _attempt(model: Model, patient: Tensor, sampler: Sampler, condition: Condition, retry: int) -> Sample:
    """Sample the patients `patient` (B,) once, with the noise of their retry-th attempt."""
    seed = torch.tensor(sampler.seed, device=patient.device)
    rows = torch.as_tensor(sampler.table.rows, dtype=torch.float32, device=patient.device)
    layout, streams = sampler.layout, (Stream.INITIAL_STATIC, Stream.STEP_STATIC)
    static = _Half.start(layout.static, sampler, 1, streams, retry, patient)
    streams = (Stream.INITIAL_DYNAMIC, Stream.STEP_DYNAMIC)
    dynamic = _Half.start(layout.dynamic, sampler, sampler.length, streams, retry, patient)
    fixed = channelwise(condition.given, layout.static)
    static.bounds = torch.where(fixed[0][:, None], _UNBOUNDED.to(rows.device), static.bounds)
    moved, nonfinite = torch.zeros_like(patient), []
    # made once: a number sent to a GPU at every step would make the host wait for all that the GPU has still to do
    times = torch.as_tensor(sampler.table.times, device=patient.device)
    steps = torch.arange(len(times), device=patient.device)
    with torch.inference_mode():
        for step, t in zip(steps, times.split(1), strict=True):
            x_static = torch.where(fixed, condition.x_static, static.x[:, :, 0])
            raw_static, raw_dynamic = model(x_static, dynamic.x, t, condition.given)
            counts = [
                half.advance(raw, rows, step, seed, patient)
                for half, raw in ((static, raw_static[:, :, None]), (dynamic, raw_dynamic))
            ]
            moved = moved + counts[0][0] + counts[1][0]
            nonfinite.append(counts[0][1] + counts[1][1])
        for half in (static, dynamic):  # what no network is asked about again
            nonfinite.append((~torch.isfinite(half.x)).sum(dim=(1, 2)))
        refuse_nonfinite(torch.stack(nonfinite), patient.tolist())
        x_static = torch.where(fixed, condition.x_static, static.x[:, :, 0])
    x_dynamic = dynamic.x[:, :, : layout.length]
    return Sample(x_static.clone(), x_dynamic.clone(), moved.clone(), torch.full_like(patient, retry + 1))


def refuse_nonfinite(nonfinite: Tensor, patients: Sequence[int]) -> None:
    """Raise if any entry of `nonfinite` (steps, B) is not 0: such a block is never released."""
    if not bool((nonfinite > 0).any()):
        return
    bad = [patients[i] for i in torch.nonzero(nonfinite.sum(dim=0)).flatten().tolist()]
    step = int(torch.nonzero(nonfinite.sum(dim=1)).flatten()[0])
    raise ReleaseError(
        f"the network returned NaN or infinity for {len(bad)} patients ({_shown(bad)}), first at step {step}; the "
        "block is refused: train again with a lower learning rate, or with training.precision=float32"
    )


def _shown(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:SHOWN_PATIENTS])) + (", ..." if len(numbers) > SHOWN_PATIENTS else "")


def block_range(number: int, block_patients: int = BLOCK_PATIENTS) -> range:
    """Return the patient numbers of block `number`; the last block of a release is computed whole and cut later."""
    return range(number * block_patients, (number + 1) * block_patients)
