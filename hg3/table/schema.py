"""The schema: what a cohort table holds, in TOML, read once and trusted everywhere else."""

import math
import re
import tomllib
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hg3.errors import SchemaError
from hg3.table.rules import Rule, check_rules

FORMAT = 1
Code = int | str
WHOLE_NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.0*)?")
LARGEST_CODE = 2**63 - 1
LARGEST_REAL = 1e30  # far beyond any measurement; the codes that some programs write for "missing" lie above
LARGEST_BIN = 1e6  # units of a step
FIRST_TIME_LIMIT = 2**31 - 100_001  # with the longest grid on top, a time still fits the 32 bits of a release

# The blocks that encoding adds to the columns; no column may take their names.
CONTINUES, PRESENT = "(record goes on)", "(time has a row)"
OBSERVED_SUFFIX = " (observed)"


def canonical_code(code: object) -> str:
    """Return a code as text, so that 1, 1.0, True and "1" are one code, and "01" another."""
    text = repr(int(code)) if isinstance(code, float) and code.is_integer() else str(code).strip()
    if text in ("True", "true", "TRUE", "False", "false", "FALSE"):
        return str(int(text[0] in "Tt"))
    return str(int(text.split(".")[0])) if WHOLE_NUMBER.fullmatch(text) and len(text) < 40 else text


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
        if self.masks and (self.indicates is None or self.kind != "binary"):
            raise ValueError("masks a partner, so it must be binary and name the partner in `indicates`")

    @property
    def is_real(self) -> bool:
        return self.kind == "real"

    def position(self, code: Code) -> int:
        """Return the position of `code` in the categories, -1 if it is none of them."""
        codes = [canonical_code(known) for known in self.categories or ()]
        return codes.index(canonical_code(code)) if canonical_code(code) in codes else -1


class RewardTerm(BaseModel):
    """One term of the reward of a transition: `weight` times the (natural log of the) column's next value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str
    weight: float
    log: bool = False


class TableSchema(BaseModel):
    """A table in long format: one row a patient and time.

    Parameters
    ----------
    patient, time : the columns that name the patient and the time, whole numbers of `step`.
    bin, within : visits at any time are put on a grid of steps that are `bin` wide, in units of `step`. The time
        column then counts bins, and the real column `within`, which hg3 makes, holds the time since the bin's start:
        time x bin + within is the time again. A table that has the column `within` is binned already.
    length : number of times of the grid; a record holds times `first_time` to `first_time + length - 1`.
    columns : what is modelled, in the order of the release.
    rules : what holds between cells of a patient, see `hg3.table.rules`; a release keeps them.
    ignore : columns of the table that are left out on purpose; any other unknown column is an error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    name: str = Field(min_length=1)
    title: str = ""
    source: str = ""
    patient: str = Field(min_length=1)
    time: str = Field(min_length=1)
    step: Literal["minute", "hour", "day", "week", "month", "year", "visit"]
    first_time: int = Field(default=0, ge=-FIRST_TIME_LIMIT, le=FIRST_TIME_LIMIT)
    length: int = Field(ge=1, le=100_000)
    bin: float | None = Field(default=None, gt=0, le=LARGEST_BIN, allow_inf_nan=False)
    within: str = ""
    columns: tuple[Column, ...] = Field(min_length=1)
    reward: tuple[RewardTerm, ...] = ()
    rules: tuple[Rule, ...] = ()
    ignore: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _column_within(cls, data: Any) -> Any:
        """Add the column `within` where the schema names it and does not describe it itself."""
        if not isinstance(data, dict) or not isinstance(data.get("within"), str) or not data["within"]:
            return data
        width, columns = data.get("bin"), data.get("columns")
        if not isinstance(width, int | float) or not 0 < width <= LARGEST_BIN:
            return data
        if not isinstance(columns, list | tuple) or data["within"] in map(_name_of, columns):
            return data
        return {**data, "columns": [_offset_column(data["within"], float(width), data.get("step", "")), *columns]}

    @model_validator(mode="before")
    @classmethod
    def _known_format(cls, data: Any) -> Any:
        written = data.get("format") if isinstance(data, dict) else None
        if isinstance(written, int) and written > FORMAT:
            raise ValueError(f"has format {written} and this hg3 reads up to {FORMAT}; update hg3")
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [self.patient, self.time, *(c.name for c in self.columns), *self.ignore]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"names {twice} more than once among patient, time, columns and ignore")
        for term in self.reward:
            if term.column not in self.by_name or not self.by_name[term.column].is_real:
                raise ValueError(f"has a reward on {term.column!r}, which is not one of its real columns")
        for column in self.columns:
            if column.indicates:
                self._check_partner(column)
        self._check_block_names()
        self._check_bin()
        check_rules(self.rules, self.by_name)
        return self

    def _check_bin(self) -> None:
        if (self.bin is None) != (self.within == ""):
            raise ValueError(
                "has one of `bin` and `within`; give the width of a step and the name of the column within"
            )
        if self.bin is None:
            return
        column = self.by_name[self.within]
        if not column.is_real or column.static or column.missing != "never" or column.decimals is None:
            raise ValueError(
                f"has column {self.within!r} for the time within a bin, which must be real, not static, never missing "
                "and with `decimals`; leave it out and hg3 adds it"
            )
        if not (column.bounds[0] == 0 and column.bounds[1] < self.bin):
            raise ValueError(f"has column {self.within!r} with bounds that are not from 0 to less than {self.bin:g}")

    def _check_partner(self, column: Column) -> None:
        partner = self.by_name.get(column.indicates or "")
        if partner is None:
            raise ValueError(f"has column {column.name!r} indicating the unknown column {column.indicates!r}")
        if partner is column:
            raise ValueError(f"has column {column.name!r} indicating itself")
        if not column.masks:
            return
        if partner.static != column.static:
            raise ValueError(f"has {column.name!r} masking {partner.name!r}: one is static, the other is not")
        if partner.masks:
            raise ValueError(f"has {column.name!r} masking {partner.name!r}, which masks a column itself")
        if self.masked_by(partner.name) != column.name:
            raise ValueError(f"has two columns masking {partner.name!r}")

    def _check_block_names(self) -> None:
        flags = {c.name + OBSERVED_SUFFIX for c in self.columns if c.missing == "modelled"}
        taken = sorted({CONTINUES, PRESENT, *flags} & set(self.by_name))
        if taken:
            raise ValueError(f"has columns {taken}, names that hg3 needs for itself; rename them")

    @property
    def by_name(self) -> dict[str, Column]:
        """The columns by their names."""
        return {column.name: column for column in self.columns}

    def masked_by(self, name: str) -> str | None:
        """Return the indicator that masks column `name`, if there is one."""
        return next((c.name for c in self.columns if c.masks and c.indicates == name), None)

    def to_toml(self) -> str:
        """Return the schema as TOML that `load_schema` reads back to an equal schema."""
        content = self.model_dump(mode="python", exclude_defaults=True, exclude_none=True)
        return tomli_w.dumps({"format": self.format} | content)


def _name_of(column: Any) -> Any:
    return column.get("name") if isinstance(column, dict) else getattr(column, "name", None)


def _offset_column(name: str, width: float, unit: str) -> dict[str, Any]:
    """Return the column that holds the time since the start of a bin, a thousand values or more wide."""
    exponent = Decimal(repr(width)).normalize().as_tuple().exponent
    decimals = min(max(-int(exponent), 0) + 3, 9)
    described = f"Time since the start of the bin, which is {width:g} {unit}s wide"
    bounds = (0.0, round(width - 10.0**-decimals, decimals))
    return {"name": name, "kind": "real", "unit": f"{unit}s", "decimals": decimals, "bounds": bounds} | {
        "description": described
    }


def shipped_schemas() -> list[str]:
    """Return the names of the schemas that come with hg3."""
    names = (path.name for path in (files("hg3.table") / "schemas").iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_schema(name_or_path: str | Path) -> TableSchema:
    """Return a schema, shipped (by name, `art-hiv-v2`) or from a TOML file.

    Raises
    ------
    SchemaError
        If there is none of that name, the file is unreadable, or the schema contradicts itself.
    """
    if str(name_or_path) in shipped_schemas():
        text = (files("hg3.table") / "schemas" / f"{name_or_path}.toml").read_text(encoding="utf-8")
        return parse_schema(text, str(name_or_path))
    try:
        text = Path(name_or_path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        shipped = ", ".join(shipped_schemas())
        raise SchemaError(
            f"{str(name_or_path)!r} is neither a shipped schema ({shipped}) nor a readable TOML file "
            f"({type(error).__name__}); name one of them or give the path of a schema"
        ) from None
    return parse_schema(text, str(name_or_path))


def parse_schema(text: str, origin: str) -> TableSchema:
    """Return the schema in `text`; `origin` names it in errors."""
    try:
        content = tomllib.loads(text)
        return TableSchema.model_validate(content)
    except tomllib.TOMLDecodeError as error:
        raise SchemaError(f"schema {origin} is not TOML: {error}") from None
    except ValidationError as error:
        raise SchemaError(f"schema {origin} {validation_sentence(error, 'columns', content)}") from None


def validation_sentence(error: ValidationError, named_list: str = "", content: dict[str, Any] | None = None) -> str:
    """Return pydantic's findings as one sentence: `where: what`, joined by semicolons, at most ten.

    Entries of the list `named_list` of `content` are called by their name, if they have one.
    """
    parts = []
    for fault in error.errors()[:10]:
        where = ".".join(_path(fault["loc"], content or {}, named_list))
        what = fault["msg"].removeprefix("Value error, ")
        parts.append(f"{where}: {what}" if where else what)
    return "; ".join(parts)


def _path(loc: tuple[int | str, ...], content: dict[str, Any], named_list: str) -> list[str]:
    path = [str(part) for part in loc]
    if len(loc) < 2 or loc[0] != named_list or not isinstance(loc[1], int) or named_list not in content:
        return path
    entry = content[named_list][loc[1]]
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return path
    return [f"column {entry['name']!r}", *path[2:]]
