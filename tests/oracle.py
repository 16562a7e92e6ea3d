"""Slow, obvious float64 formulas, from the papers and not from hg3: plain numbers, one entry at a time.

A channel is described by (name of its head, block start, block width); arrays are (B, C, L).
"""

import itertools
import math
import statistics
from collections.abc import Sequence

import numpy as np

Channel = tuple[str, int, int]
WORD = 2**32


def cosine_alpha_bar(n_steps: int, offset: float = 0.008, beta_max: float = 0.999) -> np.ndarray:
    """Nichol and Dhariwal 2021, eq. 17; the cosine as the sine of its complement, exact near its zero."""

    def f(t: int) -> float:
        return math.sin(0.5 * math.pi * (1 - t / n_steps) / (1 + offset)) ** 2

    alpha_bar = [1.0]
    for t in range(1, n_steps + 1):
        alpha_bar.append(alpha_bar[-1] * max(f(t) / f(t - 1), 1 - beta_max))
    return np.array(alpha_bar[1:])


def x_t(x_0: np.ndarray, eps: np.ndarray, alpha_bar: float) -> np.ndarray:
    """Ho et al. 2020, eq. 4: a draw of N(sqrt(alpha_bar) x_0, (1 - alpha_bar) I)."""
    return math.sqrt(alpha_bar) * x_0 + math.sqrt(1 - alpha_bar) * eps


def clean_real(head: str, x_t: float, raw: float, signal: float, noise: float) -> float:
    """The x_0 that a prediction implies; v and x_t are two equations in x_0 and eps, solved as such."""
    if head == "eps":
        return (x_t - noise * raw) / signal
    if head == "v":  # v = signal eps - noise x_0 (Salimans and Ho 2022, section 4)
        return float(np.linalg.solve([[signal, noise], [-noise, signal]], [x_t, raw])[0])
    return raw


def softmax(logits: Sequence[float]) -> list[float]:
    """p_k = 1 / sum_j exp(l_j - l_k)."""
    return [1 / sum(math.exp(min(other - this, 700.0)) for other in logits) for this in logits]


def x_0_hat(
    x_t: np.ndarray,
    raw: np.ndarray,
    signal: float,
    noise: float,
    channels: Sequence[Channel],
    bounds: Sequence[tuple[float, float]],
) -> tuple[np.ndarray, list[int], list[int]]:
    """The clean patients that a network's output implies, entries moved into bounds, entries not finite."""
    out = np.zeros(x_t.shape)
    moved, nonfinite = [0] * len(x_t), [0] * len(x_t)
    for b, c, time in np.ndindex(x_t.shape):
        head, start, width = channels[c]
        block = [float(raw[b, k, time]) for k in range(start, start + width)]
        value, (low, high) = float(raw[b, c, time]), bounds[c]
        nonfinite[b] += not math.isfinite(value)
        if head == "logits":
            usable = all(math.isfinite(entry) for entry in block)
            out[b, c, time] = 2 * (softmax(block)[c - start] if usable else 1 / width) - 1
        elif not math.isfinite(value):
            has_middle = math.isfinite(low) and math.isfinite(high)
            out[b, c, time] = (low + high) / 2 if has_middle else max(low, min(high, 0.0))
        else:
            clean = clean_real(head, float(x_t[b, c, time]), value, signal, noise)
            out[b, c, time] = low if clean < low else high if clean > high else clean
            moved[b] += clean < low or clean > high
    return out, moved, nonfinite


def philox_block(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """Philox4x32-10, Salmon et al. 2011, section 3.3, on Python's integers."""
    r0, l0, r1, l1 = counter
    k0, k1 = key
    for _ in range(10):
        high_0, low_0 = divmod(0xD2511F53 * r0, WORD)
        high_1, low_1 = divmod(0xCD9E8D57 * r1, WORD)
        r0, l0, r1, l1 = high_1 ^ l0 ^ k0, low_1, high_0 ^ l1 ^ k1, low_0
        k0, k1 = (k0 + 0x9E3779B9) % WORD, (k1 + 0xBB67AE85) % WORD
    return [r0, l0, r1, l1]


def word(seed: int, patient: int, stream: int, retry: int, step: int, element: int) -> int:
    """The 32-bit word that belongs to one element of one draw of one patient."""
    counter = [element // 4, stream * 2**28 + retry * 2**20 + step, patient % WORD, patient // WORD]
    seed %= 2**64
    return philox_block(counter, [seed % WORD, seed // WORD])[element % 4]


def normals(seed: int, patient: int, stream: int, retry: int, step: int, n_channels: int, length: int) -> np.ndarray:
    """The normals (C, L) of one draw of one patient: Box and Muller 1958 on the upper 24 bits, in (0, 1]."""
    out = np.zeros((n_channels, length))
    for c, time in np.ndindex(out.shape):
        element = c * math.ceil(length / 4) * 4 + time
        first = element - element % 2
        u, v = ((word(seed, patient, stream, retry, step, e) // 256 + 1) / 2**24 for e in (first, first + 1))
        turn = math.sin if element % 2 else math.cos
        out[c, time] = math.sqrt(-2 * math.log(u)) * turn(2 * math.pi * v)
    return out


def ancestral_mean(x_t: float, x_0: float, alpha_bar_t: float, alpha_bar_s: float) -> float:
    """Ho et al. 2020, eq. 11: the posterior mean by way of the noise that x_0 implies."""
    alpha = alpha_bar_t / alpha_bar_s
    eps = (x_t - math.sqrt(alpha_bar_t) * x_0) / math.sqrt(1 - alpha_bar_t)
    return (x_t - (1 - alpha) / math.sqrt(1 - alpha_bar_t) * eps) / math.sqrt(alpha)


def posterior_variance(alpha_bar_t: float, alpha_bar_s: float) -> float:
    """Bayes' rule: the precisions that x_0 (from below) and x_t (from above) give to x_s add up."""
    if alpha_bar_s == 1:
        return 0.0
    alpha = alpha_bar_t / alpha_bar_s
    return 1 / (1 / (1 - alpha_bar_s) + alpha / (1 - alpha))


def log_snr(alpha_bar: float) -> float:
    """lambda, half the logarithm of the signal-to-noise ratio."""
    return 0.5 * math.log(alpha_bar / (1 - alpha_bar))


def dpm_solver_step(
    x_t: float,
    x_0: float,
    x_0_prev: float | None,
    alpha_bar_before: float,
    alpha_bar_t: float,
    alpha_bar_s: float,
) -> float:
    """Lu et al. 2022, algorithm 2; first order without x_0_prev; where h is infinite its limit, x_0."""
    if alpha_bar_s == 1:
        return x_0
    h = log_snr(alpha_bar_s) - log_snr(alpha_bar_t)
    direction = x_0
    if x_0_prev is not None:
        r = (log_snr(alpha_bar_t) - log_snr(alpha_bar_before)) / h
        direction = (1 + 1 / (2 * r)) * x_0 - 1 / (2 * r) * x_0_prev
    shrink = math.sqrt(1 - alpha_bar_s) / math.sqrt(1 - alpha_bar_t)
    return shrink * x_t - math.sqrt(alpha_bar_s) * (math.exp(-h) - 1) * direction


def ddim_step(x_t: float, x_0: float, alpha_bar_t: float, alpha_bar_s: float, eta: float) -> tuple[float, float]:
    """Song et al. 2021, eq. 12 and 16: towards x_0 along the noise that it implies, some of it drawn anew."""
    eps = (x_t - math.sqrt(alpha_bar_t) * x_0) / math.sqrt(1 - alpha_bar_t)
    sigma = eta * math.sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t)) * math.sqrt(1 - alpha_bar_t / alpha_bar_s)
    return math.sqrt(alpha_bar_s) * x_0 + math.sqrt(max(1 - alpha_bar_s - sigma**2, 0)) * eps, sigma


def sde_dpm_step(
    x_t: float, x_0: float, x_0_prev: float | None, alpha_bar_before: float, alpha_bar_t: float, alpha_bar_s: float
) -> tuple[float, float]:
    """SDE-DPM-Solver++ of Lu et al. 2022: first order without x_0_prev; where h is infinite its limit, x_0."""
    if alpha_bar_s == 1:
        return x_0, 0.0
    h = log_snr(alpha_bar_s) - log_snr(alpha_bar_t)
    direction = x_0
    if x_0_prev is not None:
        r = (log_snr(alpha_bar_t) - log_snr(alpha_bar_before)) / h
        direction = (1 + 1 / (2 * r)) * x_0 - 1 / (2 * r) * x_0_prev
    noise_s = math.sqrt(1 - alpha_bar_s)
    shrink = noise_s / math.sqrt(1 - alpha_bar_t) * math.exp(-h)
    fresh = 1 - math.exp(-2 * h)
    return shrink * x_t + math.sqrt(alpha_bar_s) * fresh * direction, noise_s * math.sqrt(fresh)


def solver_step(
    solver: str, alpha_bar: np.ndarray, times: Sequence[int], k: int, x_t: float, x_0: float, x_0_prev: float
) -> tuple[float, float]:
    """The mean of x_s and the standard deviation of its noise at step k of a sampler along `times`."""
    n_steps = len(times)
    now, after = float(alpha_bar[times[k]]), float(alpha_bar[times[k + 1]]) if k + 1 < n_steps else 1.0
    if solver == "ancestral":
        return ancestral_mean(x_t, x_0, now, after), math.sqrt(posterior_variance(now, after))
    if solver == "ancestral-beta":
        return ancestral_mean(x_t, x_0, now, after), math.sqrt(1 - now / after) if k + 1 < n_steps else 0.0
    if solver.startswith("ddim"):
        return ddim_step(x_t, x_0, now, after, float(solver.partition(":")[2] or 0))
    second_order = 2 <= k < n_steps - 1
    before = float(alpha_bar[times[k - 1]])
    if solver == "sde-dpm++":
        return sde_dpm_step(x_t, x_0, x_0_prev if second_order else None, before, now, after)
    return dpm_solver_step(x_t, x_0, x_0_prev if second_order else None, before, now, after), 0.0


def solver_row(solver: str, alpha_bar: np.ndarray, times: Sequence[int], k: int) -> list[float]:
    """Step k as signal, noise, a, b0, b1, step_std: a linear step is what it makes of unit inputs."""
    now = float(alpha_bar[times[k]])
    units = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    a, b0, b1 = (solver_step(solver, alpha_bar, times, k, *unit)[0] for unit in units)
    _, step_std = solver_step(solver, alpha_bar, times, k, 0.0, 0.0, 0.0)
    return [math.sqrt(now), math.sqrt(1 - now), a, b0, b1, step_std]


def reverse_step(
    x_t: np.ndarray,
    raw: np.ndarray,
    x_0_prev: np.ndarray,
    row: Sequence[float],
    step: int,
    channels: Sequence[Channel],
    bounds: Sequence[tuple[float, float]],
    seed: int,
    patients: Sequence[int],
    stream: int,
    retry: int = 0,
) -> tuple[np.ndarray, np.ndarray, list[int], list[int]]:
    """One whole step: x_s and x_0_hat (B, C, L), and per patient the entries moved and not finite."""
    signal, noise, a, b0, b1, step_std, history = (float(entry) for entry in row)
    clean, moved, nonfinite = x_0_hat(x_t, raw, signal, noise, channels, bounds)
    x_s = np.zeros(x_t.shape)
    for b, patient in enumerate(patients):
        z = normals(seed, patient, stream, retry, step, x_t.shape[1], x_t.shape[2])
        for c, time in np.ndindex(z.shape):
            x_s[b, c, time] = a * x_t[b, c, time] + b0 * clean[b, c, time] + step_std * z[c, time]
            if history:
                x_s[b, c, time] += b1 * x_0_prev[b, c, time]
    return x_s, clean, moved, nonfinite


def drawn_code(block: Sequence[float], word: int) -> int:
    """The code that a word draws: the first at which the sum of weights exceeds its share of the whole sum.

    A weight is twice a probability, x_0 + 1, and 0 where that is negative; without any, the first largest entry.
    """
    weights = [max(entry + 1.0, 0.0) for entry in block]
    reached = list(itertools.accumulate(weights))
    for code, so_far in enumerate(reached):
        if so_far > word / WORD * reached[-1]:
            return code
    return list(block).index(max(block))


def on_line(x: float, x_knots: Sequence[float], y_knots: Sequence[float]) -> float:
    """The broken line through the knots; beyond its ends, the slope between them."""
    (first, *_, last), (low, *_, high) = x_knots, y_knots
    if x < first:
        return low + (high - low) / (last - first) * (x - first)
    if x > last:
        return high + (high - low) / (last - first) * (x - last)
    for (x_0, x_1), (y_0, y_1) in zip(itertools.pairwise(x_knots), itertools.pairwise(y_knots), strict=True):
        if x <= x_1:
            return y_0 + (y_1 - y_0) * (x - x_0) / (x_1 - x_0)
    raise AssertionError


def normal_score(value: float, values: Sequence[float]) -> float:
    """The normal quantile of a value's middle rank: half of its equals count as below it."""
    below, equal = sum(one < value for one in values), sum(one == value for one in values)
    return statistics.NormalDist().inv_cdf((below + equal / 2) / len(values))
