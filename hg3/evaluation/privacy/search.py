"""The nearest of all synthetic records, however many: they become points a block at a time, and are forgotten again."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hg3.evaluation.draws import Parts
from hg3.evaluation.panel import Panel, some_patients
from hg3.evaluation.privacy.distances import Points, blocks, nearest, points

MOST_POINTS = 10_000  # synthetic records at a time, whose numbers are all in memory


@dataclass(frozen=True)
class Near:
    """Distances to the nearest one, float32.

    Parameters
    ----------
    made : of every synthetic record to the training patients.
    train, holdout : of real patients to all synthetic records.
    """

    made: np.ndarray
    train: np.ndarray
    holdout: np.ndarray


def near_everybody(made: Panel, panels: Parts[Panel], space: Parts[Points]) -> Near:
    """Return who is nearest between all records of `made` and the real patients of `panels`.

    Parameters
    ----------
    panels : of which `space` holds the points; its synthetic records are some of `made`, or all.
    """
    of_made, of_train = [], np.full(len(space.train), np.inf, np.float32)
    of_holdout = np.full(len(space.holdout), np.inf, np.float32)
    for records in _in_blocks(made, panels, space):
        to_train = np.full(len(records), np.inf, np.float32)
        for some, apart in blocks(space.train, records):
            of_train[some] = np.minimum(of_train[some], apart.min(axis=1))
            to_train = np.minimum(to_train, apart.min(axis=0))
        of_made.append(to_train)
        of_holdout = np.minimum(of_holdout, nearest(space.holdout, records)[:, 0])
    return Near(np.concatenate(of_made), of_train, of_holdout)


def _in_blocks(made: Panel, panels: Parts[Panel], space: Parts[Points]) -> Iterator[Points]:
    """Yield all synthetic records as points of `space`, whose scale real patients alone make."""
    if made.n_patients == len(space.made):
        yield space.made
        return
    for start in range(0, made.n_patients, MOST_POINTS):
        block = some_patients(made, slice(start, start + MOST_POINTS))
        yield points(replace(panels, made=block)).made
