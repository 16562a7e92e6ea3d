"""Singling out: descriptions of one patient, made from the release alone."""

import numpy as np

from hg3.evaluation.draws import N_DRAWS, Measured, Parts, make_draws
from hg3.evaluation.panel import Panel
from hg3.evaluation.privacy.attributes import NONE, attributes

MOST_PREDICATES = 1_000
FEWEST_PREDICATES = 20
TRIES = 10  # for each predicate


def singling_out_measures(panels: Parts[Panel], seed: int = 0) -> tuple[list[Measured], list[str]]:
    """Return the share of predicates that describe exactly one training patient; the ceiling: one hold-out patient.

    The form of Giomi et al. (2023). A predicate takes a synthetic record at random and two or more columns, and says
    the record's most frequent codes and tenths of reals there; it counts if it describes that record alone in the
    release. Each of 50 draws takes equally many training and hold-out patients, half of
    the smaller part, as a predicate holds of one patient alone more often in a small crowd.
    """
    codes = _codes(panels)
    predicates = _predicates(codes.made, np.random.default_rng(seed))
    if len(predicates) < FEWEST_PREDICATES:
        unknown = np.full(N_DRAWS, np.nan)
        remark = (
            f"Singling out is not estimable: the release gives {len(predicates)} predicates that hold of one record "
            f"alone, and {FEWEST_PREDICATES} are needed."
        )
        return [Measured("singling out", "", unknown, unknown)], [remark]
    crowds = make_draws(Parts(len(codes.holdout), len(codes.train), len(codes.holdout)), seed)
    score, ceiling = (
        (crowd @ _hits(part, predicates) == 1).mean(axis=1)
        for part, crowd in ((codes.train, crowds.train), (codes.holdout, crowds.holdout))
    )
    return [Measured("singling out", "", score, ceiling)], []


def _codes(panels: Parts[Panel]) -> Parts[np.ndarray]:
    found = attributes(panels)
    return Parts(*(np.stack([getattr(one.codes, p) for one in found], axis=1) for p in ("made", "train", "holdout")))


def _predicates(made: np.ndarray, random: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return columns and their codes that exactly one of the records (M, columns) has."""
    found = {}
    for _ in range(TRIES * MOST_PREDICATES):
        record = made[random.integers(len(made))]
        known = np.flatnonzero(record != NONE)
        if len(known) < 2:
            continue
        columns = np.sort(random.choice(known, random.integers(2, len(known) + 1), replace=False))
        if (made[:, columns] == record[columns]).all(axis=1).sum() == 1:
            found[columns.tobytes() + record[columns].tobytes()] = columns, record[columns]
        if len(found) == MOST_PREDICATES:
            break
    return list(found.values())


def _hits(codes: np.ndarray, predicates: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return which patients each predicate describes, float64, (N, predicates)."""
    return np.stack([(codes[:, columns] == values).all(axis=1) for columns, values in predicates], axis=1).astype(float)
