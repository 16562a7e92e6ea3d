"""Stand-in cohort of people with HIV on antiretroviral therapy: 60 months a patient, the Health Gym columns.

No real patient is in it and none can be recovered from it: every value is drawn from published summaries.
It is for building and testing software; draw no clinical conclusion from it.
``docs/cohort.md`` lists its misses.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from hg3.table.cohorts.art_hiv_course import Course, simulate_course
from hg3.table.cohorts.art_hiv_regimen import draw, simulate_regimens
from hg3.table.cohorts.art_hiv_targets import targets_table
from hg3.table.cohorts.art_hiv_truths import COLUMNS, N_MONTHS, PROBS, LabScale, Truth, find_truth
from hg3.table.cohorts.counts import check_counts

__all__ = ["COLUMNS", "N_MONTHS", "latent_quantiles", "simulate", "targets_table"]

# Pearson correlation of the flags VL (M) and CD4 (M) in the EuResist cohort (Kuo et al. 2023).
MEASURED_R = 0.86

# Visits thin out from 1.6 to 0.4 times the mean rate: in the published trend matrices the share of measured
# months falls together with VL. A patient's own rate lies within 0.5 to 1.5 times the cohort's.
VISIT_DECLINE = np.linspace(1.6, 0.4, N_MONTHS)
VISIT_FRAILTY = (0.5, 1.5)

DECIMALS = 6  # as many as the published file prints


def simulate(n_patients: int, seed: int = 0, truth: str = "published") -> pd.DataFrame:
    """Return a simulated ART-for-HIV cohort in long format, 60 rows a patient.

    Parameters
    ----------
    n_patients : int
        Number of patients, at least 1. The published file has 8,916.
    seed : int, default 0
        Seed, at least 0. The table is a pure function of the three arguments.
    truth : {"published", "euresist"}, default "published"
        Calibrated to the Health Gym v2.0 file (figshare file 40584980) or to the shares drawn for the
        EuResist cohort in Kuo et al. (2022, 2023).

    Returns
    -------
    pandas.DataFrame
        Columns ``COLUMNS`` in the file's order, sorted by PatientID (0..n_patients-1) and Timestep (month,
        0..59), no missing value. VL in copies/mL, CD4 in cells/uL, Rel CD4 in percent, float64; the rest
        int64 codes. The three (M) flags are 1 where the value was measured or recorded that month.

    Raises
    ------
    ConfigError
        If ``n_patients`` or ``seed`` is too small or ``truth`` is unknown.

    Examples
    --------
    >>> simulate(2, seed=1).shape
    (120, 15)
    """
    check_counts(n_patients, seed)
    chosen = find_truth(truth)
    people_rng, regimen_rng, course_rng, measured_rng = _generators(seed)
    gender, ethnic = _simulate_people(n_patients, chosen, people_rng)
    regimens = simulate_regimens(n_patients, chosen, regimen_rng)
    course = simulate_course(gender, ethnic, regimens[:, 0], chosen, course_rng)
    measured = _simulate_measured(n_patients, chosen, measured_rng)
    return _assemble(gender, ethnic, regimens, course, measured, chosen)


def latent_quantiles(
    n_patients: int = 100_000, seed: int = 1, truth: str = "published"
) -> dict[str, NDArray[np.float64]]:
    """Return the quantiles at ``PROBS`` of the latent log10 courses, by field of ``Truth``: vl, cd4, rel_cd4.

    These are the ``latent`` constants of each ``LabScale``; measure them again after a change to the course.
    """
    check_counts(n_patients, seed)
    chosen = find_truth(truth)
    people_rng, regimen_rng, course_rng, _ = _generators(seed)
    gender, ethnic = _simulate_people(n_patients, chosen, people_rng)
    first_regimen = simulate_regimens(n_patients, chosen, regimen_rng)[:, 0]
    course = simulate_course(gender, ethnic, first_regimen, chosen, course_rng)
    return {name: np.quantile(getattr(course, name), PROBS) for name in ("vl", "cd4", "rel_cd4")}


def _generators(seed: int) -> list[np.random.Generator]:
    """One stream for each of people, regimens, course and measurements."""
    return [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(4)]


def _simulate_people(
    n_patients: int, truth: Truth, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Gender and ethnicity codes, each of shape (n_patients,)."""
    ethnic = 1 + draw(np.broadcast_to(truth.ethnic, (n_patients, 4)), rng)
    is_female = rng.random(n_patients) < np.array(truth.female_given_ethnic)[ethnic - 1]
    return 1 + is_female.astype(np.int64), ethnic


def _simulate_measured(n_patients: int, truth: Truth, rng: np.random.Generator) -> NDArray[np.int64]:
    """VL (M) and CD4 (M), shape (n_patients, 60, 2): drawn at visits, which mostly measure both."""
    p, q = truth.vl_measured, truth.cd4_measured
    both = p * q + MEASURED_R * np.sqrt(p * (1 - p) * q * (1 - q))
    visit = p + q - both
    frailty = rng.uniform(*VISIT_FRAILTY, size=(n_patients, 1))
    is_visit = rng.random((n_patients, N_MONTHS)) < visit * VISIT_DECLINE * frailty
    kind = rng.random((n_patients, N_MONTHS)) * visit  # [0, both): both; then VL alone; then CD4 alone
    has_vl, has_cd4 = kind < p, (kind < both) | (kind >= p)
    return np.stack([is_visit & has_vl, is_visit & has_cd4], axis=2).astype(np.int64)


def _lab_values(latent: NDArray[np.float64], scale: LabScale) -> NDArray[np.float64]:
    """Map a latent course to laboratory units: monotone, through the quantiles, clipped at the limits."""
    curve = PchipInterpolator(scale.latent, np.log10(scale.values))
    clipped = np.clip(latent, scale.latent[0], scale.latent[-1])
    values = np.round(10 ** curve(clipped), DECIMALS)
    return np.asarray(np.clip(values, scale.values[0], scale.values[-1]))


def _assemble(
    gender: NDArray[np.int64],
    ethnic: NDArray[np.int64],
    regimens: NDArray[np.int64],
    course: Course,
    measured: NDArray[np.int64],
    truth: Truth,
) -> pd.DataFrame:
    n_patients = len(gender)
    labs = [
        _lab_values(course.vl, truth.vl),
        _lab_values(course.cd4, truth.cd4),
        _lab_values(course.rel_cd4, truth.rel_cd4),
    ]
    static = [np.repeat(codes, N_MONTHS) for codes in (gender, ethnic)]
    recorded = course.is_recorded.astype(np.int64)
    monthly = [*np.moveaxis(regimens, 2, 0), *np.moveaxis(measured, 2, 0), recorded]
    keys = [np.repeat(np.arange(n_patients), N_MONTHS), np.tile(np.arange(N_MONTHS), n_patients)]
    series = [*(lab.ravel() for lab in labs), *static, *(codes.ravel() for codes in monthly), *keys]
    return pd.DataFrame(dict(zip(COLUMNS, series, strict=True)))
