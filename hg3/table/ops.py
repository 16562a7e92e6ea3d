"""hg3::decode, the operator of decoding: x_0 to clinical units and codes.

The implementation below serves every device that the compiled extension has no kernel for, see `hg3.extension`; a
sample lies on the host when it is decoded.
"""

import numpy as np
import torch
from torch import Tensor

from hg3.extension import register
from hg3.philox import words
from hg3.table.codecs import on_lattice
from hg3.table.curve import Curve
from hg3.table.transforms import Transform

NAME = "hg3::decode"
SCHEMA = (
    "decode(Tensor x, Tensor reals, Tensor knots, Tensor categories, Tensor? patient=None, int seed=0, int stream=0, "
    "bool wide=False) -> (Tensor, Tensor)"
)
KINDS = ("none", "log1p", "box-cox", "yeo-johnson")
CODES_OF_A_BYTE = 256

Result = tuple[Tensor, Tensor]


def decode(
    x: Tensor,
    reals: Tensor,
    knots: Tensor,
    categories: Tensor,
    patient: Tensor | None = None,
    seed: int = 0,
    stream: int = 0,
    wide: bool = False,
) -> Result:
    """Return clinical values, float64, shape (R, N, L), and positions of codes, uint8 or int32, shape (K, N, L).

    A code is the arg-max of its block. With `patient` it is drawn from the probabilities (x_0 + 1) / 2 instead, those
    below 0 taken as 0: the first code at which their sum exceeds u times the whole sum, u = word / 2^32 the Philox word
    of the block's first channel; where none has a probability, the arg-max.

    Parameters
    ----------
    x : x_0, float32, shape (N, C, L), finite, any strides.
    reals : float64, shape (R, 10): channel, kind (a position in KINDS), center, scale, lambda, decimals, lowest and
        highest value, first knot, number of knots, which is 0 for a column without a curve.
    knots : float64, shape (2, Q): transformed values and scores of the curves.
    categories : int64, shape (K, 2): first channel, number of codes.
    patient : int64, shape (N,); with seed and stream, a `philox.stream_word`, says which words are drawn.
    wide : codes are int32, for blocks of more than 256.

    Raises
    ------
    ValueError
        In a sentence, if shapes, types or tables do not fit x.
    """
    return torch.ops.hg3.decode.default(x, reals, knots, categories, patient, seed, stream, wide)


def _decode_numpy(
    x: Tensor,
    reals: Tensor,
    knots: Tensor,
    categories: Tensor,
    patient: Tensor | None = None,
    seed: int = 0,
    stream: int = 0,
    wide: bool = False,
) -> Result:
    _check(x, reals, knots, categories, patient, wide)
    x_0, (n, _, length) = x.cpu().numpy(), x.shape
    values = np.empty((len(reals), n, length))
    for row, out in zip(reals.tolist(), values, strict=True):
        out[:] = _clinical(x_0[:, int(row[0])], row, knots.cpu().numpy())
    codes = np.empty((len(categories), n, length), np.int32 if wide else np.uint8)
    drawn = None if patient is None else _words(x, patient, seed, stream)
    for (start, width), out in zip(categories.tolist(), codes, strict=True):
        block = x_0[:, start : start + width]
        out[:] = block.argmax(axis=1) if drawn is None else _draw(block, drawn[:, start, :length])
    return torch.from_numpy(values).to(x.device), torch.from_numpy(codes).to(x.device)


def _clinical(x: np.ndarray, row: list[float], knots: np.ndarray) -> np.ndarray:
    _, kind, center, scale, lmbda, decimals, low, high, first, count = row
    curve = Curve(*(tuple(part[int(first) : int(first + count)]) for part in knots)) if count else None
    transform = Transform(KINDS[int(kind)], lmbda, curve)
    return on_lattice(transform.inverse(x.astype(np.float64) * scale + center), int(decimals), low, high)


def _words(x: Tensor, patient: Tensor, seed: int, stream: int) -> np.ndarray:
    """Return the words of all elements, int64, shape (N, C, roundup4(L))."""
    step = torch.zeros((), dtype=torch.int64, device=patient.device)
    key, line = torch.full_like(step, seed), torch.full_like(patient, stream)
    return words(key, patient, line, step, x.shape[1], x.shape[2]).cpu().numpy()


def _draw(block: np.ndarray, word: np.ndarray) -> np.ndarray:
    weight = np.fmax(block.astype(np.float64) + 1.0, 0.0)
    reached = np.cumsum(weight, axis=1)
    exceeds = reached > (word * 2.0**-32 * reached[:, -1])[:, None]
    return np.where(exceeds.any(axis=1), exceeds.argmax(axis=1), block.argmax(axis=1))


def _check(x: Tensor, reals: Tensor, knots: Tensor, categories: Tensor, patient: Tensor | None, wide: bool) -> None:
    """Raise ValueError in a sentence if shapes, types or tables do not fit x."""
    if x.dim() != 3:
        raise ValueError(f"{NAME}: x has shape {tuple(x.shape)}, expected (N, C, L)")
    wanted = [
        ("x", x, tuple(x.shape), torch.float32),
        ("reals", reals, (len(reals) if reals.dim() else 0, 10), torch.float64),
        ("knots", knots, (2, knots.shape[1] if knots.dim() == 2 else 0), torch.float64),
        ("categories", categories, (len(categories) if categories.dim() else 0, 2), torch.int64),
    ]
    wanted += [] if patient is None else [("patient", patient, (x.shape[0],), torch.int64)]
    for name, tensor, shape, dtype in wanted:
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{NAME}: {name} has shape {tuple(tensor.shape)}, expected {shape}")
        if tensor.dtype != dtype:
            raise ValueError(f"{NAME}: {name} is {tensor.dtype}, expected {dtype}")
    _check_reals(reals, x.shape[1], knots.shape[1])
    _check_categories(categories, x.shape[1], wide)


def _check_reals(reals: Tensor, n_channels: int, n_knots: int) -> None:
    for number, (channel, kind, *_, first, count) in enumerate(reals.tolist()):
        has_knots = count == 0 or (first >= 0 and count >= 2 and first + count <= n_knots)
        if not (0 <= channel < n_channels and kind in range(len(KINDS)) and has_knots):
            raise ValueError(
                f"{NAME}: reals row {number} has channel {channel:g}, kind {kind:g} and {count:g} knots from {first:g} "
                f"on, expected a channel below {n_channels}, a kind from 0 to 3, and none, or two or more, of the "
                f"{n_knots} knots"
            )


def _check_categories(categories: Tensor, n_channels: int, wide: bool) -> None:
    for number, (start, width) in enumerate(categories.tolist()):
        if start < 0 or width < 1 or start + width > n_channels:
            raise ValueError(
                f"{NAME}: categories row {number} is ({start}, {width}), expected a block inside the {n_channels} "
                "channels"
            )
        if width > CODES_OF_A_BYTE and not wide:
            raise ValueError(
                f"{NAME}: categories row {number} has {width} codes, expected at most 256; ask for wide codes"
            )


def _decode_fake(
    x: Tensor,
    reals: Tensor,
    knots: Tensor,
    categories: Tensor,
    patient: Tensor | None = None,
    seed: int = 0,
    stream: int = 0,
    wide: bool = False,
) -> Result:
    n, _, length = x.shape
    values = x.new_empty((reals.shape[0], n, length), dtype=torch.float64)
    return values, x.new_empty((categories.shape[0], n, length), dtype=torch.int32 if wide else torch.uint8)


register(SCHEMA, _decode_numpy, _decode_fake)
