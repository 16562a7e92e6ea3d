"""A sampler is a table: each step of each solver is x_s = a x_t + b0 x_0_hat + b1 x_0_hat_prev + step_std z.

t is the noisier and s the cleaner of two neighbouring times; after the last time signal is 1 and noise 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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


def _rows(schedule: Schedule, times: np.ndarray, eta: float, second_order: bool) -> np.ndarray:
    """Return the rows of a solver: how much of the noise is drawn anew (`eta`), and of which order the mean is.

    step_std = eta (noise_s / noise_t) sqrt(beta_t) (Song et al. 2021, eq. 16): eta = 1 is the ancestral step with the
    posterior variance (Ho et al. 2020, eq. 7), eta = 0 the probability-flow ODE. The mean is a x_t + weight D.
    First order: D = x_0_hat. Second order (Lu et al. 2022, algorithm 2, and appendix A for the SDE):
    D = (1 + 1/(2r)) x_0_hat - 1/(2r) x_0_hat_prev, r = h_prev / h, h = lambda_s - lambda_t, but on the first two steps
    (one starts at nearly no signal, where lambda leaps) and on the last (where h is infinite) D = x_0_hat.
    """
    signal_t, noise_t, signal_s, noise_s = _neighbours(schedule, times)
    decay = (signal_t * noise_s) / (noise_t * signal_s)  # exp(-h), finite where h is not
    step_std = eta * noise_s * np.sqrt(1.0 - decay**2)
    a = (noise_s / noise_t) * np.sqrt(1.0 - eta**2 * (1.0 - decay**2))
    weight = signal_s - a * signal_t
    second, history = np.zeros_like(a), np.zeros_like(a)
    if second_order:
        h = np.diff(schedule.log_snr[times])
        second[2:-1] = h[2:] / (2.0 * h[1:-1])  # 1 / (2r)
        history[:-1] = 1.0
    return np.stack([signal_t, noise_t, a, weight * (1 + second), -weight * second, step_std, history], axis=1)


def _wide_ancestral_rows(schedule: Schedule, times: np.ndarray) -> np.ndarray:
    """Ancestral with variance beta_t, the other choice of Ho et al. 2020, section 3.2, and the one of Health Gym v3."""
    rows = _rows(schedule, times, eta=1.0, second_order=False)
    signal_t, _, signal_s, _ = _neighbours(schedule, times)
    rows[:-1, STEP_STD] = np.sqrt(1.0 - (signal_t / signal_s) ** 2)[:-1]
    return rows


SOLVERS: dict[str, Callable[[Schedule, np.ndarray], np.ndarray]] = {
    "ancestral": partial(_rows, eta=1.0, second_order=False),
    "ancestral-beta": _wide_ancestral_rows,
    "ddim": partial(_rows, eta=0.0, second_order=False),
    "dpm++": partial(_rows, eta=0.0, second_order=True),
    "sde-dpm++": partial(_rows, eta=1.0, second_order=True),
}


def sampler_table(solver: str, schedule: Schedule, n_steps: int, eta: float | None = None) -> SamplerTable:
    """Return the table of `solver` with exactly `n_steps` network calls.

    Parameters
    ----------
    eta : of ddim alone, 0 (where absent) to 1.

    Raises
    ------
    ConfigError
        If the solver is unknown, eta is not its, or the schedule has not so many times.
    """
    if solver not in SOLVERS:
        raise ConfigError(f"solver {solver!r} is unknown; choose one of {', '.join(sorted(SOLVERS))}")
    if eta is not None and (solver != "ddim" or not 0.0 <= eta <= 1.0):
        raise ConfigError(f"eta {eta:g} was given for solver {solver}; ddim takes an eta from 0 to 1, the others none")
    times = time_grid(schedule, n_steps)
    rows = SOLVERS[solver](schedule, times) if eta is None else _rows(schedule, times, eta, second_order=False)
    return SamplerTable(solver, times, rows)
