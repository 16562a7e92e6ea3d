"""Where the rules of a schema are broken, in a cohort as in a sample: the same code for both."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hg3.table.column import Column
from hg3.table.rules import AbsorbingRule, EndsRule, ForbiddenRule, MonotoneRule, OrderRule, Rule


@dataclass(frozen=True)
class Cells:
    """What rules look at: the cells of N patients and L times.

    Parameters
    ----------
    values : by column, float64, shape (N, L), or (N, 1) if static: reals in their unit, codes as positions in the
        schema's categories, NaN where there is no value.
    has_row : bool, shape (N, L).
    """

    values: dict[str, np.ndarray]
    has_row: np.ndarray


def violations(rule: Rule, cells: Cells, columns: Mapping[str, Column]) -> tuple[np.ndarray, np.ndarray]:
    """Return where `rule` is broken and where it could be, bool, shape (N, L), or (N, 1) if it is about static columns.

    A row counts once under an order or a forbidden combination; a cell that has an earlier one under a monotone or
    an absorbing rule; and under `ends` each row of a patient who reaches the code.
    """
    values = [cells.values[name] for name in rule.columns]
    match rule:
        case OrderRule():
            return _disordered(values)
        case ForbiddenRule():
            codes = [columns[name].position(code) for name, code in rule.codes.items()]
            return _forbidden(values, codes)
        case MonotoneRule(direction=direction):
            return _turning(values[0] if direction == "increasing" else -values[0])
        case AbsorbingRule(column=name, code=code):
            reached = _earlier(values[0] == columns[name].position(code))
            could = reached & ~np.isnan(values[0])
            return could & (values[0] != columns[name].position(code)), could
        case EndsRule(column=name, code=code):
            has_code = np.equal(values[0], columns[name].position(code))
            return cells.has_row & _earlier(has_code), cells.has_row & has_code.any(axis=1, keepdims=True)


def counted(rule: Rule, columns: Mapping[str, Column]) -> str:
    """Return what `violations` counts: rows, values, or patients where all columns are static."""
    if all(columns[name].static for name in rule.columns):
        return "patients"
    return "values" if isinstance(rule, MonotoneRule | AbsorbingRule) else "rows"


def _disordered(values: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    stacked = np.stack(values)
    highest = np.fmax.accumulate(stacked, axis=0)  # so far along the order; NaN before the first value
    broken = np.any(stacked[1:] < highest[:-1], axis=0)
    return broken, np.sum(~np.isnan(stacked), axis=0) > 1


def _forbidden(values: list[np.ndarray], codes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    together, of_code = np.stack(np.broadcast_arrays(*values)), np.array(codes)[:, None, None]
    return np.all(together == of_code, axis=0), ~np.isnan(together).any(axis=0)


def _turning(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which values lie below an earlier one of the patient, and which have an earlier one."""
    highest = np.full_like(values, np.nan)
    highest[:, 1:] = np.fmax.accumulate(values, axis=1)[:, :-1]
    return values < highest, ~np.isnan(values) & ~np.isnan(highest)


def _earlier(reached: np.ndarray) -> np.ndarray:
    """Return which times lie after the first true one."""
    after = np.zeros_like(reached)
    after[:, 1:] = np.logical_or.accumulate(reached, axis=1)[:, :-1]
    return after
