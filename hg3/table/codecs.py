"""One column between clinical values and model space: fitted on training patients, exact on the way back."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hg3.errors import SchemaError, TableError
from hg3.table.column import LARGEST_REAL, Code, Column, lattice_bounds
from hg3.table.curve import extremes, fit_curve
from hg3.table.transforms import Transform, fit_transform

MOST_DECIMALS = 9
MILDEST_LAMBDA = {"box-cox": 0.0, "yeo-johnson": 1.0}  # the logarithm, the identity
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
RELATIVE_TOLERANCE = 2e-6  # of a round trip through float32, where half a unit of the last decimal is less
FEWEST_CARRIERS = 10  # a code that fewer training patients carry does not enter a learned category table


@dataclass(frozen=True)
class RealCodec:
    """A real column: x = (transform(value) - center) / scale, values kept to `decimals`."""

    transform: Transform
    center: float
    scale: float
    decimals: int
    bounds: tuple[float, float]

    def encode(self, value: np.ndarray) -> np.ndarray:
        """Return model values, float32, of the input's shape; never clamped to the sampling bounds."""
        on_lattice = round_inward(value, self.decimals, self.bounds)
        x = (self.transform.forward(on_lattice) - self.center) / self.scale
        return np.clip(x, -LARGEST_FLOAT32, LARGEST_FLOAT32).astype(np.float32)

    def decode(self, x: np.ndarray) -> np.ndarray:
        """Return clinical values, float64, rounded to `decimals` and inside the clinical bounds."""
        value = self.transform.inverse(x.astype(np.float64) * self.scale + self.center)
        return on_lattice(value, self.decimals, *self.value_range)

    @property
    def value_range(self) -> tuple[float, float]:
        """Return the lowest and the highest value that decoding gives: of its decimals, and never beyond 1e30."""
        low, high = np.clip(lattice_bounds(self.bounds, self.decimals), -LARGEST_REAL, LARGEST_REAL).tolist()
        return low, high

    def to_dict(self) -> dict[str, Any]:
        bounds = [None if math.isinf(b) else b for b in self.bounds]
        content = {"center": self.center, "scale": self.scale, "decimals": self.decimals, "bounds": bounds}
        return {"transform": self.transform.to_dict(), **content}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "RealCodec":
        low, high = content["bounds"]
        bounds = (-math.inf if low is None else low, math.inf if high is None else high)
        transform = Transform.from_dict(content["transform"])
        return cls(transform, content["center"], content["scale"], content["decimals"], bounds)


def round_inward(value: np.ndarray, decimals: int, bounds: tuple[float, float]) -> np.ndarray:
    """Round to `decimals`; a value that rounds past a bound goes to the nearest decimal inside it."""
    return on_lattice(value, decimals, *lattice_bounds(bounds, decimals))


def on_lattice(value: np.ndarray, decimals: int, low: float, high: float) -> np.ndarray:
    """Round to `decimals`, half to even, and hold inside [low, high], which have no more of them."""
    return np.clip(np.round(value, decimals), low, high) + 0.0  # no -0.0


def fit_real(
    values: np.ndarray, patient: np.ndarray, column: Column, scaling: str = "standard"
) -> tuple[RealCodec | None, str | None]:
    """Return the fitted codec of a real column (None if it is constant at its decimals) and a warning.

    Where float32 cannot hold the decimals, simpler transforms are tried, then fewer decimals are kept: -2 of
    them are whole hundreds.

    Parameters
    ----------
    values, patient : training values, float64, finite, and their patients' numbers, shape (n,).
    scaling : see `encoding.fit_encoder`.

    Raises
    ------
    SchemaError
        If no codec can hold the values, or no number of as many decimals as hg3 keeps lies inside the bounds.
    """
    wanted = _wanted_decimals(values, column)
    rounded = round_inward(values, wanted, column.bounds)
    if np.ptp(rounded) == 0:
        warning = (
            f"column {column.name!r} varies by less than its {wanted} decimals show and is kept as a "
            "constant; give it more decimals or another unit"
        )
        return None, warning if np.ptp(values) else None
    best = _best_codec(rounded, patient, column, wanted, scaling)
    if best.decimals < min(wanted, 0 if column.decimals is None else wanted):
        return best, (
            f"column {column.name!r} has values of {wanted} decimals and its range allows {best.decimals} in "
            "float32; that many are kept"
        )
    wants_scores = scaling == "normal" or column.transform == "quantile"
    if wants_scores and best.transform.curve is None:
        return best, (
            f"column {column.name!r} gets no normal scores: too few patients differ, or they would lose decimals in "
            "float32; it is scaled without them"
        )
    return best, None


def _best_codec(values: np.ndarray, patient: np.ndarray, column: Column, wanted: int, scaling: str) -> RealCodec:
    """Return the first codec that keeps the `wanted` decimals, or the one that keeps most.

    Values beyond those of training count as long as some codec can hold them.
    """
    for reach in (2.0, 0.0):
        best: RealCodec | None = None
        for transform in _candidates(values, patient, column, scaling):
            codec = _most_precise(values, transform, wanted, column.bounds, reach, scaling)
            if codec is not None and (best is None or codec.decimals > best.decimals):
                best = codec
            if best is not None and best.decimals == wanted:
                return best
        if best is not None:
            return best
    raise SchemaError(
        f"column {column.name!r} has values that its transform {column.transform} cannot tell apart in "
        "float32; choose another, or leave it out and hg3 chooses"
    )


def _candidates(values: np.ndarray, patient: np.ndarray, column: Column, scaling: str) -> Iterator[Transform]:
    """Yield the transforms to try, best first: under a normal scaling with a curve, then without."""
    if column.transform == "quantile":
        yield _curved(Transform("none"), values, patient)
        return
    if scaling == "normal":
        yield from (_curved(transform, values, patient) for transform in _transforms(values, column))
    yield from _transforms(values, column)


def _curved(transform: Transform, values: np.ndarray, patient: np.ndarray) -> Transform:
    return replace(transform, curve=fit_curve(transform.forward(values), patient))


def _transforms(values: np.ndarray, column: Column) -> Iterator[Transform]:
    """Yield the transform of the schema, then milder ones; or the one that suits, then simpler ones."""
    may_be_negative = column.bounds[0] < 0
    fitted = fit_transform(values, column.transform, column.name, may_be_negative)
    yield fitted
    if column.transform is None:
        yield from (Transform(kind) for kind in (("none",) if may_be_negative else ("log1p", "none")))
    elif column.transform in MILDEST_LAMBDA:
        mildest = MILDEST_LAMBDA[column.transform]
        for share in (0.5, 0.25, 0.0):
            yield replace(fitted, lmbda=mildest + share * (fitted.lmbda - mildest))


def constant_of(value: float, column: Column) -> float:
    """Return the one value of a constant column as its decimals and bounds allow it."""
    wanted = _wanted_decimals(np.array([value]), column)
    return float(round_inward(np.array([value]), wanted, column.bounds)[0])


def _wanted_decimals(values: np.ndarray, column: Column) -> int:
    """Return the column's decimals, or those of its values; refuse decimals that have no number inside the bounds."""
    if column.decimals is not None:
        return column.decimals  # which the schema has compared with the bounds
    wanted = _decimals_of(values)
    low, high = lattice_bounds(column.bounds, wanted)
    if low > high:
        raise SchemaError(
            f"column {column.name!r} has bounds with no number of {wanted} decimals between them, the most that hg3 "
            "keeps; give it a smaller unit"
        )
    return wanted


def _decimals_of(values: np.ndarray) -> int:
    """Return the fewest decimals that hold all values, at most nine."""
    noise = 1e-12 * np.abs(values).max()
    for decimals in range(MOST_DECIMALS):
        if np.allclose(values, np.round(values, decimals), rtol=1e-12, atol=noise):
            return decimals
    return MOST_DECIMALS


def _most_precise(
    values: np.ndarray, transform: Transform, wanted: int, bounds: tuple[float, float], reach: float, scaling: str
) -> RealCodec | None:
    """Return a codec with as many decimals, up to `wanted`, as survive a round trip through float32.

    None if so few do that they would leave less than a hundred steps in the range of `values`.
    """
    y = transform.forward(values)
    center, scale = ((y.max() + y.min()) / 2, np.ptp(y) / 2) if scaling == "range" else (y.mean(), y.std())
    center, scale = float(center), float(scale) or 1.0
    probe = _probe(values, transform.kind, bounds, reach)
    fewest = 2 - math.floor(math.log10(np.ptp(values)))
    for decimals in range(wanted, min(wanted, fewest) - 1, -1):
        low, high = lattice_bounds(bounds, decimals)
        codec = RealCodec(transform, center, scale, decimals, bounds)
        if low <= high and _survives(probe, codec):
            return codec
    return None


def _probe(values: np.ndarray, kind: str, bounds: tuple[float, float], reach: float) -> np.ndarray:
    """Return values to try: training quantiles, as many ranges beyond as `reach` says, and the way to 0."""
    sample = np.quantile(values, np.linspace(0, 1, 1001), method="nearest")
    beyond = reach * (sample[-1] - sample[0])
    low, high = sample[0] - beyond, sample[-1] + beyond
    magnitudes = 10.0 ** np.arange(-MOST_DECIMALS, 31)
    small = np.concatenate([-magnitudes, [0.0], magnitudes])
    probe = np.concatenate([sample, np.linspace(low, high, 200), small[(small > low) & (small < high)]])
    return np.clip(probe, max(bounds[0], 0.0) if kind in ("box-cox", "log1p") else bounds[0], bounds[1])


def _survives(value: np.ndarray, codec: RealCodec) -> bool:
    """Whether each value comes back as the decimal next to it, or nearly so where float32 is coarser."""
    back, on_lattice = codec.decode(codec.encode(value)), round_inward(value, codec.decimals, codec.bounds)
    exact = np.abs(back - on_lattice) < 0.5 * 10.0**-codec.decimals
    return bool((exact | (np.abs(back - value) <= RELATIVE_TOLERANCE * np.abs(value))).all())


def sampling_bounds(
    codec: RealCodec, values: np.ndarray, patient: np.ndarray, scaling: str = "standard"
) -> tuple[float, float]:
    """Return the lowest and highest model value that a sampler may give.

    A finite clinical bound counts; where there is none, and always under a normal scaling, whose values are inside
    them, the mean over the 10 most extreme patients there. A scaling of the range has its own.

    Parameters
    ----------
    values, patient : training values and their patients' numbers, shape (n,).
    """
    if scaling == "range":
        return -1.0, 1.0
    lowest, highest = extremes(codec.encode(values).astype(np.float64), patient)
    ends = [float(lowest.mean()), float(highest.mean())]
    for side, bound in enumerate(codec.bounds if scaling == "standard" else ()):
        if math.isfinite(bound):
            ends[side] = float(codec.encode(np.array([bound]))[0])
    return ends[0], ends[1]


def fit_categories(index: np.ndarray, patient: np.ndarray, codes: tuple[Code, ...], column: Column) -> tuple[Code, ...]:
    """Return a column's category table: the schema's, or the codes that enough training patients carry.

    Parameters
    ----------
    index, patient : training cells as positions in `codes` (-1: missing) and their patients, shape (n,).

    Raises
    ------
    TableError
        If rare codes would have to be dropped from a column that may not be missing, or no code is left.
    """
    if column.categories is not None:
        return column.categories
    pairs = np.unique(np.stack([index[index >= 0].astype(np.int64), patient[index >= 0]]), axis=1)
    carriers = np.bincount(pairs[0], minlength=len(codes))
    kept = tuple(code for code, n in zip(codes, carriers, strict=True) if n >= FEWEST_CARRIERS)
    if not kept or (len(kept) < len(codes) and column.missing == "never"):
        raise TableError(
            f"column {column.name!r} lists no categories and {len(codes) - len(kept)} of its {len(codes)} "
            f"codes are carried by fewer than {FEWEST_CARRIERS} training patients; list `categories` in the "
            'schema, or set missing = "modelled" and rare codes are treated as missing'
        )
    return kept
