"""How much a private training spends: the one door to Opacus.

Each update is a Gaussian mechanism on a Poisson sample of the patients (Abadi et al. 2016, section 3). Its Renyi
divergences (Mironov 2017; of the sampled mechanism, Mironov, Talwar and Zhang 2019) add up over the updates and become
an epsilon at the given delta, the least over the orders (Balle et al. 2020, theorem 21).
"""

import warnings
from functools import lru_cache
from types import ModuleType

import numpy as np

from hg3.errors import ConfigError

NAME = "Renyi differential privacy, by Opacus"
LOW_ORDERS = tuple(1 + tenth / 10 for tenth in range(1, 40))  # which count where epsilon is large
ORDERS = (*LOW_ORDERS, *(half / 2 for half in range(10, 22)), *range(11, 65), 96, 128, 192, 256, 512, 1024)
TOLERANCE = 1e-3  # of epsilon: how much of what was asked may be left
MOST_NOISE = 1e5


def _rdp() -> ModuleType:
    """Return Opacus's module of Renyi differential privacy."""
    try:
        from opacus.accountants.analysis import rdp
    except ImportError:
        raise ConfigError(
            'a private training needs Opacus, which is not installed: pip install "hg3[private]", or leave out privacy'
        ) from None
    return rdp


@lru_cache(maxsize=256)
def _divergences(noise_multiplier: float, sample_rate: float) -> np.ndarray:
    """Return the Renyi divergence of one update at each of ORDERS."""
    return np.asarray(
        _rdp().compute_rdp(q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=list(ORDERS))
    )


def epsilon_spent(noise_multiplier: float, sample_rate: float, updates: int, delta: float) -> float:
    """Return the epsilon of `updates` updates at `delta`; infinite without noise.

    Parameters
    ----------
    noise_multiplier : the noise's standard deviation over the longest that a patient's gradient may be.
    sample_rate : the probability of a patient to be in the sample of an update.
    """
    if updates == 0:
        return 0.0
    if noise_multiplier == 0:
        return float("inf")
    divergences = _divergences(noise_multiplier, sample_rate) * updates
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a best order at either end: a looser epsilon, not a wrong one
        epsilon, _ = _rdp().get_privacy_spent(orders=list(ORDERS), rdp=divergences, delta=delta)
    return max(float(epsilon), 0.0)


@lru_cache(maxsize=256)
def noise_multiplier_for(epsilon: float, delta: float, sample_rate: float, updates: int) -> float:
    """Return the least noise multiplier, to a thousandth of epsilon, that spends at most `epsilon`.

    Raises
    ------
    ConfigError
        If there is none up to 100,000, or Opacus is not installed.
    """
    low, high = 0.0, 1.0
    while epsilon_spent(high, sample_rate, updates, delta) > epsilon:
        low, high = high, 2.0 * high
        if high > MOST_NOISE:
            raise ConfigError(
                f"no noise makes {updates} updates cost as little as privacy.epsilon {epsilon:g} at delta {delta:g}; "
                "ask for a larger one"
            )
    while (epsilon - epsilon_spent(high, sample_rate, updates, delta)) > TOLERANCE * epsilon and high - low > 1e-12:
        middle = (low + high) / 2.0
        if epsilon_spent(middle, sample_rate, updates, delta) > epsilon:
            low = middle
        else:
            high = middle
    return high
