"""Singling out: descriptions of one patient, made from the release alone."""

from dataclasses import dataclass

import numpy as np

from hg3.evaluation.draws import N_DRAWS, Measured, Parts, make_draws
from hg3.evaluation.panel import Panel
from hg3.evaluation.privacy.attributes import NONE, attributes

MOST_PREDICATES = 1_000
FEWEST_PREDICATES = 20
TRIES = 10  # for each predicate
RARE = 0.05  # of the records share the quasi-identifiers of a rare subgroup, or fewer
ANYBODY, RARELY = "singling out", "singling out, rare subgroups"


@dataclass(frozen=True)
class Guesses:
    """Where predicates come from.

    Parameters
    ----------
    records : positions of the records of the release that they describe.
    always : positions of the columns that every one of them names.
    fewest : other columns that it names at least.
    """

    records: np.ndarray
    always: np.ndarray
    fewest: int


def singling_out_measures(panels: Parts[Panel], seed: int = 0) -> tuple[list[Measured], list[str]]:
    """Return the share of predicates that describe exactly one training patient; the ceiling: one hold-out patient.

    The form of Giomi et al. (2023). A predicate takes a synthetic record at random and two or more columns, and says
    the record's most frequent codes and tenths of reals there; it counts if it describes that record alone in the
    release. Those of rare subgroups take a record whose quasi-identifiers at most 5% of the release share, and name
    all of these and one or more other columns: what somebody would try who looks for the few. Each of 50 draws takes
    equally many training and hold-out patients, half of the smaller part, as a predicate holds of one patient alone
    more often in a small crowd; what it tells more of training patients, it has from them.
    """
    codes = _codes(panels)
    crowds = make_draws(Parts(len(codes.holdout), len(codes.train), len(codes.holdout)), seed)
    measures, remarks = [], []
    for name, guesses in ((ANYBODY, _anybody(codes.made)), (RARELY, _rare(panels, codes.made))):
        predicates = _predicates(codes.made, guesses, np.random.default_rng(seed))
        if len(predicates) < FEWEST_PREDICATES:
            unknown = np.full(N_DRAWS, np.nan)
            measures.append(Measured(name, "", unknown, unknown))
            remarks.append(_too_few(name, len(predicates)))
            continue
        score, ceiling = (
            (crowd @ _hits(part, predicates) == 1).mean(axis=1)
            for part, crowd in ((codes.train, crowds.train), (codes.holdout, crowds.holdout))
        )
        measures.append(Measured(name, "", score, ceiling))
    return measures, remarks


def _too_few(name: str, n_predicates: int) -> str:
    return (
        f"{name[0].upper()}{name[1:]}: not estimable, because the release gives {n_predicates} predicates that hold of "
        f"one record alone, and {FEWEST_PREDICATES} are needed."
    )


def _codes(panels: Parts[Panel]) -> Parts[np.ndarray]:
    found = attributes(panels)
    return Parts(*(np.stack([getattr(one.codes, p) for one in found], axis=1) for p in ("made", "train", "holdout")))


def _anybody(made: np.ndarray) -> Guesses:
    return Guesses(np.arange(len(made)), np.zeros(0, np.int64), 2)


def _rare(panels: Parts[Panel], made: np.ndarray) -> Guesses:
    """Return the records of rare subgroups; none where the schema has no quasi-identifiers."""
    schema = panels.holdout.schema
    known = {column.name for column in schema.known_quasi_identifiers()}
    always = np.array([k for k, column in enumerate(schema.columns) if column.name in known], np.int64)
    _, group, size = np.unique(made[:, always], axis=0, return_inverse=True, return_counts=True)
    rare = size[group.reshape(-1)] <= RARE * len(made)
    return Guesses(np.flatnonzero(rare & (made[:, always] != NONE).any(axis=1)), always, 1)


def _predicates(made: np.ndarray, guesses: Guesses, random: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return columns and their codes that exactly one of the records (M, columns) has."""
    found = {}
    for _ in range(TRIES * MOST_PREDICATES if len(guesses.records) else 0):
        record = made[guesses.records[random.integers(len(guesses.records))]]
        known = np.setdiff1d(np.flatnonzero(record != NONE), guesses.always)
        if len(known) < guesses.fewest:
            continue
        some = random.choice(known, random.integers(guesses.fewest, len(known) + 1), replace=False)
        columns = np.sort(np.concatenate([guesses.always[record[guesses.always] != NONE], some]))
        if (made[:, columns] == record[columns]).all(axis=1).sum() == 1:
            found[columns.tobytes() + record[columns].tobytes()] = columns, record[columns]
        if len(found) == MOST_PREDICATES:
            break
    return list(found.values())


def _hits(codes: np.ndarray, predicates: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return which patients each predicate describes, float64, (N, predicates)."""
    return np.stack([(codes[:, columns] == values).all(axis=1) for columns, values in predicates], axis=1).astype(float)
