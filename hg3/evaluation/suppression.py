"""What a picture of patients may show: nothing that fewer than ten of them stand behind.

`values` are cells that have a value, `patient` says whose each is.
"""

import math

import numpy as np
import pandas as pd

FEWEST_PATIENTS = 10  # a bar, a bin or a cell of fewer patients is not drawn
SHOWN_QUANTILES = (0.01, 0.99)


def shown_range(values: np.ndarray, patient: np.ndarray) -> tuple[float, float]:
    """Return the 1 and 99% points, moved inward until ten patients reach them; NaN for fewer patients than that."""
    of_patient = pd.Series(values).groupby(patient)
    if of_patient.ngroups < FEWEST_PATIENTS:
        return math.nan, math.nan
    low, high = np.quantile(values, SHOWN_QUANTILES)
    lowest, highest = np.sort(of_patient.min()), np.sort(of_patient.max())
    return max(low, lowest[FEWEST_PATIENTS - 1]), min(high, highest[-FEWEST_PATIENTS])


def bin_shares(values: np.ndarray, patient: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the share of values a bin (the last one closed), 0 where fewer than ten patients stand behind it."""
    n_bins = len(edges) - 1
    inside = (values >= edges[0]) & (values <= edges[-1])
    index = np.minimum(np.searchsorted(edges, values[inside], side="right") - 1, n_bins - 1)
    return kept_counts(index, patient[inside], n_bins) / max(len(values), 1)


def kept_counts(index: np.ndarray, patient: np.ndarray, n_cells: int) -> np.ndarray:
    """Return the count of each cell, 0 for one with fewer than ten different patients."""
    return np.where(patient_counts(index, patient, n_cells) >= FEWEST_PATIENTS, np.bincount(index, None, n_cells), 0)


def patient_counts(index: np.ndarray, patient: np.ndarray, n_cells: int) -> np.ndarray:
    """Return how many different patients each cell has."""
    pairs = np.unique(np.stack([index, patient]), axis=1)
    return np.bincount(pairs[0], minlength=n_cells)
