"""What the blocks of a sample say, by the operator hg3::decode: clinical values, and positions of codes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hg3.layout import Block
from hg3.philox import Stream, stream_word
from hg3.table.codecs import RealCodec
from hg3.table.encoding import Encoder
from hg3.table.ops import CODES_OF_A_BYTE, KINDS, decode
from hg3.table.schema import CONTINUES


@dataclass(frozen=True)
class Draw:
    """That codes are drawn from their probabilities, with the words of `seed`, and not the most probable ones taken."""

    seed: int


def block_values(
    x: np.ndarray, encoder: Encoder, static: bool, patient: np.ndarray, draw: Draw | None = None
) -> dict[str, np.ndarray]:
    """Return by block what it says, (N, L): float64 clinical values, or positions of codes.

    The block of the record's length is left out: it is decoded as a whole.

    Parameters
    ----------
    x : x_0, float32, shape (N, C, L), the static or the dynamic half. patient : int64, shape (N,).
    """
    blocks = encoder.layout.static if static else encoder.layout.dynamic
    real = [block for block in blocks if block.kind == "real"]
    category = [block for block in blocks if block.kind == "category" and block.name != CONTINUES]
    codecs = {f.column.name: f.codec for f in encoder.columns if f.codec is not None}
    rows, knots = _real_tables(real, [codecs[block.name] for block in real])
    places = torch.tensor([(b.start, b.width) for b in category], dtype=torch.int64).reshape(-1, 2)
    wide = any(b.width > CODES_OF_A_BYTE for b in category)
    numbers, seed = (None, 0) if draw is None else (_tensor(patient, np.int64), draw.seed)
    stream = stream_word(Stream.DECODE) | (0 if static else 1)  # two steps, so that the halves share no word
    values, codes = decode(_tensor(x, np.float32), rows, knots, places, numbers, seed, stream, wide)
    named = zip((*real, *category), (*values.numpy(), *codes.numpy()), strict=True)
    return {block.name: value for block, value in named}


def _tensor(array: np.ndarray, dtype: type) -> Tensor:
    """Return a tensor in the array's own memory, unless that is read-only or of another type."""
    return torch.from_numpy(np.require(array, dtype, ["C", "W"]))


def _real_tables(blocks: Sequence[Block], codecs: Sequence[RealCodec]) -> tuple[Tensor, Tensor]:
    """Return the arguments `reals` and `knots` of the operator."""
    rows: list[tuple[float, ...]] = []
    knots: list[float] = []
    scores: list[float] = []
    for block, codec in zip(blocks, codecs, strict=True):
        transform = codec.transform
        kind, first, curve = KINDS.index(transform.kind), len(knots), transform.curve
        scaled = (codec.center, codec.scale, transform.lmbda, codec.decimals, *codec.value_range)
        rows.append((block.start, kind, *scaled, first, len(curve.knots) if curve else 0))
        knots += curve.knots if curve else ()
        scores += curve.scores if curve else ()
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 10), torch.tensor([knots, scores], dtype=torch.float64)
