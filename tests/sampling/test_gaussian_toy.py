"""Patients that are exactly Gaussian: the best denoiser is known, so what a sampler makes is known without sampling.

x_0 ~ N(MEAN, COVARIANCE) over 2 channels and 4 months. With the exact denoiser E[x_0 | x_t], which is linear, every
step of a sampler is linear too, and mean and covariance of its output follow in float64. They are compared with
MEAN and COVARIANCE; then the operator itself is run, and compared with what must come out.
"""

import math
from functools import lru_cache

import numpy as np
import pytest
import torch

from hg3.config import ScheduleConfig
from hg3.diffusion.heads import bounds_table, head_table
from hg3.diffusion.schedule import Schedule, make_schedule
from hg3.layout import Block
from hg3.philox import Stream, normal, stream_word
from hg3.sampling.ops import reverse_step
from hg3.sampling.solvers import SOLVERS, SamplerTable, sampler_table

CHANNELS, LENGTH = 2, 4
SIZE = CHANNELS * LENGTH
MEAN = np.array([0.3, 0.37, 0.43, 0.5, -0.2, -0.1, 0.0, 0.1])
# months 0.9 correlated with the next, channels -0.5 with each other; from sd 0.06 to 1.0 along the principal axes
MONTHS = 0.9 ** np.abs(np.subtract.outer(np.arange(LENGTH), np.arange(LENGTH)))
COVARIANCE = np.kron(np.array([[0.25, -0.075], [-0.075, 0.09]]), MONTHS)
IDENTITY = np.eye(SIZE)
N_PATIENTS = 20_000
Moments = tuple[np.ndarray, np.ndarray]
OTHERS = {
    "linear": ScheduleConfig(kind="linear", beta_last=0.04),
    "zero-terminal-SNR": ScheduleConfig(kind="linear", beta_last=0.01, zero_terminal_snr=True),
    "sigmoid": ScheduleConfig(kind="sigmoid"),
}


def denoiser(signal: float, noise: float) -> Moments:
    """E[x_0 | x_t] = gain x_t + offset, by conditioning the joint Gaussian of x_0 and x_t."""
    gain = signal * COVARIANCE @ np.linalg.inv(signal**2 * COVARIANCE + noise**2 * IDENTITY)
    return gain, MEAN - gain @ (signal * MEAN)


@lru_cache
def schedule(n_times: int, kind: str = "cosine") -> Schedule:
    return make_schedule(OTHERS[kind] if kind in OTHERS else ScheduleConfig(kind="cosine", steps=n_times))


@lru_cache
def moments_made(solver: str, n_steps: int, n_times: int = 500, kind: str = "cosine") -> Moments:
    """Exact mean and covariance of what the sampler makes from N(0, I): the pair (x, x_0_hat_prev) is linear."""
    mean, covariance = np.zeros(2 * SIZE), np.zeros((2 * SIZE, 2 * SIZE))
    covariance[:SIZE, :SIZE] = IDENTITY
    for signal, noise, a, b0, b1, step_std, _ in sampler_table(solver, schedule(n_times, kind), n_steps).rows:
        gain, offset = denoiser(signal, noise)
        step = np.block([[a * IDENTITY + b0 * gain, b1 * IDENTITY], [gain, 0 * IDENTITY]])
        mean = step @ mean + np.concatenate([b0 * offset, offset])
        covariance = step @ covariance @ step.T
        covariance[:SIZE, :SIZE] += step_std**2 * IDENTITY
    return mean[:SIZE], covariance[:SIZE, :SIZE]


def mean_error(solver: str, n_steps: int) -> float:
    """In standard deviations of the patients, along the direction where it is largest."""
    off = moments_made(solver, n_steps)[0] - MEAN
    return math.sqrt(off @ np.linalg.solve(COVARIANCE, off))


def covariance_error(solver: str, n_steps: int, n_times: int = 500) -> float:
    """Relative, in the Frobenius norm."""
    return float(np.linalg.norm(moments_made(solver, n_steps, n_times)[1] - COVARIANCE) / np.linalg.norm(COVARIANCE))


def variance_ratios(solver: str, n_steps: int) -> np.ndarray:
    """Made over true variance along every direction that matters: eigenvalues after whitening, ascending."""
    whiten = np.linalg.inv(np.linalg.cholesky(COVARIANCE))
    return np.linalg.eigvalsh(whiten @ moments_made(solver, n_steps)[1] @ whiten.T)


def test_ancestral_at_500_steps_is_nearly_exact() -> None:
    # Measured: 6.5e-9, what alpha_bar = 1e-8 at the start leaves of the mean; 1.05% too narrow, of order 1 / steps;
    # the narrowest direction (sd 0.06) loses 11% of its variance in the last steps.
    assert mean_error("ancestral", 500) < 1e-6
    assert covariance_error("ancestral", 500) < 0.0125
    ratios = variance_ratios("ancestral", 500)
    assert ratios[0] > 0.88 and ratios[-1] < 1.0


def test_the_error_of_ancestral_is_of_first_order() -> None:
    halved = covariance_error("ancestral", 500) / covariance_error("ancestral", 1000, n_times=1000)
    assert halved == pytest.approx(2.0, rel=0.05)


def test_ancestral_at_20_steps_is_far_too_narrow() -> None:
    # Its noise is right for an x_0 that is known, not for one that is guessed: why 20 steps are dpm++'s.
    assert variance_ratios("ancestral", 20)[-1] < 0.65
    assert mean_error("ancestral", 20) < 1e-6


def test_dpm_at_20_steps_is_close() -> None:
    # Measured: mean off by 7e-5 sd, because x_T starts at 0 where the forward process has signal_T MEAN, signal_T
    # being 1e-4, and without noise that is carried along; 2.6% too wide; every direction between 0.995 and 1.027.
    assert mean_error("dpm++", 20) < 1e-4
    assert covariance_error("dpm++", 20) < 0.03
    ratios = variance_ratios("dpm++", 20)
    assert ratios[0] > 0.98 and ratios[-1] < 1.03


def test_dpm_at_500_steps_is_nearly_exact() -> None:
    # Measured: 0.014%. What is left is the jump from the last time, where noise is 0.0094, to the patient: about
    # (0.0094 / sd)^2 of the variance, 2% at sd 0.06, goes missing there.
    assert mean_error("dpm++", 500) < 1e-4
    assert covariance_error("dpm++", 500) < 3e-4
    assert variance_ratios("dpm++", 500)[0] > 0.98


def test_the_error_of_dpm_is_of_second_order() -> None:
    # An error of order 2 falls to a quarter when steps double, one of order 1 to a half.
    assert covariance_error("dpm++", 20) / covariance_error("dpm++", 40) > 3.5
    assert covariance_error("dpm++", 40) / covariance_error("dpm++", 80) > 3.5


def test_ddim_is_of_first_order_and_narrow() -> None:
    # Measured: 21% too narrow at 20 steps, 0.5% at 500: why dpm++ is the default.
    assert covariance_error("ddim", 500) < 6e-3
    assert covariance_error("ddim", 40) / covariance_error("ddim", 80) == pytest.approx(2.0, rel=0.1)
    assert covariance_error("ddim", 20) > 5 * covariance_error("dpm++", 20)


def test_sde_dpm_is_of_second_order() -> None:
    # Measured: 6.3% too wide at 20 steps, 1.1% at 50, 0.03% at 500; the mean is right, for noise forgets the start.
    assert covariance_error("sde-dpm++", 50) < 0.012 and covariance_error("sde-dpm++", 500) < 4e-4
    assert covariance_error("sde-dpm++", 40) / covariance_error("sde-dpm++", 80) > 3.0
    assert mean_error("sde-dpm++", 20) < 1e-6


def test_ancestral_with_variance_beta_is_wide_where_ancestral_is_narrow() -> None:
    # Measured: 0.1% at 500 steps; 63% too wide along the narrowest direction at 20.
    assert covariance_error("ancestral-beta", 500) < 1.5e-3
    assert variance_ratios("ancestral-beta", 20)[-1] > 1.5 > 1.0 > variance_ratios("ancestral", 20)[-1]


def sample(table: SamplerTable, seed: int, head: str = "v") -> np.ndarray:
    """Run the operator as a release does, with the exact denoiser as a network that answers in terms of `head`."""
    blocks = tuple(Block(str(c), "real", c, 1) for c in range(CHANNELS))
    layout, bounds = head_table(blocks, head, "logits"), bounds_table(blocks)
    key, patient = torch.tensor(seed), torch.arange(N_PATIENTS)
    first, stream = (torch.full_like(patient, stream_word(s)) for s in (Stream.INITIAL_DYNAMIC, Stream.STEP_DYNAMIC))
    x = normal(key, patient, first, torch.tensor(0), CHANNELS, LENGTH)
    x_0_prev, rows = torch.zeros_like(x), torch.as_tensor(table.rows, dtype=torch.float32)
    for number, (signal, noise) in enumerate(table.rows[:, :2]):
        gain, offset = denoiser(signal, noise)
        x_t = x.flatten(1).double().numpy()
        x_0 = x_t @ gain.T + offset
        answer = {"eps": (x_t - signal * x_0) / noise, "v": (signal * x_t - x_0) / noise, "x_0": x_0}[head]
        raw = torch.from_numpy(answer).float().unflatten(1, (CHANNELS, LENGTH))
        step = torch.tensor(number)
        x, x_0_prev, _, _ = reverse_step(x, raw, x_0_prev, rows, step, layout, bounds, key, patient, stream)
    return x.flatten(1).double().numpy()


@pytest.mark.parametrize("head", ["eps", "v", "x_0"])
@pytest.mark.parametrize(("solver", "n_steps"), [*((solver, 20) for solver in SOLVERS), ("ancestral", 60)])
def test_sampled_patients_have_the_moments_that_must_come_out(solver: str, n_steps: int, head: str) -> None:
    assert_has_moments(sample(sampler_table(solver, schedule(500), n_steps), seed=11, head=head), solver, n_steps)


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_other_schedules_sample_the_moments_that_must_come_out(solver: str, kind: str) -> None:
    # eps divides by the signal, and the start of zero-terminal-SNR has none: such a head is refused there
    x_0 = sample(sampler_table(solver, schedule(500, kind), 20), seed=11, head="v")
    assert_has_moments(x_0, solver, 20, kind)


def assert_has_moments(x_0: np.ndarray, solver: str, n_steps: int, kind: str = "cosine") -> None:
    mean, covariance = moments_made(solver, n_steps, kind=kind)
    variance = np.diag(covariance)
    # five standard errors of every entry: float32 is four orders of magnitude finer
    mean_se = np.sqrt(variance / N_PATIENTS)
    covariance_se = np.sqrt((np.outer(variance, variance) + covariance**2) / N_PATIENTS)
    assert (np.abs(x_0.mean(axis=0) - mean) < 5 * mean_se).all()
    assert (np.abs(np.cov(x_0.T) - covariance) < 5 * covariance_se).all()


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_other_schedules_end_near_the_patients(solver: str, kind: str) -> None:
    # Measured at 500 steps: covariances 0.01% (dpm++) to 1.9% (ancestral) off. The linear schedule ends with a signal
    # of 6e-3, which solvers without noise carry along: their mean is 2e-3 off, where others' is 1e-5.
    mean, covariance = moments_made(solver, 500, kind=kind)
    assert np.linalg.norm(covariance - COVARIANCE) / np.linalg.norm(COVARIANCE) < 0.02
    assert np.abs(mean - MEAN).max() < (3e-3 if kind == "linear" else 2e-5)


SHARES = np.array([0.02, 0.12, 0.21, 0.65])


@pytest.mark.parametrize(
    ("solver", "eta", "head"),
    [
        *((solver, None, "logits") for solver in SOLVERS),
        *((solver, None, head) for solver in SOLVERS for head in ("eps", "v", "x_0")),
        *(("ddim", eta, "logits") for eta in (0.5, 1.0)),
    ],
)
def test_codes_come_in_their_shares(solver: str, eta: float | None, head: str) -> None:
    """One block of 4 codes; its best denoiser is Bayes, log share + 2 signal x_t / noise^2, in terms of `head`."""
    block = (Block("code", "category", 0, len(SHARES)),)
    layout, bounds = head_table(block, "v", head), bounds_table(block)
    table = sampler_table(solver, schedule(500), 100, eta)
    key, patient = torch.tensor(3), torch.arange(N_PATIENTS)
    first, stream = (torch.full_like(patient, stream_word(s)) for s in (Stream.INITIAL_STATIC, Stream.STEP_STATIC))
    x = normal(key, patient, first, torch.tensor(0), len(SHARES), 1)
    x_0_prev, rows = torch.zeros_like(x), torch.as_tensor(table.rows, dtype=torch.float32)
    prior = torch.from_numpy(np.log(SHARES)).float()[None, :, None]
    for number, (signal, noise) in enumerate(table.rows[:, :2]):
        logits = prior + float(2 * signal / noise**2) * x
        x_0 = 2.0 * logits.softmax(dim=1) - 1.0
        raw = {"logits": logits, "x_0": x_0, "v": (signal * x - x_0) / noise, "eps": (x - signal * x_0) / noise}[head]
        x, x_0_prev, _, _ = reverse_step(
            x, raw.float(), x_0_prev, rows, torch.tensor(number), layout, bounds, key, patient, stream
        )
    made = np.bincount(x[:, :, 0].argmax(dim=1).numpy(), minlength=len(SHARES)) / N_PATIENTS
    # five standard errors, and what 100 steps leave of each solver's own error: first-order ones 1 point
    assert (np.abs(made - SHARES) < 5 * np.sqrt(SHARES * (1 - SHARES) / N_PATIENTS) + 0.01).all()
