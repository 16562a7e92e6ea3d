"""A sampler is a table: each step of each solver is x_s = a x_t + b0 x_0_hat + b1 x_0_hat_prev + step_std z.

t is the noisier and s the cleaner of two neighbouring times; after the last time signal is 1 and noise 0.
"""

from dataclasses import dataclass

import numpy as np

from hg3.diffusion.schedule import Schedule
from hg3.errors import ConfigError

FIRST_LOG_SNR = -4.0  # where the grid starts after T-1: below it a patient is not yet decided
SIGNAL, NOISE, A, B0, B1, STEP_STD, HISTORY = range(7)  # the entries of a row


@dataclass(frozen=True, eq=False)
class SamplerTable:
    """The steps of a sampler.

    Parameters
    ----------
    times : int64, shape (N,), decreasing from T-1; rows : float64, shape (N, 7).
    """

    solver: str
    times: np.ndarray
    rows: np.ndarray


def time_grid(schedule: Schedule, n_steps: int) -> np.ndarray:
    """Return `n_steps` different times, decreasing: T-1, then uniform in lambda from -4 to the last.

    With more steps than there are times above lambda = -4, the cleanest n_steps - 1 times.

    Raises
    ------
    ConfigError
        If n_steps is below 2 or above T.
    """
    if not 2 <= n_steps <= schedule.T:
        raise ConfigError(f"{n_steps} steps were asked for; the schedule allows 2 to {schedule.T}")
    log_snr = schedule.log_snr
    n_available = int((log_snr[:-1] >= FIRST_LOG_SNR).sum())
    if n_steps - 1 >= n_available:
        return np.concatenate([[schedule.T - 1], np.arange(n_steps - 2, -1, -1)])
    targets = np.linspace(log_snr[0], FIRST_LOG_SNR, n_steps - 1)  # from clean to noisy
    nearest = np.abs(log_snr[:, None] - targets).argmin(axis=0)
    rank = np.arange(n_steps - 1)
    apart = np.maximum.accumulate(nearest - rank) + rank  # where two want one time, the noisier takes the next
    apart = np.minimum(apart, n_available - len(rank) + rank)
    return np.array([schedule.T - 1, *apart[::-1]])


def _neighbours(schedule: Schedule, times: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return signal_t, noise_t, signal_s, noise_s along the grid, each (N,)."""
    signal, noise = schedule.signal[times], schedule.noise[times]
    return signal, noise, np.append(signal[1:], 1.0), np.append(noise[1:], 0.0)


def _ancestral_rows(schedule: Schedule, times: np.ndarray) -> np.ndarray:
    """Ho et al. 2020, eq. 7: the posterior mean given x_0_hat, and the posterior standard deviation."""
    signal_t, noise_t, signal_s, noise_s = _neighbours(schedule, times)
    beta = 1.0 - (signal_t / signal_s) ** 2
    a = (signal_t / signal_s) * (noise_s / noise_t) ** 2
    b0 = signal_s * beta / noise_t**2
    step_std = np.sqrt(beta) * noise_s / noise_t
    zero = np.zeros_like(a)
    return np.stack([signal_t, noise_t, a, b0, zero, step_std, zero], axis=1)


def _dpm_rows(schedule: Schedule, times: np.ndarray) -> np.ndarray:
    """DPM-Solver++(2M), Lu et al. 2022, algorithm 2.

    D = (1 + 1/(2r)) x_0_hat - 1/(2r) x_0_hat_prev, r = h_prev / h, h = lambda_s - lambda_t, and
    x_s = (noise_s / noise_t) x_t - signal_s (exp(-h) - 1) D. The first two steps (one starts at nearly no signal,
    where lambda leaps) and the last (where h is infinite) are first order: D = x_0_hat.
    """
    signal_t, noise_t, signal_s, noise_s = _neighbours(schedule, times)
    a = noise_s / noise_t
    weight = signal_s - a * signal_t  # = -signal_s (exp(-h) - 1), finite where h is not
    h = np.diff(schedule.log_snr[times])
    second = np.zeros(len(times))
    second[2:-1] = h[2:] / (2.0 * h[1:-1])  # 1 / (2r)
    history = np.ones(len(times))
    history[-1] = 0.0
    zero = np.zeros_like(a)
    return np.stack([signal_t, noise_t, a, weight * (1 + second), -weight * second, zero, history], axis=1)


SOLVERS = {"ancestral": _ancestral_rows, "dpm++": _dpm_rows}


def sampler_table(solver: str, schedule: Schedule, n_steps: int) -> SamplerTable:
    """Return the table of `solver` with exactly `n_steps` network calls.

    Raises
    ------
    ConfigError
        If the solver is unknown or the schedule has not so many times.
    """
    if solver not in SOLVERS:
        raise ConfigError(f"solver {solver!r} is unknown; choose one of {', '.join(sorted(SOLVERS))}")
    times = time_grid(schedule, n_steps)
    return SamplerTable(solver, times, SOLVERS[solver](schedule, times))
