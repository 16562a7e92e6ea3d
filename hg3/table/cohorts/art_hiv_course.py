"""Course of the ART-for-HIV stand-in: therapy on or off, and the latent log10 laboratory values.

Off therapy the virus stays at the patient's set point and CD4 falls; on therapy the virus drops by most of a
log10 a month to the patient's suppressed level and CD4 recovers. Most patients begin off therapy.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from hg3.table.cohorts.art_hiv_truths import N_MONTHS, Truth

Reals = NDArray[np.float64]
Flags = NDArray[np.bool_]

ASIAN, AFRICAN = 1, 2

# Hazard ratios for reaching VL <= 1,000 copies/mL that Hao et al. (2023) fitted to the Health Gym file. Here
# they multiply the rate of starting therapy, by the regimen of month 0.
HR_FEMALE, HR_AFRICAN, HR_PK = 0.69, 0.81, 0.58
HR_INI = np.array([0.34, 0.45, 0.76, 1.0])  # DTG, RAL, EVG, not applied

START_SPREAD = 1.1  # SD of the log rate of starting or stopping therapy: some start at once, some never

# log10 copies/mL. The suppressed spread makes the lower three quarters of the file; the set point its top.
SUPPRESSED_MEAN, SUPPRESSED_SD = 1.30, 0.66
SUPPRESSED_MAX = 2.4  # many noise SDs below 1,000 copies/mL: whoever begins suppressed begins below it
SET_POINT_MEAN, SET_POINT_SD = 4.35, 0.40
DECAY_MEAN, DECAY_SD = 0.8, 0.3  # log10 a month on therapy
REBOUND = 0.7  # share of the way back to the set point in a month off therapy
VL_NOISE = ((2.0, 0.02), (3.5, 0.19))  # within-patient SD by level, as measured in trajectories of the file

# log10 cells/uL
CD4_MEAN, CD4_SD = 2.78, 0.30  # of patients long suppressed
CD4_GAP_MEAN, CD4_GAP_SD = 0.205, 0.13  # loss when long untreated
CD4_RISE, CD4_FALL = 0.07, 0.035  # share of the remaining way a month
NOISE_R = -0.25  # between the months' noise of VL and of CD4: one falls as the other rises

# A drift over the 60 months that lowers VL where it raises CD4, also in patients suppressed throughout.
DRIFT_MEAN, DRIFT_SD = 0.5, 1.0
VL_DRIFT, CD4_DRIFT = -0.16, 0.11

# log10 of percent: most of it is the patient's CD4 course, the rest a patient level of its own.
REL_MEAN, REL_SLOPE = 1.42, 0.70
REL_NOISE_SHARED, REL_NOISE_SUPPRESSED, REL_NOISE_VIRAEMIC = 0.15, 0.03, 0.08


@dataclass(frozen=True)
class Course:
    """Latent log10 courses and therapy of a cohort, every array of shape (n_patients, 60)."""

    vl: Reals
    cd4: Reals
    rel_cd4: Reals
    is_recorded: Flags  # Drug (M)


def simulate_course(
    gender: NDArray[np.int64],
    ethnic: NDArray[np.int64],
    first_regimen: NDArray[np.int64],
    truth: Truth,
    rng: np.random.Generator,
) -> Course:
    """Return therapy and latent laboratory courses of the patients.

    Parameters
    ----------
    gender, ethnic : int array, shape (n_patients,)
        Codes 1 male, 2 female; 1 Asian, 2 African, 3 Caucasian, 4 Other.
    first_regimen : int array, shape (n_patients, 5)
        Base, INI, NNRTI, PI and pk-enhancer codes of month 0.
    truth : Truth
        Calibration.
    rng : numpy.random.Generator
        Source of every draw.
    """
    n_patients = len(gender)
    ratio = _start_ratio(gender, ethnic, first_regimen)
    is_on = _simulate_therapy(ethnic, ratio, truth, rng)
    drift = rng.normal(DRIFT_MEAN, DRIFT_SD, n_patients)[:, None] * np.linspace(0, 1, N_MONTHS)
    vl_level = _vl_level(is_on, rng) + VL_DRIFT * drift
    cd4_level = _cd4_level(is_on, vl_level, rng) + CD4_DRIFT * drift
    viraemic = np.interp(vl_level, [VL_NOISE[0][0], VL_NOISE[1][0]], [0, 1])
    vl_sd = VL_NOISE[0][1] + viraemic * (VL_NOISE[1][1] - VL_NOISE[0][1])
    vl_noise = rng.normal(size=is_on.shape)
    own_noise = rng.normal(size=is_on.shape)
    cd4_noise = truth.cd4_noise * (NOISE_R * vl_noise + np.sqrt(1 - NOISE_R**2) * own_noise)
    is_gap = rng.random(is_on.shape) < np.where(is_on, truth.unrecorded_on, truth.unrecorded_off)
    return Course(
        vl=vl_level + vl_sd * vl_noise,
        cd4=cd4_level + cd4_noise,
        rel_cd4=_rel_cd4(cd4_level, cd4_noise, viraemic, truth.rel_own_sd, rng),
        is_recorded=~is_gap,
    )


def _start_ratio(gender: NDArray[np.int64], ethnic: NDArray[np.int64], regimen: NDArray[np.int64]) -> Reals:
    """Hazard ratio of starting therapy, shape (n_patients,)."""
    ratio = np.where(gender == 2, HR_FEMALE, 1.0) * np.where(ethnic == AFRICAN, HR_AFRICAN, 1.0)
    return np.asarray(ratio * HR_INI[regimen[:, 1]] * np.where(regimen[:, 4] == 1, HR_PK, 1.0))


def _simulate_therapy(ethnic: NDArray[np.int64], ratio: Reals, truth: Truth, rng: np.random.Generator) -> Flags:
    """Two-state therapy, True = on, shape (n_patients, 60)."""
    n_patients = len(ethnic)
    # In the published file no Asian patient begins above 1,000 copies/mL (Hao et al. 2023).
    now = (rng.random(n_patients) >= truth.off_at_start) | (ethnic == ASIAN)
    start = truth.start_rate * ratio * rng.lognormal(0, START_SPREAD, n_patients)
    stop = truth.stop_rate * rng.lognormal(0, START_SPREAD, n_patients)
    is_on = np.empty((n_patients, N_MONTHS), dtype=bool)
    is_on[:, 0] = now
    for month in range(1, N_MONTHS):
        now = now ^ (rng.random(n_patients) < np.where(now, stop, start))
        is_on[:, month] = now
    return is_on


def _vl_level(is_on: Flags, rng: np.random.Generator) -> Reals:
    """Noise-free log10 viral load, shape (n_patients, 60)."""
    n_patients = len(is_on)
    below_max = ndtr((SUPPRESSED_MAX - SUPPRESSED_MEAN) / SUPPRESSED_SD)  # a normal cut at its maximum
    suppressed = SUPPRESSED_MEAN + SUPPRESSED_SD * ndtri(below_max * rng.random(n_patients))
    set_point = rng.normal(SET_POINT_MEAN, SET_POINT_SD, n_patients)
    decay = np.maximum(0.2, rng.normal(DECAY_MEAN, DECAY_SD, n_patients))
    level = np.empty(is_on.shape)
    level[:, 0] = np.where(is_on[:, 0], suppressed, set_point)
    for month in range(1, N_MONTHS):
        last = level[:, month - 1]
        falling = np.maximum(suppressed, last - decay)
        level[:, month] = np.where(is_on[:, month], falling, last + REBOUND * (set_point - last))
    return level


def _cd4_level(is_on: Flags, vl_level: Reals, rng: np.random.Generator) -> Reals:
    """Noise-free log10 CD4 count, shape (n_patients, 60)."""
    n_patients = len(is_on)
    high = rng.normal(CD4_MEAN, CD4_SD, n_patients)
    low = high - np.maximum(0, rng.normal(CD4_GAP_MEAN, CD4_GAP_SD, n_patients))
    level = np.empty(is_on.shape)
    # Patients already on therapy are part of the way up: between the two levels.
    level[:, 0] = np.where(is_on[:, 0], high - (high - low) * rng.random(n_patients), low)
    for month in range(1, N_MONTHS):
        last = level[:, month - 1]
        is_suppressed = vl_level[:, month] < 3.0
        step = np.where(is_suppressed, CD4_RISE * (high - last), CD4_FALL * (low - last))
        level[:, month] = last + step
    return level


def _rel_cd4(cd4_level: Reals, cd4_noise: Reals, viraemic: Reals, own_sd: float, rng: np.random.Generator) -> Reals:
    """Latent log10 relative CD4, shape (n_patients, 60)."""
    own = rng.normal(0, own_sd, len(cd4_level))[:, None]
    noise_sd = REL_NOISE_SUPPRESSED + viraemic * (REL_NOISE_VIRAEMIC - REL_NOISE_SUPPRESSED)
    noise = REL_NOISE_SHARED * cd4_noise + noise_sd * rng.normal(size=cd4_level.shape)
    return REL_MEAN + REL_SLOPE * (cd4_level - CD4_MEAN) + own + noise
