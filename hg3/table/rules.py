"""Rules between the cells of a patient, as a schema states them: what they say, and which sets of them can hold."""

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hg3.table.column import Code, Column
from hg3.table.forbidden import dead_end


class _Rule(BaseModel):
    """What all rules share: whether a real table that breaks one is told or refused.

    A release is made to keep it; what could not be mended is counted in its manifest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    on_table: Literal["warn", "error"] = "warn"


class _ColumnRule(_Rule):
    """A rule about one column over a patient's time."""

    kind: str
    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)


class OrderRule(_Rule):
    """Within a row, each of the real `columns` that has a value is at most the next one that has one."""

    kind: Literal["order"]
    columns: tuple[str, ...] = Field(min_length=2)

    @property
    def sentence(self) -> str:
        return " <= ".join(self.columns)


class ForbiddenRule(_Rule):
    """No row has all of these codes, by column; of a sample that does, the column named last gives way."""

    kind: Literal["forbidden"]
    codes: dict[str, Code] = Field(min_length=2)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.codes)

    @property
    def sentence(self) -> str:
        return "never " + " with ".join(f"{name} = {code}" for name, code in self.codes.items())


class MonotoneRule(_ColumnRule):
    """A patient's values of `column`, real or ordinal, only rise or only fall; empty cells are passed over."""

    kind: Literal["monotone"]
    direction: Literal["increasing", "decreasing"]

    @property
    def sentence(self) -> str:
        return f"{self.column} never {'falls' if self.direction == 'increasing' else 'rises'}"


class AbsorbingRule(_ColumnRule):
    """Once a patient's `column` has `code`, its later values are that code too."""

    kind: Literal["absorbing"]
    code: Code

    @property
    def sentence(self) -> str:
        return f"{self.column} stays {self.code}"


class EndsRule(_ColumnRule):
    """A patient has no row after the first one whose `column` has `code`."""

    kind: Literal["ends"]
    code: Code

    @property
    def sentence(self) -> str:
        return f"no row after {self.column} = {self.code}"


Rule = Annotated[OrderRule | ForbiddenRule | MonotoneRule | AbsorbingRule | EndsRule, Field(discriminator="kind")]


def check_rules(rules: tuple[Rule, ...], columns: Mapping[str, Column]) -> None:
    """Raise ValueError unless the rules fit the columns, by their names, and can hold together."""
    sentences = [rule.sentence for rule in rules]
    for rule in rules:
        if sentences.count(rule.sentence) > 1:
            raise ValueError(f"has the rule {rule.sentence!r} twice")
        fault = next(_faults(rule, columns), None)
        if fault:
            raise ValueError(f"has the rule {rule.sentence!r}, {fault}")
    _check_order(rules)
    _check_directions(rules)
    _check_givers(rules, columns)


def _faults(rule: Rule, columns: Mapping[str, Column]) -> Iterator[str]:
    """Yield what of a rule does not fit the columns."""
    unknown = [name for name in rule.columns if name not in columns]
    if unknown:
        yield f"which names {unknown}, not among its columns"
    used = [columns[name] for name in rule.columns if name in columns]
    match rule:
        case OrderRule():
            yield from _order_faults(rule, used)
        case MonotoneRule():
            if any(c.kind not in ("real", "ordinal") for c in used):
                yield "whose column is neither real nor ordinal, so nothing in it rises or falls"
        case ForbiddenRule():
            yield from _code_faults(rule.codes, used)
            if used[-1].static and not all(c.static for c in used):
                yield "whose last column gives way and is static while others are not; name another one last"
        case AbsorbingRule() | EndsRule():
            yield from _code_faults({rule.column: rule.code}, used)
    if not isinstance(rule, OrderRule | ForbiddenRule) and used[0].static:
        yield "whose column is static, while the rule is about time"
    if isinstance(rule, ForbiddenRule | AbsorbingRule) and used[-1].masks:
        yield f"which would change {used[-1].name!r}, and that says whether another column counts"


def _order_faults(rule: OrderRule, used: list[Column]) -> Iterator[str]:
    if len(set(rule.columns)) < len(rule.columns):
        yield "which names a column twice"
    if not all(c.is_real for c in used):
        yield "which orders columns that are not all real"
    if len({c.static for c in used}) > 1:
        yield "which orders static columns with others; order static ones among themselves"
    for side in (0, 1):  # sorting a row then keeps every value inside the bounds of its column
        ends = [c.bounds[side] for c in used]
        if ends != sorted(ends):
            yield "whose columns have bounds that do not rise along it; order the lowest and the highest ones too"


def _code_faults(codes: Mapping[str, Code], used: list[Column]) -> Iterator[str]:
    for column in used:
        if column.categories is None:
            yield f"whose column {column.name!r} lists no `categories`; a rule needs them listed"
        elif column.position(codes[column.name]) < 0:
            yield f"whose code {codes[column.name]!r} is not among the categories of {column.name!r}"


def _check_order(rules: tuple[Rule, ...]) -> None:
    before: dict[str, list[str]] = {}
    for rule in rules:
        if isinstance(rule, OrderRule):
            for low, high in zip(rule.columns, rule.columns[1:], strict=False):
                before.setdefault(high, []).append(low)
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        raise ValueError(f"has order rules that go in a circle: {' <= '.join(error.args[1])}") from None


def _check_directions(rules: tuple[Rule, ...]) -> None:
    monotone = [rule.column for rule in rules if isinstance(rule, MonotoneRule)]
    for name in monotone:
        if monotone.count(name) > 1:
            raise ValueError(f"has column {name!r} both rising and falling; state one direction")


def _check_givers(rules: tuple[Rule, ...], columns: Mapping[str, Column]) -> None:
    """Refuse forbidden rules whose last columns have no codes to give way to, whatever the other columns hold."""
    held = {rule.column for rule in rules if isinstance(rule, MonotoneRule | AbsorbingRule)}
    for rule in rules:
        if isinstance(rule, ForbiddenRule) and rule.columns[-1] in held:
            raise ValueError(
                f"has the rule {rule.sentence!r}, whose last column gives way and may not, for its past binds it "
                "by another rule; name another column last"
            )
    static, moving = (forbidden_of(rules, columns, kind) for kind in (True, False))
    _check_way_out(static, [], columns)
    _check_way_out(moving, static, columns)


Placed = list[tuple[ForbiddenRule, dict[str, int]]]  # rules with the positions of their codes


def _check_way_out(rules: Placed, kept: Placed, columns: Mapping[str, Column]) -> None:
    """Refuse forbidden rules that for some codes of the other columns leave the last ones none."""
    sizes = {name: len(column.categories or ()) for name, column in columns.items()}
    givers = sorted({rule.columns[-1] for rule, _ in rules})
    held = dead_end([combination for _, combination in rules], sizes, givers, [combination for _, combination in kept])
    if held is None:
        return
    case = " and ".join(f"{n} = {(columns[n].categories or ())[p]}" for n, p in held.items() if p >= 0)
    raise ValueError(
        f"has forbidden rules that leave no codes for {', '.join(givers)}{' with ' if case else ''}{case}; name other "
        "columns last, or forbid that combination too"
    )


def forbidden_of(rules: Sequence[Rule], columns: Mapping[str, Column], static: bool) -> Placed:
    """Return the forbidden rules whose last column is static, or is not, with their codes as positions."""
    return [
        (rule, {name: columns[name].position(code) for name, code in rule.codes.items()})
        for rule in rules
        if isinstance(rule, ForbiddenRule) and columns[rule.columns[-1]].static == static
    ]
