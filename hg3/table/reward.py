"""The reward of a transition, as a schema defines it."""

from collections.abc import Mapping

import numpy as np

from hg3.table.schema import RewardTerm, TableSchema

MOST_DECIMALS = 9  # of any column; the floor of a logarithm where the schema states no decimals


def schema_reward(following: Mapping[str, np.ndarray], schema: TableSchema) -> np.ndarray:
    """Return the sum of the terms of `[[reward]]`, NaN where a value that it needs is missing.

    Parameters
    ----------
    following : by column, the values of the next row, float64, all of one shape, which the reward has too.
    """
    total = np.zeros(())
    for term in schema.reward:
        total = total + term.weight * _term(following[term.column], term, schema)
    return total


def _term(value: np.ndarray, term: RewardTerm, schema: TableSchema) -> np.ndarray:
    if not term.log:
        return value
    decimals = schema.by_name[term.column].decimals
    half_unit = 0.5 * 10.0 ** -(MOST_DECIMALS if decimals is None else decimals)
    return np.log(np.maximum(value, half_unit))
