"""What every simulator is asked: how many patients, and which."""

from hg3.errors import ConfigError

MOST_PATIENTS = 10**8  # far more than a memory holds the records of


def check_counts(n_patients: int, seed: int) -> None:
    """Refuse a number of patients or a seed that no cohort can be made of.

    Raises
    ------
    ConfigError
        If `n_patients` is below 1 or above a hundred million, or `seed` below 0.
    """
    if n_patients < 1:
        raise ConfigError(f"n_patients is {n_patients}; a cohort needs at least 1 patient")
    if n_patients > MOST_PATIENTS:
        raise ConfigError(
            f"n_patients is {n_patients}; a cohort is made in memory and takes at most {MOST_PATIENTS:,} patients: "
            "make several with different seeds"
        )
    if seed < 0:
        raise ConfigError(f"seed is {seed}; a seed is an integer of at least 0")
