"""Is everybody there: which subgroups, cells of the joint table of static codes, a release has at all.

A distance of joint shares (mode collapse) hardly moves when a small subgroup is gone; a share of subgroups does.
"""

from dataclasses import dataclass

import numpy as np

from hg3.evaluation.draws import N_DRAWS, Draws, Measured, Parts
from hg3.evaluation.panel import Panel
from hg3.evaluation.results import Found
from hg3.evaluation.suppression import FEWEST_PATIENTS
from hg3.table.column import Column

COVERAGE = "subgroup coverage"


@dataclass(frozen=True)
class Subgroups:
    """The K subgroups that a release of its size has to have: cells as `subgroup_of` numbers them, and their patients.

    Parameters
    ----------
    cell, real, made : int64, shape (K,): the cell, and how many real and synthetic patients are in it.
    n_real, n_made : how many patients there are in all cells, of these and of any others.
    """

    cell: np.ndarray
    real: np.ndarray
    made: np.ndarray
    n_real: int
    n_made: int


def subgroup_measures(panels: Parts[Panel], draws: Draws, seed: int = 0) -> Found:
    """Return the share of the real patients' subgroups that the release has; nothing where the schema has none.

    Over the whole release: what is in few of its draws is in it all the same. The ceiling: the share that as many
    patients have who are drawn, with replacement, from all real ones, 50 times.

    Parameters
    ----------
    draws : unused.
    """
    columns = panels.holdout.schema.known_subgroups()
    if not columns:
        return [], {}, []
    found = wanted_subgroups(panels)
    if not len(found.cell):
        unknown = np.full(N_DRAWS, np.nan)
        remark = (
            f"No subgroup is looked for: that takes {FEWEST_PATIENTS} real patients in it, and as many to be expected "
            "in a release of this size."
        )
        return [Measured(COVERAGE, "", unknown, unknown, True)], {}, [remark]
    shares = np.append(found.real, found.n_real - found.real.sum()) / found.n_real
    as_many = np.random.default_rng([seed, found.n_made]).multinomial(found.n_made, shares, N_DRAWS)[:, :-1]
    score = np.full(N_DRAWS, (found.made > 0).mean())
    return [Measured(COVERAGE, "", score, (as_many > 0).mean(axis=1), True)], {}, []


def wanted_subgroups(panels: Parts[Panel]) -> Subgroups:
    """Return the subgroups of at least 10 real patients that would have 10 in a release of this size as well.

    Of fewer, chance alone decides whether a release has any.
    """
    columns = panels.holdout.schema.known_subgroups()
    cells = panels.each(lambda panel: subgroup_of(panel, columns))
    cell, real = np.unique(np.concatenate([cells.train, cells.holdout]), return_counts=True)
    n_real, n_made = int(real.sum()), len(cells.made)
    wanted = real * min(1.0, n_made / n_real) >= FEWEST_PATIENTS
    made = np.array([(cells.made == one).sum() for one in cell[wanted]], np.int64)
    return Subgroups(cell[wanted], real[wanted], made, n_real, n_made)


def subgroup_of(panel: Panel, columns: tuple[Column, ...]) -> np.ndarray:
    """Return the number of each patient's cell of the joint table, the last column's code running fastest, (N,).

    Having no code is a code of its own.
    """
    codes = [np.nan_to_num(panel.values[c.name][:, 0], nan=panel.n_codes(c)).astype(np.int64) for c in columns]
    return np.ravel_multi_index(codes, _sizes(panel, columns))


def codes_of(cell: int, panel: Panel, columns: tuple[Column, ...]) -> tuple[int, ...]:
    """Return the position of each column's code in a cell; where it has none, the number of its codes."""
    return tuple(int(code) for code in np.unravel_index(cell, _sizes(panel, columns)))


def _sizes(panel: Panel, columns: tuple[Column, ...]) -> list[int]:
    return [panel.n_codes(column) + 1 for column in columns]
