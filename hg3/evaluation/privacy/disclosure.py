"""Identity disclosure: who can be found by what others know, and what the release then tells that is new."""

from collections.abc import Iterator

import numpy as np

from hg3.evaluation.draws import N_DRAWS, Measured, Parts, resamples
from hg3.evaluation.panel import Panel
from hg3.evaluation.privacy.attributes import NONE, Attribute, attributes

VERIFIED = 1.0  # lambda, the share of matches that an attacker can verify: the worst case
COMMON = 0.5  # of patients have a value that is nothing new to learn
FEWEST_NEW = 0.05  # of the sensitive columns, for something to be learned
MOST_MATCHES = 500  # records of a class that an attacker looks at, drawn at random


def disclosure_measures(panels: Parts[Panel], seed: int = 0) -> tuple[list[Measured], list[str]]:
    """Return the risk that a training patient is found and something new learned; the ceiling: a hold-out patient's.

    El Emam et al. (2020), who accept 0.09: with n training patients among the N of the cohort, the larger of

        1/N sum_s 1/f_s (1 + lambda)/2 I_s R_s    and    1/n sum_s 1/F_s (1 + lambda)/2 I_s R_s

    for an attacker who goes from the cohort to the training patients, and for one who goes the other way. f_s and F_s
    are how many training patients and how many of the cohort share patient s's quasi-identifiers, reals in tenths.
    I_s: a synthetic record shares them. R_s: the chance that a random one of these tells at least 5% of the other
    columns, each by the same most frequent code or tenth, which under half of real patients have. Here lambda is 1,
    every match can be verified, and the population is the cohort itself, training and hold-out patients, which is the
    worst case as well. Uncertainty: 50 resamples of patients.
    """
    schema = panels.holdout.schema
    known = {column.name for column in schema.known_quasi_identifiers()}
    found = attributes(panels)
    sensitive = [one for one in found if one.column.name not in known]
    if not known or not sensitive:
        lacking = "quasi-identifier" if not known else "other column"
        unknown = np.full(N_DRAWS, np.nan)
        remark = f"The disclosure risk is not estimable: {schema.name} has no {lacking}."
        return [Measured("disclosure risk", "", unknown, unknown)], [remark]
    classes = _classes([one for one in found if one.column.name in known])
    new = _rare(sensitive)
    sizes = np.bincount(np.concatenate([classes.train, classes.holdout]))
    score, ceiling = (
        _risk(getattr(classes, part), _new(classes, new, part, seed), sizes, seed) for part in ("train", "holdout")
    )
    return [Measured("disclosure risk", "", score, ceiling)], []


def _classes(known: list[Attribute]) -> Parts[np.ndarray]:
    """Return the number of the class of equal quasi-identifiers that each patient is in, int64, (N,)."""
    codes = [np.stack([getattr(one.codes, part) for one in known], axis=1) for part in ("made", "train", "holdout")]
    _, number = np.unique(np.concatenate(codes), axis=0, return_inverse=True)
    made, train, holdout = np.split(number.reshape(-1), np.cumsum([len(codes[0]), len(codes[1])]))
    return Parts(made, train, holdout)


def _rare(sensitive: list[Attribute]) -> Parts[np.ndarray]:
    """Return the codes that under half of real patients have, -1 for others, int16, (N, columns)."""
    columns = [_rare_codes(one) for one in sensitive]
    return Parts(*(np.stack([getattr(c, part) for c in columns], axis=1) for part in ("made", "train", "holdout")))


def _rare_codes(one: Attribute) -> Parts[np.ndarray]:
    real = np.concatenate([one.codes.train, one.codes.holdout])
    common = [code for code in np.unique(real) if (real == code).mean() >= COMMON]
    return one.codes.each(lambda codes: np.where(np.isin(codes, common), NONE, codes).astype(np.int16))


def _new(classes: Parts[np.ndarray], codes: Parts[np.ndarray], part: str, seed: int) -> np.ndarray:
    """Return I_s R_s of each patient of a part, (N,)."""
    of_patients, random = getattr(classes, part), np.random.default_rng(seed)
    learned = np.zeros(len(of_patients))
    for patients, records in _matches(of_patients, classes.made, random):
        theirs, told = getattr(codes, part)[patients], codes.made[records]
        enough = FEWEST_NEW * theirs.shape[1]
        right = sum((a[:, None] == b) & (a[:, None] != NONE) for a, b in zip(theirs.T, told.T, strict=True))
        learned[patients] = (right >= enough).mean(axis=1)
    return learned


def _matches(
    patients: np.ndarray, records: np.ndarray, random: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, by class, the positions of its patients and of at most 500 of its records."""
    for number in np.intersect1d(patients, records):
        matching = np.flatnonzero(records == number)
        if len(matching) > MOST_MATCHES:
            matching = random.choice(matching, MOST_MATCHES, replace=False)
        yield np.flatnonzero(patients == number), matching


def _risk(classes: np.ndarray, learned: np.ndarray, sizes: np.ndarray, seed: int) -> np.ndarray:
    """Return the larger risk of both directions in each resample, (draws,)."""
    n_sample, n_cohort = len(classes), sizes.sum()
    in_sample = np.bincount(classes, minlength=len(sizes))
    weights = resamples(n_sample, seed) * (1 + VERIFIED) / 2
    to_sample = weights @ (learned / in_sample[classes]) / n_cohort
    to_cohort = weights @ (learned / sizes[classes]) / n_sample
    return np.maximum(to_sample, to_cohort)
