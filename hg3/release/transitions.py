"""A release as the transitions (s, a, r, s') that reinforcement learning takes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from hg3.errors import ReleaseError
from hg3.release.reading import Release, rows_of, side_by_side, values_of
from hg3.table.column import Column
from hg3.table.reward import schema_reward
from hg3.table.schema import TableSchema

Reward = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Transitions:
    """M steps of patients from one time to the next, sorted by patient and time.

    Parameters
    ----------
    s, s_next : float64, shape (M, S), the columns `state_names` at t and at t + 1; codes as positions in the
        schema's categories, NaN where missing.
    a : the columns `action_names` at t, shape (M, A): int32 positions, -1 where missing; float64 with NaN
        instead if an action column is real.
    r : float64, shape (M,), NaN where a value that it needs is missing.
    done : bool, shape (M,), a patient's last transition. The record ends there, for whatever reason.
    patient, time : int64, shape (M,), of the row at t.
    skipped : number of neighbouring rows of a patient that a gap in time parts; they make no transition.
    """

    s: np.ndarray
    a: np.ndarray
    r: np.ndarray
    s_next: np.ndarray
    done: np.ndarray
    patient: np.ndarray
    time: np.ndarray
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    skipped: int


def make_transitions(table: pa.Table, release: Release, reward: Reward | None) -> Transitions:
    schema = release.schema
    _check_roles(schema, reward)
    rows = rows_of(table, release)
    same = rows.number[1:] == rows.number[:-1]
    at = np.flatnonzero(same & (np.diff(rows.position) == 1))
    values = {column.name: values_of(table, column, release.folder) for column in schema.columns}
    state = [column.name for column in schema.columns if column.role == "state"]
    actions = [column for column in schema.columns if column.role == "action"]
    s, s_next = (side_by_side([values[name] for name in state], rows_) for rows_ in (at, at + 1))
    a = _actions([values[column.name] for column in actions], actions, at)
    number = rows.number[at]
    following = {term.column: values[term.column][at + 1] for term in schema.reward}
    return Transitions(
        s=s,
        a=a,
        r=schema_reward(following, schema) if reward is None else _own_reward(reward, s, a, s_next),
        s_next=s_next,
        done=np.append(number[1:] != number[:-1], True)[: len(at)],
        patient=rows.patient[at],
        time=rows.position[at] + schema.first_time,
        state_names=tuple(state),
        action_names=tuple(column.name for column in actions),
        skipped=int(same.sum()) - len(at),
    )


def _check_roles(schema: TableSchema, reward: Reward | None) -> None:
    if all(column.role == "state" for column in schema.columns):
        raise ReleaseError(
            f'schema {schema.name!r} has no action, which transitions need; add `role = "action"` to the '
            "columns that somebody decides, in the schema that the release is made with"
        )
    if not schema.reward and reward is None:
        raise ReleaseError(
            f"schema {schema.name!r} has no reward; add [[reward]] with column and weight to the schema that "
            "the release is made with, or call load with a function reward=f of (s, a, s_next)"
        )


def _actions(values: list[np.ndarray], columns: list[Column], at: np.ndarray) -> np.ndarray:
    if any(column.is_real for column in columns):
        return side_by_side(values, at)
    return side_by_side([np.nan_to_num(column, nan=-1) for column in values], at).astype(np.int32)


def _own_reward(reward: Reward, s: np.ndarray, a: np.ndarray, s_next: np.ndarray) -> np.ndarray:
    r = np.asarray(reward(s, a, s_next), dtype=np.float64)
    if r.shape != (len(s),):
        raise ReleaseError(f"the reward function returned shape {r.shape}, not one a transition, ({len(s)},)")
    return r
