"""The schema: what a cohort table holds, in TOML, read once and trusted everywhere else."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hg3.errors import SchemaError
from hg3.table.column import Code, Column, offset_column
from hg3.table.rules import Rule, check_rules

FORMAT = 1
LARGEST_BIN = 1e6  # units of a step
FIRST_TIME_LIMIT = 2**31 - 100_001  # with the longest grid on top, a time still fits the 32 bits of a release

# The blocks that encoding adds to the columns; no column may take their names.
CONTINUES, PRESENT = "(record goes on)", "(time has a row)"
OBSERVED_SUFFIX = " (observed)"


class RewardTerm(BaseModel):
    """One term of the reward of a transition: `weight` times the (natural log of the) column's next value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str
    weight: float
    log: bool = False


class Target(BaseModel):
    """What users will predict from a record, and what an evaluation therefore predicts from real and synthetic ones.

    Parameters
    ----------
    name : how reports call it.
    column : the outcome, static or monthly.
    codes, below, above : one of the three: the outcome has happened where the column is one of `codes`, is at most
        `below`, or is at least `above`.
    observe : number of first times that the prediction sees, at least 1.
    until : of a column that is not static: the outcome counts if it happens in times `observe` to `until` - 1,
        counted from 0, or, if absent, at any time from `observe` on. Patients with whom it happened before are left
        out, and those whose record ends before `until` without it.
    hide : columns that tell the outcome and that the prediction must not see (how long the patient was followed up).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    column: str
    codes: tuple[Code, ...] | None = None
    below: float | None = None
    above: float | None = None
    observe: int = Field(ge=1)
    until: int | None = None
    hide: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if sum(given is not None for given in (self.codes, self.below, self.above)) != 1:
            raise ValueError("takes one of `codes`, `below` and `above`")
        if self.until is not None and self.until <= self.observe:
            raise ValueError(f"has until = {self.until}, which is not after observe = {self.observe}")
        return self


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
    targets : what an evaluation predicts, see `Target`.
    subgroups : static columns with codes whose joint table an evaluation shows; all of them if absent.
    quasi_identifiers : columns that somebody who looks for a patient may know; all static ones if absent.
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
    targets: tuple[Target, ...] = ()
    subgroups: tuple[str, ...] | None = None
    quasi_identifiers: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _column_within(cls, data: Any) -> Any:
        return _with_column_within(data)

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
        self._check_target_names()
        for target in self.targets:
            self._check_target(target)
        self._check_evaluated()
        for column in self.columns:
            if column.indicates:
                self._check_partner(column)
        self._check_block_names()
        self._check_bin()
        check_rules(self.rules, self.by_name)
        return self

    def _check_target_names(self) -> None:
        names = [target.name for target in self.targets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names the targets {twice} more than once")

    def _check_target(self, target: Target) -> None:
        unknown = sorted({target.column, *target.hide} - set(self.by_name))
        if unknown:
            raise ValueError(f"has target {target.name!r} on the unknown columns {unknown}")
        column = self.by_name[target.column]
        if column.is_real == (target.codes is not None):
            wanted = "`below` or `above`" if column.is_real else "`codes`"
            raise ValueError(f"has target {target.name!r} on {column.name!r} ({column.kind}), which takes {wanted}")
        if column.static and target.until is not None:
            raise ValueError(f"has target {target.name!r} with `until`, but {column.name!r} is static; leave it out")
        if max(target.observe, target.until or 0) > self.length:
            raise ValueError(f"has target {target.name!r} beyond the {self.length} times of a record")
        if not column.static and target.observe == self.length:
            raise ValueError(f"has target {target.name!r} that observes all times, and none is left for the outcome")
        strange = [code for code in target.codes or () if column.categories and column.position(code) < 0]
        if strange:
            raise ValueError(f"has target {target.name!r} with codes {strange}, which {column.name!r} does not have")

    def _check_evaluated(self) -> None:
        static = {c.name for c in self.columns if c.static}
        groups = {c.name for c in self.columns if c.static and not c.is_real}
        for key, known, what in (
            ("subgroups", groups, "static columns with codes"),
            ("quasi_identifiers", static, "static columns"),
        ):
            strange = sorted(set(getattr(self, key) or ()) - known)
            if strange:
                raise ValueError(f"has {strange} among its {key}, which takes {what}")

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

    def known_subgroups(self) -> tuple[Column, ...]:
        """Return the columns of `subgroups`, by default all static ones with codes."""
        default = tuple(c.name for c in self.columns if c.static and not c.is_real)
        return tuple(self.by_name[name] for name in (default if self.subgroups is None else self.subgroups))

    def known_quasi_identifiers(self) -> tuple[Column, ...]:
        """Return the columns of `quasi_identifiers`, by default all static ones."""
        default = tuple(c.name for c in self.columns if c.static)
        names = default if self.quasi_identifiers is None else self.quasi_identifiers
        return tuple(self.by_name[name] for name in names)

    def to_toml(self) -> str:
        """Return the schema as TOML that `load_schema` reads back to an equal schema."""
        content = self.model_dump(mode="python", exclude_defaults=True, exclude_none=True)
        return tomli_w.dumps({"format": self.format} | content)


def _with_column_within(data: Any) -> Any:
    """Return a schema's content with the column `within`, where it names one and does not describe it itself."""
    if not isinstance(data, dict) or not isinstance(data.get("within"), str) or not data["within"]:
        return data
    width, columns = data.get("bin"), data.get("columns")
    if not isinstance(width, int | float) or not 0 < width <= LARGEST_BIN:
        return data
    if not isinstance(columns, list | tuple) or data["within"] in map(_name_of, columns):
        return data
    return {**data, "columns": [offset_column(data["within"], float(width), data.get("step", "")), *columns]}


def _name_of(column: Any) -> Any:
    return column.get("name") if isinstance(column, dict) else getattr(column, "name", None)


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
        content = _with_column_within(tomllib.loads(text))  # before faults are placed by a column's number
        return TableSchema.model_validate(content)
    except tomllib.TOMLDecodeError as error:
        raise SchemaError(f"schema {origin} is not TOML: {error}") from None
    except ValidationError as error:
        raise SchemaError(f"schema {origin} {_validation_sentence(error, content)}") from None


def _validation_sentence(error: ValidationError, content: dict[str, Any]) -> str:
    """Return pydantic's findings as one sentence: `where: what`, joined by semicolons, at most ten."""
    parts = []
    for fault in error.errors()[:10]:
        where = ".".join(_path(fault["loc"], content))
        what = fault["msg"].removeprefix("Value error, ")
        parts.append(f"{where}: {what}" if where else what)
    return "; ".join(parts)


def _path(loc: tuple[int | str, ...], content: dict[str, Any]) -> list[str]:
    """Return where a fault is; a column of `content` is called by its name, if it has one."""
    path = [str(part) for part in loc]
    if len(loc) < 2 or loc[0] != "columns" or not isinstance(loc[1], int) or "columns" not in content:
        return path
    entry = content["columns"][loc[1]]
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return path
    return [f"column {entry['name']!r}", *path[2:]]
