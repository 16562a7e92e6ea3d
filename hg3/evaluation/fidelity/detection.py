"""Can a release be told from real patients? Learners try to, beside how far training and held-out ones can be told.

Each is trained on as many patients of both sorts, and scored on patients that it has not seen. What one learner
misses another may find: boosted trees see what a record adds up to, a GRU its course, clusters where patients lie.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from hg3.evaluation.draws import Draws, Measured, Parts, measure
from hg3.evaluation.features import Encoded, Features, encode, places, summary
from hg3.evaluation.learners import area_under_curve, boosted_log_odds, folds, library
from hg3.evaluation.panel import Panel
from hg3.evaluation.recurrent import next_time_errors, recurrent_log_odds, sequences
from hg3.evaluation.summaries import Events

# A learner is trained for each of these draws, in every fold and for score and ceiling; the others say no more.
BOOSTING_DRAWS = 5
GRU_DRAWS = 2
N_CLUSTERS = 20
FEWEST_IN_A_CLUSTER = 10  # patients, on average; shares of fewer say nothing
FURTHEST = 3.0  # deviations; beyond, an outlier would be a cluster by itself

LogOdds = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


def detection_measures(panels: Parts[Panel], draws: Draws, seed: int = 0) -> list[Measured]:
    """Return two-sample AUCs of two learners, TimeGAN's discriminative and predictive scores, and log-cluster.

    All are lower for a better release. An AUC is 0.5 where nothing can be told, and below that by chance alone.
    """
    features, records = panels.each(summary), encode(panels)
    boosted = _told_apart(features.each(lambda f: f.values), draws, BOOSTING_DRAWS, boosted_log_odds, seed)
    recurrent = _told_apart(records.each(sequences), draws, GRU_DRAWS, recurrent_log_odds, seed)
    return [
        _of_both("two-sample AUC, gradient boosting", boosted, lambda told: told[:, 0]),
        _of_both("two-sample AUC, GRU", recurrent, lambda told: told[:, 0]),
        # |accuracy - 0.5| on a fifth held out (Yoon et al. 2019, section 5), here on each fifth in its turn
        _of_both("discriminative score", recurrent, lambda told: np.abs(told[:, 1] - 0.5)),
        *predictive_scores(panels.holdout, records, draws, seed),
        log_cluster(features, draws, seed),
    ]


def _of_both(
    name: str, found: tuple[np.ndarray, np.ndarray], value: Callable[[np.ndarray], np.ndarray], subject: str = ""
) -> Measured:
    score, ceiling = map(value, found)
    return Measured(name, subject, score, ceiling)


def _each_draw(
    values: Parts[Any], draws: Draws, n_draws: int, look: Callable[[Any, Any, int], Any], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `look` finds of the patients of each draw, (draws, ...): release, and training, against held-out."""
    score, ceiling = [], []
    for k in range(min(n_draws, len(draws.holdout))):
        made, train, held = (
            _chosen(getattr(values, part), np.flatnonzero(getattr(draws, part)[k]))
            for part in ("made", "train", "holdout")
        )
        score.append(look(made, held, seed + k))
        ceiling.append(look(train, held, seed + k))  # the same folds and first weights: only the patients differ
    return np.array(score), np.array(ceiling)


def _chosen(values: Any, patients: np.ndarray) -> Any:
    if isinstance(values, Encoded):
        return Encoded(values.static[patients], values.moving[patients])
    return values[patients]


def _told_apart(
    values: Parts[np.ndarray], draws: Draws, n_draws: int, log_odds: LogOdds, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return AUC and accuracy out of fold in each draw, (draws, 2), of score and of ceiling.

    The AUC is the mean of those within a fold: log odds of two learners are not on one scale, and lower where
    a learner happened to see fewer of a sort, which pooled would look like less than chance.
    """

    def look(one: np.ndarray, other: np.ndarray, seed: int) -> tuple[float, float]:
        both, labels = np.concatenate([one, other]), np.repeat([1, 0], [len(one), len(other)])
        areas, right = [], 0
        for train, test in folds(labels, seed):
            found = log_odds(both, labels, train, test, seed)
            areas.append(area_under_curve(labels[test], found))
            right += int(((found > 0) == labels[test]).sum())
        return (float(np.mean(areas)), right / len(labels)) if areas else (np.nan, np.nan)

    return _each_draw(values, draws, n_draws, look, seed)


def predictive_scores(holdout: Panel, records: Parts[Encoded], draws: Draws, seed: int = 0) -> list[Measured]:
    """Return by column how far held-out patients' next times are from what a GRU expects that learned elsewhere.

    Mean absolute error of the rank score of a real, or of a category's indicators, given all columns up to a time:
    learned from the release, and from training patients for the ceiling (Yoon et al. 2019, section 5, for every
    column, where the paper has the last one). Not estimable where no record goes on.
    """

    def look(learned: Encoded, held: Encoded, seed: int) -> np.ndarray:
        return next_time_errors(learned, held, seed).sum(axis=0)

    where = places(holdout)
    if holdout.schema.length < 2 or not where:
        return []
    found = _each_draw(records, draws, GRU_DRAWS, look, seed)
    return [_of_both("predictive score", found, _mean_error(numbers), name) for name, numbers in where.items()]


def _mean_error(numbers: slice) -> Callable[[np.ndarray], np.ndarray]:
    def of(sums: np.ndarray) -> np.ndarray:
        times = np.where(sums[:, 0] > 0, sums[:, 0], np.nan)
        return sums[:, 1:][:, numbers].mean(axis=1) / times

    return of


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
