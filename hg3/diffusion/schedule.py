"""The noise schedule alpha_bar_t, t = 0..T-1, in float64."""

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from hg3.config import Preset, ScheduleConfig
from hg3.errors import ConfigError

LARGEST_TERMINAL_ALPHA_BAR = 1e-4  # beyond it a sampler that starts from pure noise draws biased categories
LEAST_EPS_SIGNAL = 1e-30  # an eps head divides by it; what is up to 1e8 over it stays below float32's 3e38
LEAST_NOISE_VARIANCE = 2.0**-30  # 1 - alpha_bar comes in steps of 2^-53, and so has just the 23 bits of a float32


@dataclass(frozen=True, eq=False)
class Schedule:
    """How much of the patient is left at each time.

    Parameters
    ----------
    alpha_bar : float64, shape (T,), strictly decreasing in (0, 1); the last may be 0.
    """

    alpha_bar: np.ndarray

    @property
    def T(self) -> int:  # noqa: N802  the field's symbol
        return len(self.alpha_bar)

    @cached_property
    def signal(self) -> np.ndarray:
        """sqrt(alpha_bar_t), shape (T,)."""
        return np.sqrt(self.alpha_bar)

    @cached_property
    def noise(self) -> np.ndarray:
        """sqrt(1 - alpha_bar_t), shape (T,)."""
        return np.sqrt(1.0 - self.alpha_bar)

    @cached_property
    def log_snr(self) -> np.ndarray:
        """lambda_t = log(signal_t / noise_t), shape (T,), decreasing; -inf where no signal is left."""
        with np.errstate(divide="ignore"):
            return np.log(self.signal) - np.log(self.noise)


def cosine_schedule(n_steps: int, offset: float = 0.008, beta_max: float = 0.999) -> Schedule:
    """Return the cosine schedule of T = `n_steps` times.

    beta_t = min(1 - f(t + 1) / f(t), beta_max), f(u) = cos^2(pi/2 (u / T + offset) / (1 + offset)), alpha_bar the
    running product of 1 - beta (Nichol and Dhariwal 2021, eq. 17). Without beta_max the last alpha_bar would be 0.

    Raises
    ------
    ConfigError
        If n_steps < 2.
    """
    if n_steps < 2:
        raise ConfigError(f"a schedule of {n_steps} steps was asked for; it needs at least 2")
    u = np.arange(n_steps + 1) / n_steps
    f = np.cos(0.5 * np.pi * (u + offset) / (1.0 + offset)) ** 2
    beta = np.minimum(1.0 - f[1:] / f[:-1], beta_max)
    return Schedule(np.cumprod(1.0 - beta))


def linear_schedule(n_steps: int, beta_first: float = 1e-4, beta_last: float = 0.02) -> Schedule:
    """Return the schedule whose beta_t goes linearly from `beta_first` to `beta_last` (Ho et al. 2020, section 4)."""
    return Schedule(np.cumprod(1.0 - np.linspace(beta_first, beta_last, n_steps)))


def sigmoid_schedule(n_steps: int, first: float = -3.0, last: float = 3.0, temperature: float = 1.0) -> Schedule:
    """Return the sigmoid schedule: alpha_bar falls like a sigmoid between `first` and `last` (Jabri et al. 2022).

    Its last alpha_bar is held at 1e-9, as gamma(1) = 0 would leave no signal at all.
    """
    u = np.arange(1, n_steps + 1) / n_steps
    start, end = special.expit(np.array([first, last]) / temperature)
    gamma = (end - special.expit((u * (last - first) + first) / temperature)) / (end - start)
    return Schedule(np.clip(gamma, 1e-9, 1.0 - 1e-9))


def rescaled_to_zero(schedule: Schedule) -> Schedule:
    """Return `schedule` shifted and scaled so that the last time keeps no signal (Lin et al. 2024, algorithm 1)."""
    signal = schedule.signal
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    return Schedule(signal**2)


def schedule_of(preset: Preset) -> Schedule:
    """Return the schedule of a preset, whose heads can work with it.

    Raises
    ------
    ConfigError
        As `make_schedule`, and if a head is eps and sqrt(alpha_bar_{T-1}) < 1e-30.
    """
    schedule, heads = make_schedule(preset.schedule), (preset.heads.real, preset.heads.category)
    left = float(schedule.signal[-1])
    if "eps" in heads and left < LEAST_EPS_SIGNAL:
        raise ConfigError(
            f"heads.real is {heads[0]} and heads.category {heads[1]}, and the schedule ends with a signal of "
            f"{left:.2g}; heads eps divide by it and need at least {LEAST_EPS_SIGNAL:g}: choose other heads, or a "
            "schedule that ends higher"
        )
    return schedule


def make_schedule(config: ScheduleConfig) -> Schedule:
    """Return the schedule that a preset asks for.

    Raises
    ------
    ConfigError
        If 1 - alpha_bar_0 < 2^-30, if alpha_bar does not fall to the end, or if alpha_bar_{T-1} > 1e-4 without
        `allow_terminal_signal`; with it, the consequence is a warning.
    """
    if config.kind == "linear":
        schedule = linear_schedule(config.steps, config.beta_first, config.beta_last)
    else:
        schedule = cosine_schedule(config.steps) if config.kind == "cosine" else sigmoid_schedule(config.steps)
    if config.zero_terminal_snr:
        schedule = rescaled_to_zero(schedule)
    check_first_noise(schedule)
    check_decrease(schedule)
    check_terminal_signal(schedule, config.allow_terminal_signal)
    return schedule


def check_first_noise(schedule: Schedule) -> None:
    """Refuse a schedule with hardly any noise at time 0: heads and network divide by it or by its square.

    Raises
    ------
    ConfigError
        If 1 - alpha_bar_0 < 2^-30. What is divided by it, at most 2^31 = 2 / noise^2, is then far from the largest
        float32; below it, 1 - alpha_bar has fewer digits than a float32, and in the end is 0.
    """
    variance = float(1.0 - schedule.alpha_bar[0])
    if not variance >= LEAST_NOISE_VARIANCE:
        raise ConfigError(
            f"the schedule begins with a noise variance of {variance:.2g}, which the network divides by, and needs at "
            f"least {LEAST_NOISE_VARIANCE:.2g}; choose a schedule that begins noisier, such as schedule.beta_first = "
            "1e-4 of a linear one"
        )


def check_decrease(schedule: Schedule) -> None:
    """Refuse a schedule whose signal is gone before the end, where a step between two times would divide 0 by 0.

    Raises
    ------
    ConfigError
        If alpha_bar is 0 before the last time, or does not fall from each time to the next.
    """
    falls = np.append(schedule.alpha_bar[:-1] > schedule.alpha_bar[1:], True)
    lost = np.flatnonzero(~falls | (schedule.alpha_bar <= 0.0))
    if len(lost) and lost[0] < schedule.T - 1:
        raise ConfigError(
            f"the schedule's alpha_bar is {schedule.alpha_bar[lost[0]]:.2g} at time {lost[0]} of 0 to "
            f"{schedule.T - 1} and falls no further; lower schedule.beta_first and schedule.beta_last, or take fewer "
            "schedule.steps"
        )


def check_terminal_signal(schedule: Schedule, allowed: bool) -> None:
    """Refuse, or if `allowed` warn of, a schedule that never reaches pure noise (Lin et al. 2024, section 3.1)."""
    left = float(schedule.alpha_bar[-1])
    if left <= LARGEST_TERMINAL_ALPHA_BAR:
        return
    consequence = (
        f"the schedule ends at alpha_bar = {left:.2g}, above {LARGEST_TERMINAL_ALPHA_BAR:g}: training never sees pure "
        "noise, sampling starts from it, and constant columns such as sex come out biased"
    )
    if not allowed:
        raise ConfigError(f"{consequence}; choose a schedule that ends lower, or set schedule.allow_terminal_signal")
    warnings.warn(consequence, stacklevel=3)
