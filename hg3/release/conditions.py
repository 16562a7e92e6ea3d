"""What a release gives its patients: static values that all of them have, or groups of equal size."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from hg3.errors import ConfigError
from hg3.sampling.generate import Condition
from hg3.table.codecs import round_inward
from hg3.table.column import Code, canonical_code
from hg3.table.encoding import Encoder, FittedColumn
from hg3.table.rules import OrderRule
from hg3.table.schema import OBSERVED_SUFFIX

Value = Code | float


def resolve_where(where: Mapping[str, Value], encoder: Encoder) -> dict[str, Value]:
    """Return `where` with codes for labels and reals as a release writes them, in the order of the schema.

    Raises
    ------
    ConfigError
        If a column is unknown, is not static, may give way under a rule or may be masked, or if a value is none that
        training patients have: another code, or a number outside the bounds or the sampling range.
    """
    static = [f.column.name for f in encoder.columns if f.column.static]
    unknown = sorted(set(where) - set(static))
    if unknown:
        raise ConfigError(
            f"--where names {', '.join(unknown)}, but the static columns are {', '.join(static) or 'none'}"
        )
    _refuse_ruled(where, encoder, "--where")
    resolved = {name: _resolved(where[name], encoder.fitted(name), encoder) for name in static if name in where}
    _refuse_masked(resolved, resolved, encoder, "--where")
    return resolved


def _resolved(value: Value, fitted: FittedColumn, encoder: Encoder) -> Value:
    column = fitted.column
    if column.is_real:
        return _number(value, fitted, encoder)
    labels = dict(zip(column.labels or (), fitted.categories, strict=False))
    codes = {canonical_code(code): code for code in fitted.categories}
    code = labels.get(str(value), codes.get(canonical_code(value)))
    if code is not None and code in fitted.occurring:
        return code
    known = ", ".join(word for word, code in (labels or codes).items() if code in fitted.occurring)
    raise ConfigError(
        f"--where {column.name}={value} is none of the column's values that training patients have: {known}"
    )


def _number(value: Value, fitted: FittedColumn, encoder: Encoder) -> float:
    """Return the number as a release writes it; the sampling range that it must lie in is told to nobody."""
    given, codec, (low, high) = f"--where {fitted.column.name}={value}", fitted.codec, fitted.column.bounds
    if codec is None:
        raise ConfigError(f"{given} is not possible, for the column is constant; leave it out")
    try:
        number = math.nan if "_" in str(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and low <= number <= high):
        raise ConfigError(f"{given} is not possible: give a finite number from {low:.15g} to {high:.15g}")
    block = next(block for block in encoder.layout.static if block.name == fitted.column.name)
    lowest, highest = codec.decode(np.array([block.low, block.high]))
    if not lowest <= round_inward(np.array(number), codec.decimals, codec.bounds) <= highest:
        raise ConfigError(
            f"{given} is farther out than the model goes; give a number that more training patients are near"
        )
    return float(codec.decode(codec.encode(np.array([number])))[0])


def check_balance(balance: str, where: Mapping[str, Value], encoder: Encoder) -> None:
    """Refuse a column whose values cannot make equal groups.

    Raises
    ------
    ConfigError
        If it is not a static category with several codes, is given by `where`, may give way under a rule or may be
        masked, or has a code that no training patient has.
    """
    able = [f.column.name for f in encoder.columns if f.column.static and f.categories and f.constant is None]
    if balance not in able or balance in where:
        raise ConfigError(
            f"--balance {balance!r} was given; it takes one of the static categories that --where does not fix: "
            f"{', '.join(name for name in able if name not in where) or 'there is none'}"
        )
    fitted = encoder.fitted(balance)
    absent = [str(code) for code in fitted.categories if code not in fitted.occurring]
    if absent:
        raise ConfigError(
            f"--balance {balance!r} was given, and no training patient has its code {', '.join(absent)}; take that out "
            "of the schema's categories and train again, or give another column"
        )
    _refuse_ruled([balance], encoder, "--balance")
    _refuse_masked([balance], where, encoder, "--balance")


def _refuse_masked(names: Iterable[str], where: Mapping[str, Value], encoder: Encoder, option: str) -> None:
    """Refuse columns that some patients would not have, unless `where` gives their masking indicator too."""
    for name in names:
        indicator = encoder.schema.masked_by(name)
        if indicator is None:
            continue
        code = encoder.fitted(indicator).categories[1]
        if where.get(indicator) != code:
            raise ConfigError(
                f"{option} names {name}, which only patients with {indicator}={code} have; add {indicator}={code} to "
                "--where"
            )


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
    channels = {name: _encoded(values, encoder.fitted(name)) for name, values in fixed.items()}
    has_value = np.array([[-1.0, 1.0]])
    channels |= {name + OBSERVED_SUFFIX: has_value for name in fixed if encoder.fitted(name).flagged}
    x_static = np.zeros((len(patients), encoder.layout.n_static), np.float32)
    given = np.zeros((len(patients), len(encoder.layout.static)), bool)
    number = np.arange(patients.start, patients.stop)
    for position, block in enumerate(encoder.layout.static):
        if block.name in channels:
            values = channels[block.name]
            x_static[:, block.channels] = values[number % len(values)]
            given[:, position] = True
    return Condition(torch.from_numpy(x_static).to(device), torch.from_numpy(given).to(device))


def _encoded(values: list[Any], fitted: FittedColumn) -> np.ndarray:
    """Return the channels of each value, shape (values, width)."""
    if fitted.codec is not None:
        return fitted.codec.encode(np.array(values, np.float64))[:, None]
    codes = [fitted.categories.index(value) for value in values]
    return 2.0 * np.eye(len(fitted.categories))[codes] - 1.0
