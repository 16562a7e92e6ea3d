"""What a release gives its patients: static values that all of them have, or groups of equal size."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from hg3.errors import ConfigError
from hg3.sampling.generate import Condition
from hg3.table.column import Code, canonical_code
from hg3.table.encoding import Encoder, FittedColumn
from hg3.table.rules import OrderRule
from hg3.table.schema import OBSERVED_SUFFIX

Value = Code | float


def resolve_where(where: Mapping[str, Value], encoder: Encoder) -> dict[str, Value]:
    """Return `where` with codes for labels and numbers for reals, in the order of the schema.

    Raises
    ------
    ConfigError
        If a column is unknown or not static or may give way under a rule, or a value is none of its codes or labels,
        or outside its bounds.
    """
    static = [f.column.name for f in encoder.columns if f.column.static]
    unknown = sorted(set(where) - set(static))
    if unknown:
        raise ConfigError(
            f"--where names {', '.join(unknown)}, but the static columns are {', '.join(static) or 'none'}"
        )
    _refuse_ruled(where, encoder, "--where")
    return {name: _resolved(where[name], encoder.fitted(name)) for name in static if name in where}


def _resolved(value: Value, fitted: FittedColumn) -> Value:
    column = fitted.column
    if column.is_real:
        return _number(value, fitted)
    labels = dict(zip(column.labels or (), fitted.categories, strict=False))
    codes = {canonical_code(code): code for code in fitted.categories}
    if value in labels:
        return labels[str(value)]
    if canonical_code(value) in codes and fitted.constant in (None, codes[canonical_code(value)]):
        return codes[canonical_code(value)]
    known = ", ".join(map(str, labels or codes.values()))
    raise ConfigError(f"--where {column.name}={value} is none of the column's values that a patient may have: {known}")


def _number(value: Value, fitted: FittedColumn) -> float:
    low, high = fitted.column.bounds
    try:
        number = float(value)
    except ValueError:
        number = np.nan
    if fitted.codec is None or not low <= number <= high:
        raise ConfigError(
            f"--where {fitted.column.name}={value} is not possible: give a number from {low:g} to {high:g} "
            "of a column that is not constant"
        )
    return number


def check_balance(balance: str, where: Mapping[str, Value], encoder: Encoder) -> None:
    """Refuse a column whose values cannot make equal groups.

    Raises
    ------
    ConfigError
        If it is not a static category with several codes, is given by `where`, or may give way under a rule.
    """
    able = [f.column.name for f in encoder.columns if f.column.static and f.categories and f.constant is None]
    if balance not in able or balance in where:
        raise ConfigError(
            f"--balance {balance} was given; it takes one of the static categories that --where does not fix: "
            f"{', '.join(name for name in able if name not in where) or 'there is none'}"
        )
    _refuse_ruled([balance], encoder, "--balance")


def _refuse_ruled(names: Iterable[str], encoder: Encoder, option: str) -> None:
    """Refuse columns whose given value a rule might change when the patients are decoded."""
    for rule in encoder.schema.rules:
        gives_way = rule.columns if isinstance(rule, OrderRule) else rule.columns[-1:]
        named = [name for name in names if name in gives_way]
        if named:
            raise ConfigError(
                f"{option} names {named[0]}, which may have to give way under the rule {rule.sentence!r}; give another "
                "column, or change the rule and train again"
            )


def condition_of(plan: Mapping[str, Any], encoder: Encoder, patients: range, device: torch.device) -> Condition | None:
    """Return what the patients with the numbers `patients` are given; None where nothing is.

    With balance, patient p has the (p mod K)-th of the K codes, so that a release stays a prefix of a longer one.
    """
    fixed = {name: [value] for name, value in plan["where"].items()}
    if plan["balance"]:
        fixed[plan["balance"]] = list(encoder.fitted(plan["balance"]).categories)
    if not fixed:
        return None
    x_static = np.zeros((len(patients), encoder.layout.n_static), np.float32)
    given = np.zeros((len(patients), len(encoder.layout.static)), bool)
    number = np.arange(patients.start, patients.stop)
    for position, block in enumerate(encoder.layout.static):
        if block.name in fixed:
            values = _encoded(fixed[block.name], encoder.fitted(block.name))
        elif block.name.removesuffix(OBSERVED_SUFFIX) in fixed:
            values = np.array([[-1.0, 1.0]])  # it has a value
        else:
            continue
        x_static[:, block.channels] = values[number % len(values)]
        given[:, position] = True
    return Condition(torch.from_numpy(x_static).to(device), torch.from_numpy(given).to(device))


def _encoded(values: list[Any], fitted: FittedColumn) -> np.ndarray:
    """Return the channels of each value, shape (values, width)."""
    if fitted.codec is not None:
        return fitted.codec.encode(np.array(values, np.float64))[:, None]
    codes = [fitted.categories.index(value) for value in values]
    return 2.0 * np.eye(len(fitted.categories))[codes] - 1.0
