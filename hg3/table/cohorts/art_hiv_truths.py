"""What the ART-for-HIV stand-in is calibrated to: the shares and quantiles of its two truths.

Sources
-------
``PUBLISHED``: printed summary and figures of the Health Gym v2.0 ART-for-HIV file (figshare file 40584980,
CC BY 4.0; Kuo et al. 2023, J Biomed Inform) and the cohort counts of Hao et al. 2023 (UNSW datathon).
``EURESIST``: the bars drawn for the EuResist cohort in the Health Gym papers (Kuo et al. 2022, Sci Data;
Kuo et al. 2023). Those papers print no laboratory quantile of that cohort, so its quantiles are chosen here
to give the shapes that the figures show. They do not say how its patients begin therapy either: those rates
are chosen to give its share of recorded months.
"""

from dataclasses import dataclass

from hg3.errors import ConfigError

N_MONTHS = 60
CODE_COLUMNS = [
    "Gender",
    "Ethnic",
    "Base Drug Combo",
    "Comp. INI",
    "Comp. NNRTI",
    "Extra PI",
    "Extra pk-En",
    "VL (M)",
    "CD4 (M)",
    "Drug (M)",
]
COLUMNS = ["VL", "CD4", "Rel CD4", *CODE_COLUMNS, "PatientID", "Timestep"]

# Probabilities at which the latent scales are tied to laboratory values; the ends carry the hard limits.
PROBS = (1e-5, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1 - 1e-5)

Shares = tuple[float, ...]


@dataclass(frozen=True)
class LabScale:
    """One laboratory value: its quantiles at ``PROBS`` and those of the latent log10 course behind it.

    ``latent`` is what ``art_hiv.latent_quantiles`` measured on 100,000 patients; with constants in
    place of sample ranks a cohort of one patient lives on the same scale as a cohort of thousands.
    """

    values: Shares
    latent: Shares


@dataclass(frozen=True)
class Truth:
    """Shares (0..1, in code order) and rates (per month) that one calibration of the cohort is built on."""

    ethnic: Shares  # Asian, African, Caucasian, Other
    female_given_ethnic: Shares
    base: Shares  # FTC+TDF, 3TC+ABC, FTC+TAF, DRV+FTC+TDF, FTC+RTVB+TDF, Other
    ini: Shares  # DTG, RAL, EVG, not applied
    nnrti: Shares  # NVP, EFV, RPV, not applied
    pi: Shares  # DRV, RTVB, LPV, RTV, ATV, not applied
    pk_enhancer: float
    base_given_nnrti: Shares
    base_given_pi: Shares
    vl_measured: float
    cd4_measured: float
    off_at_start: float  # patients not yet on therapy at month 0, Asian patients excepted
    start_rate: float  # median rate of starting therapy
    stop_rate: float  # median rate of interrupting it
    unrecorded_on: float  # P(Drug (M) = 0) of a month on therapy
    unrecorded_off: float
    switch_rate: float  # mean rate of regimen changes, before draws that repeat the old regimen
    cd4_noise: float  # monthly SD of latent log10 CD4; .11 once mapped to cells/uL
    rel_own_sd: float  # SD of the patient's level of log10 Rel CD4 that CD4 does not explain
    vl: LabScale
    cd4: LabScale
    rel_cd4: LabScale


PUBLISHED = Truth(
    ethnic=(0.021, 0.119, 0.214, 0.646),
    female_given_ethnic=(0.05, 0.605, 0.023, 0.0913),
    base=(0.483, 0.292, 0.026, 0.138, 0.047, 0.014),
    ini=(0.226, 0.043, 0.070, 0.661),
    nnrti=(0.029, 0.151, 0.231, 0.589),
    pi=(0.062, 0.100, 0.002, 0.025, 0.047, 0.764),
    pk_enhancer=0.0669,
    base_given_nnrti=(0.80, 0.170, 0.015, 0.003, 0.0, 0.012),
    base_given_pi=(0.18, 0.10, 0.02, 0.50, 0.18, 0.02),
    vl_measured=0.1309,
    cd4_measured=0.1552,
    off_at_start=0.721,
    start_rate=0.128,
    stop_rate=0.004,
    unrecorded_on=0.03,
    unrecorded_off=0.86,
    switch_rate=0.0445,
    cd4_noise=0.095,
    rel_own_sd=0.14,
    vl=LabScale(
        values=(0.1, 0.5, 1.0, 2.2, 10.49, 38.78, 778.27, 24500, 53e3, 83e3, 93e3, 97566.41),
        latent=(-1.617, -0.722, -0.21, 0.265, 0.971, 1.534, 2.961, 4.385, 4.663, 5.084, 5.49, 6.008),
    ),
    cd4=LabScale(
        values=(7.96, 40, 70, 120, 272.85, 466.40, 859.44, 1700, 2600, 6000, 14e3, 42475.2),
        latent=(1.227, 1.661, 1.924, 2.161, 2.496, 2.726, 2.955, 3.159, 3.28, 3.508, 3.767, 4.175),
    ),
    rel_cd4=LabScale(
        values=(1.871, 4, 6, 9, 17.462, 27.734, 44.152, 68, 90, 150, 260, 586.635),
        latent=(0.176, 0.516, 0.737, 0.93, 1.199, 1.383, 1.565, 1.728, 1.825, 2.011, 2.222, 2.49),
    ),
)

EURESIST = Truth(
    ethnic=(0.038, 0.133, 0.331, 0.498),
    female_given_ethnic=(0.237, 0.64, 0.181, 0.1305),
    base=(0.485, 0.274, 0.081, 0.105, 0.034, 0.021),
    ini=(0.208, 0.041, 0.094, 0.657),
    nnrti=(0.025, 0.211, 0.190, 0.574),
    pi=(0.054, 0.065, 0.010, 0.025, 0.047, 0.799),
    pk_enhancer=0.092,
    base_given_nnrti=(0.78, 0.150, 0.055, 0.002, 0.0, 0.013),
    base_given_pi=(0.20, 0.12, 0.05, 0.45, 0.15, 0.03),
    vl_measured=0.236,
    cd4_measured=0.211,
    off_at_start=0.55,
    start_rate=0.28,
    stop_rate=0.002,
    unrecorded_on=0.03,
    unrecorded_off=0.85,
    switch_rate=0.0445,
    cd4_noise=0.21,
    rel_own_sd=0.27,
    vl=LabScale(
        values=(0.1, 0.5, 1.2, 3.5, 14, 34, 75, 6e3, 26e3, 70e3, 93e3, 97566.41),
        latent=(-1.629, -0.763, -0.26, 0.203, 0.868, 1.352, 1.883, 3.638, 4.33, 4.897, 5.357, 5.943),
    ),
    cd4=LabScale(
        values=(10, 40, 110, 220, 425, 580, 752, 930, 1060, 1330, 1680, 2500),
        latent=(1.097, 1.556, 1.852, 2.117, 2.492, 2.751, 3.01, 3.241, 3.379, 3.639, 3.931, 4.382),
    ),
    rel_cd4=LabScale(
        values=(2, 4, 7, 12.5, 23, 30, 37.5, 45, 50, 59, 68, 85),
        latent=(-0.184, 0.279, 0.568, 0.816, 1.161, 1.399, 1.638, 1.851, 1.978, 2.223, 2.499, 2.917),
    ),
)

TRUTHS = {"published": PUBLISHED, "euresist": EURESIST}


def find_truth(name: str) -> Truth:
    """Return the calibration called ``name``.

    Raises
    ------
    ConfigError
        If no calibration has that name.
    """
    if name not in TRUTHS:
        raise ConfigError(f"truth is {name!r}; allowed: {sorted(TRUTHS)}; choose one of them")
    return TRUTHS[name]
