"""Random numbers of the operating system: kept nowhere and made again by nobody, as a private training needs them.

Whoever could make the noise of differential privacy again could take it off. So it comes from no seed: torch's own
generator on a CPU has 32 bits of one, few enough to try them all.
"""

import math
import os

import numpy as np
import torch
from torch import Tensor

ADDED = 4  # normals that make one, so that the digits of a float tell nothing of what it was added to


def uniform(*shape: int) -> Tensor:
    """Return numbers uniform on [0, 1), multiples of 2^-53, float64, of that shape, on the CPU."""
    words = np.frombuffer(os.urandom(8 * math.prod(shape)), dtype=np.uint64)
    return torch.from_numpy((words >> np.uint64(11)) * 2.0**-53).reshape(shape)


def normal(*shape: int) -> Tensor:
    """Return standard normal numbers, float64, of that shape, on the CPU (Box and Muller 1958)."""
    u = uniform(2, math.prod(shape))
    radius = torch.sqrt(-2.0 * torch.log1p(-u[0]))  # 1 - u is never 0
    return (radius * torch.cos(2.0 * math.pi * u[1])).reshape(shape)


def noise(*shape: int) -> Tensor:
    """Return standard normal numbers as `normal` does, each the sum of four over 2 (Holohan and Braghin 2021).

    The floats that one normal can be are so few and uneven that a sum with it may give away what it was added to
    (Mironov 2012); those that a sum of four can be are too many to be sought.
    """
    return normal(ADDED, *shape).sum(dim=0) / math.sqrt(ADDED)
