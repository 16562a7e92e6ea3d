"""Where patients lie: whether clusters of them hold equal shares of real and synthetic ones."""

import numpy as np

from hg3.evaluation.draws import Draws, Measured, Parts, measure
from hg3.evaluation.features import Features
from hg3.evaluation.learners import library
from hg3.evaluation.summaries import Events

N_CLUSTERS = 20
FEWEST_IN_A_CLUSTER = 10  # patients, on average; shares of fewer say nothing
FURTHEST = 3.0  # deviations; beyond, an outlier would be a cluster by itself


def log_cluster(features: Parts[Features], draws: Draws, seed: int = 0) -> Measured:
    """Return U = ln(1/G sum_k (n_real_k / n_k - c)^2), c the share of real patients (Goncalves et al. 2020).

    G = 20 clusters of k-means, fewer for fewer than 200 patients, not estimable for fewer than 20. They are made once,
    of equal numbers of all three parts (the first draw's), so that score and ceiling are counts in the same clusters.
    """
    first = draws.each(lambda weights: weights[0] > 0)
    values = Parts(*(getattr(features, part).values for part in ("made", "train", "holdout")))
    points, pooled = _standardised(values, first)
    n_clusters = min(N_CLUSTERS, len(pooled) // FEWEST_IN_A_CLUSTER)
    if n_clusters < 2:
        unknown = np.full(len(draws.holdout), np.nan)
        return Measured("log-cluster", "", unknown, unknown)
    clusters = library("sklearn.cluster").KMeans(n_clusters, n_init=3, random_state=seed).fit(pooled)
    counts = points.each(lambda part: Events(np.arange(len(part)), clusters.predict(part), (n_clusters,)))
    return measure("log-cluster", "", counts, draws, _log_cluster_of)


def _standardised(values: Parts[np.ndarray], chosen: Draws) -> tuple[Parts[np.ndarray], np.ndarray]:
    """Return every patient's features in deviations from the mean of the chosen ones, and the chosen of all parts.

    NaN, unknown, is the mean, and a feature that has any is followed by whether it is known.
    """
    pooled = np.concatenate([getattr(values, part)[getattr(chosen, part)] for part in vars(values)])
    known = ~np.isnan(pooled)
    n = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, pooled, 0.0).sum(axis=0) / n
    deviation = np.sqrt(np.where(known, (pooled - mean) ** 2, 0.0).sum(axis=0) / n)
    some = ~known.all(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)

    def points(part: np.ndarray) -> np.ndarray:
        near = np.clip(np.nan_to_num((part - mean) / scale), -FURTHEST, FURTHEST)
        return np.concatenate([near, ~np.isnan(part[:, some])], axis=1)

    return values.each(points), points(pooled)


def _log_cluster_of(one: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return U from counts by cluster (draws, G); an empty cluster is nothing to tell by.

    At the least what one patient too many in one cluster gives, where the logarithm would be infinite.
    """
    both = one + real
    total = both.sum(axis=-1, keepdims=True)
    share = real.sum(axis=-1, keepdims=True) / total
    apart = np.where(both > 0, real / np.where(both > 0, both, 1.0) - share, 0.0)
    return np.log(np.maximum((apart**2).mean(axis=-1), 1.0 / (total[:, 0] ** 2 * both.shape[-1])))
