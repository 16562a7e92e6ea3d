"""One column of a table, as a schema describes it: kind, codes, bounds, decimals, what may be missing."""

import math
import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from functools import lru_cache
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Code = int | str
WHOLE_NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.0*)?")
LARGEST_CODE = 2**63 - 1
LARGEST_REAL = 1e30  # far beyond any measurement; the codes that some programs write for "missing" lie above


def canonical_code(code: object) -> str:
    """Return a code as text, so that 1, 1.0, True and "1" are one code, and "01" another."""
    text = repr(int(code)) if isinstance(code, float) and code.is_integer() else str(code).strip()
    if text in ("True", "true", "TRUE", "False", "false", "FALSE"):
        return str(int(text[0] in "Tt"))
    return str(int(text.split(".")[0])) if WHOLE_NUMBER.fullmatch(text) and len(text) < 40 else text


@lru_cache(maxsize=4096)
def lattice_bounds(bounds: tuple[float, float], decimals: int) -> tuple[float, float]:
    """Return the lowest and highest number of `decimals` digits inside `bounds`; low > high if none is."""
    low, high = (
        bound if math.isinf(bound) else float(_quantized(bound, decimals, rounding))
        for bound, rounding in zip(bounds, (ROUND_CEILING, ROUND_FLOOR), strict=True)
    )
    return low, high


def _quantized(bound: float, decimals: int, rounding: str) -> Decimal:
    exact = Context(prec=400)  # any float, however large or small
    return Decimal(repr(float(bound))).quantize(Decimal(1).scaleb(-decimals), rounding, exact)


class Column(BaseModel):
    """One column of a table.

    Parameters
    ----------
    kind : real, categorical, binary (codes 0 and 1 unless `categories` says otherwise) or ordinal (the order
        of `categories` is the order of the codes).
    static : one value a patient (sex) instead of one a row (viral load).
    decimals : digits after the point in the release (-2: whole hundreds); where absent, those of the training
        data.
    categories, labels : the codes as the table writes them, and what they mean. Where `categories` is absent,
        the codes carried by at least 10 training patients.
    bounds : lowest and highest clinically possible value, in `unit`; either may be infinite.
    out_of_bounds : what happens to a value outside `bounds`: an error, made missing, or clipped.
    transform : where absent, chosen from the training data.
    missing : "modelled" where cells may be empty; the model then learns which ones are.
    indicates, masks : an indicator column (`VL (M)`: measured that month) names its partner in `indicates`;
        with `masks = true` the partner counts only where the indicator is the second of its categories.
    role : "action" columns are the actions of the transitions that `hg3.load` makes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    kind: Literal["real", "categorical", "binary", "ordinal"]
    static: bool = False
    description: str = ""
    unit: str = ""
    decimals: int | None = Field(default=None, ge=-30, le=9)
    categories: tuple[Code, ...] | None = None
    labels: tuple[str, ...] | None = None
    bounds: tuple[float, float] = (-math.inf, math.inf)
    out_of_bounds: Literal["error", "missing", "clip"] = "error"
    transform: Literal["box-cox", "yeo-johnson", "log1p", "quantile", "none"] | None = None
    missing: Literal["never", "modelled"] = "never"
    indicates: str | None = None
    masks: bool = False
    role: Literal["state", "action"] = "state"

    @model_validator(mode="before")
    @classmethod
    def _binary_codes(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("kind") == "binary" and data.get("categories") is None:
            return {**data, "categories": (0, 1)}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.is_real:
            self._check_real()
        else:
            self._check_category()
        return self

    def _check_real(self) -> None:
        low, high = self.bounds
        if self.categories is not None or self.labels is not None or self.indicates or self.masks:
            raise ValueError("is real, so it takes no categories, labels, indicates or masks")
        if not low < high:
            raise ValueError("has bounds that are not lowest < highest")
        if self.transform in ("box-cox", "log1p") and -math.inf < low < 0:
            raise ValueError(f"has a negative lower bound, which {self.transform} cannot take")
        if self.decimals is not None:
            low, high = lattice_bounds(self.bounds, self.decimals)
            if low > high:
                raise ValueError(f"has bounds with no number of {self.decimals} decimals between them")

    def _check_category(self) -> None:
        if self.transform is not None or self.decimals is not None or self.bounds != (-math.inf, math.inf):
            raise ValueError(f"is {self.kind}, so it takes no transform, decimals or bounds")
        codes = self.categories or ()
        if len({canonical_code(code) for code in codes}) != len(codes):
            raise ValueError("names a category twice")
        if "" in map(canonical_code, codes):
            raise ValueError("has an empty text as a category; an empty cell is a missing one")
        if any(isinstance(code, int) and abs(code) > LARGEST_CODE for code in codes):
            raise ValueError("has a category beyond 64 bits; write it in quotes")
        if self.kind == "binary" and len(codes) != 2:
            raise ValueError(f"is binary and has {len(codes)} categories instead of 2")
        if self.categories is not None and not codes:
            raise ValueError("has an empty list of categories; list them, or leave it out to learn them")
        if self.kind == "ordinal" and not codes:
            raise ValueError("is ordinal, so its categories must be listed in their order")
        if self.labels is not None and len(self.labels) != len(codes):
            raise ValueError(f"has {len(self.labels)} labels for {len(codes)} categories")
        self._check_labels()
        if self.masks and (self.indicates is None or self.kind != "binary"):
            raise ValueError("masks a partner, so it must be binary and name the partner in `indicates`")

    def _check_labels(self) -> None:
        """Refuse labels of which one does not say which code is meant, as `hg3 generate --where` takes either."""
        labels, codes = self.labels or (), [str(code) for code in self.categories or ()]
        if len(set(labels)) < len(labels):
            raise ValueError("has the same label for two categories; give each a label of its own")
        if any(label in codes and codes.index(label) != position for position, label in enumerate(labels)):
            raise ValueError("has a label that is another category's code; choose another label")

    @property
    def is_real(self) -> bool:
        return self.kind == "real"

    def position(self, code: Code) -> int:
        """Return the position of `code` in the categories, -1 if it is none of them."""
        codes = [canonical_code(known) for known in self.categories or ()]
        return codes.index(canonical_code(code)) if canonical_code(code) in codes else -1


def offset_column(name: str, width: float, unit: str) -> dict[str, Any]:
    """Return the column that holds the time since the start of a bin, a thousand values or more wide."""
    exponent = Decimal(repr(width)).normalize().as_tuple().exponent
    decimals = min(max(-int(exponent), 0) + 3, 9)
    described = f"Time since the start of the bin, which is {width:g} {unit}s wide"
    bounds = (0.0, round(width - 10.0**-decimals, decimals))
    return {"name": name, "kind": "real", "unit": f"{unit}s", "decimals": decimals, "bounds": bounds} | {
        "description": described
    }
