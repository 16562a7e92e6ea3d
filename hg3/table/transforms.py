"""Monotone transforms of real columns towards a normal shape, fitted on training values, float64 back."""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from hg3.errors import SchemaError
from hg3.table.curve import Curve

BOX_COX_SHIFT = 1e-3  # added before Box-Cox so that zeros pass (Health Gym)
LAMBDA_LIMIT = 2.0  # beyond it a float32 model cannot resolve the crowded end
LARGEST_EXPONENT = 230.0  # exp of it is 1e100: far outside any bound, and still finite
FIT_SIZE = 10_000  # order statistics used to fit; more do not move the third digit


@dataclass(frozen=True)
class Transform:
    """A fitted transform `kind` with parameter `lmbda` (power transforms), and a curve behind it where there is one.

    `forward` and `inverse` take and return float64 arrays of any shape; both are increasing.
    """

    kind: str
    lmbda: float = 1.0
    curve: Curve | None = None

    def forward(self, value: np.ndarray) -> np.ndarray:
        """Return transformed values; Box-Cox: ((x + 1e-3)^lambda - 1) / lambda (Box and Cox 1964, eq. 1)."""
        y = self._of_kind(np.asarray(value, dtype=np.float64))
        return y if self.curve is None else self.curve.forward(y)

    def _of_kind(self, value: np.ndarray) -> np.ndarray:
        match self.kind:
            case "log1p":
                return np.log1p(value)
            case "box-cox":
                return special.boxcox(value + BOX_COX_SHIFT, self.lmbda)
            case "yeo-johnson":
                return np.where(
                    value >= 0,
                    special.boxcox1p(np.maximum(value, 0.0), self.lmbda),
                    -special.boxcox1p(np.maximum(-value, 0.0), 2.0 - self.lmbda),
                )
        return value

    def inverse(self, y: np.ndarray) -> np.ndarray:
        """Return values from transformed ones; past a pole (lambda < 0) a huge number, never an infinity.

        Box-Cox and log1p take no negative values, and give none.
        """
        y = np.asarray(y, dtype=np.float64)
        if self.curve is not None:
            y = self.curve.inverse(y)
        match self.kind:
            case "log1p":
                return np.expm1(np.clip(y, 0.0, LARGEST_EXPONENT))
            case "box-cox":
                return np.maximum(np.exp(_log_of_box_cox(y, self.lmbda)) - BOX_COX_SHIFT, 0.0)
            case "yeo-johnson":
                up = np.expm1(_log_of_box_cox(np.maximum(y, 0.0), self.lmbda))
                down = -np.expm1(_log_of_box_cox(np.maximum(-y, 0.0), 2.0 - self.lmbda))
                return np.where(y >= 0, up, down)
        return y

    def to_dict(self) -> dict[str, object]:
        knots, scores = (list(self.curve.knots), list(self.curve.scores)) if self.curve else ([], [])
        return {"kind": self.kind, "lmbda": self.lmbda, "knots": knots, "scores": scores}

    @classmethod
    def from_dict(cls, content: dict) -> "Transform":
        kind = content["kind"].replace("quantile", "none")  # as an earlier hg3 wrote a curve without another transform
        curve = Curve(tuple(content["knots"]), tuple(content["scores"])) if content["knots"] else None
        return cls(kind, content["lmbda"], curve)


def _log_of_box_cox(y: np.ndarray, lmbda: float) -> np.ndarray:
    """Return log x for y = (x^lambda - 1) / lambda, held inside (-LARGEST_EXPONENT, LARGEST_EXPONENT)."""
    if lmbda == 0.0:
        return np.clip(y, -LARGEST_EXPONENT, LARGEST_EXPONENT)
    base = np.maximum(lmbda * y, -1.0 + 1e-300)
    with np.errstate(divide="ignore"):  # log1p(-1) is -inf at the pole and is clipped below
        return np.clip(np.log1p(base) / lmbda, -LARGEST_EXPONENT, LARGEST_EXPONENT)


def fit_transform(values: np.ndarray, kind: str | None, name: str, may_be_negative: bool = False) -> Transform:
    """Return the transform of `kind`; where it is None, the simplest that makes `values` nearly normal.

    Parameters
    ----------
    values : float64, shape (n,), finite, at least two different; training values only.
    name : the column's name, for errors.
    may_be_negative : other values than `values` may be, so that box-cox and log1p are not chosen.

    Raises
    ------
    SchemaError
        If `kind` cannot take a value (a negative one under box-cox or log1p).
    """
    ordered = np.sort(values)
    sample = ordered[np.linspace(0, len(ordered) - 1, min(len(ordered), FIT_SIZE)).astype(np.int64)]
    if kind is None:
        return _choose(sample, may_be_negative or bool(sample[0] < 0))
    if kind in ("box-cox", "log1p") and sample[0] < 0:
        raise SchemaError(f"column {name!r} has negative values, which {kind} cannot take; choose yeo-johnson")
    return _fit(sample, kind)


def _fit(sample: np.ndarray, kind: str) -> Transform:
    match kind:
        case "box-cox":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a lambda beyond the limit that is set here
                lmbda = stats.boxcox_normmax(sample + BOX_COX_SHIFT, method="mle")
            return Transform(kind, _clip_lambda(lmbda))
        case "yeo-johnson":
            return Transform(kind, _clip_lambda(stats.yeojohnson_normmax(sample)))
    return Transform(kind)


def _clip_lambda(lmbda: float) -> float:
    return float(np.clip(lmbda, -LAMBDA_LIMIT, LAMBDA_LIMIT))


def _choose(sample: np.ndarray, may_be_negative: bool) -> Transform:
    """Return the simplest transform within 0.005 of the straightest normal probability plot."""
    kinds = ["none", "yeo-johnson"] if may_be_negative else ["none", "log1p", "box-cox"]
    fitted = [_fit(sample, kind) for kind in kinds]
    straightness = [_normal_plot_correlation(t.forward(sample)) for t in fitted]
    return next(t for t, r in zip(fitted, straightness, strict=True) if r >= max(straightness) - 0.005)


def _normal_plot_correlation(ordered: np.ndarray) -> float:
    """Return the correlation of ordered values with normal scores (Filliben 1975); 1 is perfectly normal."""
    scores = special.ndtri((np.arange(1, len(ordered) + 1) - 0.5) / len(ordered))
    if np.ptp(ordered) == 0:
        return 0.0
    return float(np.corrcoef(ordered, scores)[0, 1])
