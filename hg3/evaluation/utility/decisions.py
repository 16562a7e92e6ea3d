"""Records as reinforcement learning sees them: states, one joint action a time, rewards of the next time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hg3.evaluation.draws import Parts
from hg3.evaluation.features import Encoded, encode
from hg3.evaluation.panel import Panel, scored
from hg3.evaluation.utility.samples import FEWEST, paired
from hg3.table.column import Column
from hg3.table.reward import schema_reward

MOST_ACTIONS = 20  # joint codes with a name; all others are one action more
QUARTERS = 4  # of real patients' cells: the levels of an action that is a real number
OTHER = "other"


@dataclass(frozen=True)
class Decisions:
    """N patients over L times.

    Parameters
    ----------
    state : float32, shape (N, L, S): what `features.encode` says of the static columns, of those that are no actions
        at that time, and of the actions at the time before.
    action : int64, shape (N, L), positions in the list of joint actions.
    reward : float64, shape (N, L), of the step to the next time; NaN where there is none, or its reward is not known.
    has_row : bool, shape (N, L).
    """

    state: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    has_row: np.ndarray

    def runs(self, patients: np.ndarray) -> Iterator[tuple[int, slice]]:
        """Yield each stretch of times, two or more, of one of `patients` whose every step has a reward."""
        steps = ~np.isnan(self.reward)
        for patient in patients:
            edges = np.flatnonzero(np.diff(np.concatenate([[0], steps[patient].astype(np.int8), [0]])))
            for start, stop in edges.reshape(-1, 2):
                yield int(patient), slice(int(start), int(stop) + 1)  # with the time that the last step leads to


def decisions(panels: Parts[Panel]) -> tuple[Parts[Decisions], tuple[str, ...]]:
    """Return the decisions of all parts and what each joint action is called."""
    joint, names = _joint_actions(panels)
    seen_and_done = paired(lambda state, action: (state, action), _states(panels), joint)
    return paired(lambda both, panel: Decisions(*both, _rewards(panel), panel.has_row), seen_and_done, panels), names


def _states(panels: Parts[Panel]) -> Parts[np.ndarray]:
    now, decided = (encode(panels.each(partial(_only, role=role))) for role in ("state", "action"))

    def joined(state: Encoded, decision: Encoded) -> np.ndarray:
        before = np.concatenate([np.zeros_like(decision.moving[:, :1]), decision.moving[:, :-1]], axis=1)
        always = np.broadcast_to(state.static[:, None], (*state.moving.shape[:2], state.static.shape[1]))
        return np.concatenate([always, state.moving, before], axis=2)

    return paired(joined, now, decided)


def _only(panel: Panel, role: str) -> Panel:
    """Return the panel with its state columns, or its action columns, alone."""
    columns = tuple(column for column in panel.schema.columns if column.role == role)
    return replace(panel, schema=panel.schema.model_copy(update={"columns": columns}))


def _joint_actions(panels: Parts[Panel]) -> tuple[Parts[np.ndarray], tuple[str, ...]]:
    """Return the position of every time's joint action, (N, L), and the names: at most 20 and the other.

    A joint action has a name of its own if 10 training patients have it: those with most rows.
    """
    columns = [column for column in panels.holdout.schema.columns if column.role == "action"]
    levels = [_levels(panels, column) for column in columns]
    sizes = tuple(len(names) for _, names in levels)

    def joint(part: str) -> np.ndarray:
        return np.ravel_multi_index([getattr(level, part) for level, _ in levels], sizes)

    codes = Parts(joint("made"), joint("train"), joint("holdout"))
    named = _frequent(codes.train, panels.train.has_row)
    called = [
        ", ".join(names[k] for (_, names), k in zip(levels, np.unravel_index(code, sizes), strict=True))
        for code in named
    ]
    position = {int(code): place for place, code in enumerate(named)}
    actions = codes.each(lambda part: np.vectorize(lambda code: position.get(int(code), len(named)))(part))
    return actions, (*called, OTHER)


def _levels(panels: Parts[Panel], column: Column) -> tuple[Parts[np.ndarray], list[str]]:
    """Return the level of an action column at every time, int64 (N, L), the last one where it is not known."""
    if column.is_real:
        names = [f"{column.name} in quarter {k + 1}" for k in range(QUARTERS)]
        values = scored(panels, column).each(lambda part: np.minimum(np.floor(part * QUARTERS), QUARTERS - 1))
    else:
        codes = panels.holdout.categories[column.name]
        names = [*(column.labels or map(str, codes))]
        values = panels.each(lambda panel: panel.row_values(column))
    return values.each(lambda part: np.where(np.isnan(part), len(names), part).astype(np.int64)), [*names, "not known"]


def _frequent(codes: np.ndarray, has_row: np.ndarray) -> np.ndarray:
    """Return the codes that 10 patients or more have, those with most rows first, at most 20."""
    patient = np.nonzero(has_row)[0]
    kinds, of_row = np.unique(codes[has_row], return_inverse=True)
    rows = np.bincount(of_row, minlength=len(kinds))
    pairs = np.unique(np.stack([of_row, patient]), axis=1)
    patients = np.bincount(pairs[0], minlength=len(kinds))
    order = np.argsort(-rows, kind="stable")
    return kinds[order[patients[order] >= FEWEST]][:MOST_ACTIONS]


def _rewards(panel: Panel) -> np.ndarray:
    """Return the reward of each step between neighbouring times, (N, L); NaN where there is no step or no reward."""
    following = {term.column: panel.values[term.column][:, 1:] for term in panel.schema.reward}
    reward = schema_reward(following, panel.schema)  # where the next time has no row, it has no value
    reward = np.where(panel.has_row[:, :-1], reward, np.nan)
    return np.concatenate([reward, np.full((panel.n_patients, 1), np.nan)], axis=1)
