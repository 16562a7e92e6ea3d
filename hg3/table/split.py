"""Divide patients: fitting sees train, stopping sees validation, evaluation sees hold-out."""

import math
from dataclasses import dataclass

import numpy as np

from hg3.errors import TableError

TRAIN_SHARE, VALIDATION_SHARE = 0.60, 0.15


@dataclass(frozen=True)
class Split:
    """Three boolean arrays of shape (n_patients,), of which each patient is in exactly one."""

    train: np.ndarray
    validation: np.ndarray
    holdout: np.ndarray

    def to_dict(self, patients: np.ndarray) -> dict[str, list[int | str]]:
        """Return the ids of `patients` by part, for split.json."""
        return {part: patients[getattr(self, part)].tolist() for part in ("train", "validation", "holdout")}


def split_patients(n_patients: int, seed: int) -> Split:
    """Return a random split of patients, 60 / 15 / 25 percent, the same for the same count and seed.

    Raises
    ------
    TableError
        If a part would be empty (fewer than 7 patients).
    """
    n_train = math.floor(n_patients * TRAIN_SHARE)
    n_validation = math.floor(n_patients * VALIDATION_SHARE)
    if n_train < 1 or n_validation < 1:
        raise TableError(
            f"the table has {n_patients} patients; a split into train, validation and hold-out needs at "
            "least 7; give a larger table"
        )
    order = np.random.default_rng([seed, n_patients]).permutation(n_patients)
    part = np.full(n_patients, 2)
    part[order[:n_train]] = 0
    part[order[n_train : n_train + n_validation]] = 1
    return Split(part == 0, part == 1, part == 2)


def split_from_dict(content: dict[str, list[int | str]], patients: np.ndarray) -> Split:
    """Return the split that `Split.to_dict` wrote, for the same `patients`.

    Raises
    ------
    TableError
        If the patients are not the ones that were split.
    """
    listed = [content.get(part, []) for part in ("train", "validation", "holdout")]
    part_of = {patient: number for number, part in enumerate(listed) for patient in part}
    n_listed = sum(len(part) for part in listed)
    if not (set(part_of) == set(patients.tolist()) and n_listed == len(patients)):
        raise TableError(
            f"the table holds {len(patients)} patients and the run's split lists {n_listed}, not the same "
            "ones; give the table that the run was made from"
        )
    part = np.array([part_of[patient] for patient in patients.tolist()])
    return Split(part == 0, part == 1, part == 2)
