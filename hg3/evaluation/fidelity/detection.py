"""Can a release be told from real patients? Learners try to, beside how far training and held-out ones can be told.

Each is trained on as many patients of both sorts, and scored on patients that it has not seen. What one learner
misses another may find: boosted trees see what a record adds up to, a GRU its course, clusters where patients lie.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from hg3.evaluation.draws import Draws, Measured, Parts
from hg3.evaluation.features import Encoded, Features, encode, places, summary
from hg3.evaluation.fidelity.clusters import log_cluster
from hg3.evaluation.learners import area_under_curve, boosted_log_odds, folds, is_there
from hg3.evaluation.panel import Panel, some_patients
from hg3.evaluation.results import Found

# A learner is trained for each of these draws, in every fold and for score and ceiling; the others say no more.
BOOSTING_DRAWS = 5
GRU_DRAWS = 2

BOOSTING, GRU, DISCRIMINATIVE = "two-sample AUC, gradient boosting", "two-sample AUC, GRU", "discriminative score"
NO_TORCH = "Recurrent networks were not trained: they need torch, which is not installed."

LogOdds = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
Look = Callable[[np.ndarray, np.ndarray, int], tuple[float, float]]


def detection(panels: Parts[Panel], draws: Draws, seed: int = 0) -> Found:
    """Return the measures, and remarks on those that cannot tell anything here."""
    measures = detection_measures(panels, draws, seed)
    blind = [found for found in measures if found.is_known and not found.has_power]
    remarks = [_no_power(found, int(draws.holdout[0].sum())) for found in blind]
    return measures, {}, [*remarks, *([] if is_there("torch") else [NO_TORCH])]


def _no_power(found: Measured, n_patients: int) -> str:
    assert found.control is not None
    return (
        f"{found.name[0].upper()}{found.name[1:]}, has no power: of {n_patients} patients a group it tells real ones "
        f"whose columns were exchanged between patients from others at {found.control.min():.2f} to "
        f"{found.control.max():.2f}, and real ones as they are at {found.ceiling.min():.2f} to "
        f"{found.ceiling.max():.2f}. That it tells the release at {found.score.mean():.2f} says nothing of the release."
    )


def detection_measures(panels: Parts[Panel], draws: Draws, seed: int = 0) -> list[Measured]:
    """Return two-sample AUCs of two learners, TimeGAN's discriminative and predictive scores, and log-cluster.

    All are lower for a better release. An AUC is 0.5 where nothing can be told, and below that by chance alone. Without
    torch, what takes a recurrent network is not estimable.
    """
    features = panels.each(summary)
    values, look = features.each(lambda f: f.values), _told_apart(boosted_log_odds)
    boosted = _of_both(BOOSTING, _each_draw(values, draws, BOOSTING_DRAWS, look, seed), lambda told: told[:, 0])
    control = _control(features, draws, look, seed)
    return [
        Measured(BOOSTING, "", boosted.score, boosted.ceiling, control=control),
        *(_by_networks(panels, draws, seed) if is_there("torch") else _without_networks(panels.holdout, GRU_DRAWS)),
        log_cluster(features, draws, seed),
    ]


def _control(features: Parts[Features], draws: Draws, look: Look, seed: int) -> np.ndarray:
    """Return the AUC of training patients who are no patients any more, by draw: is anything to be told at all?

    What a record says of each column comes from another patient: every column is right, and none goes with another.
    """
    made, held = features.train, features.holdout.values
    found = []
    for k in range(min(BOOSTING_DRAWS, len(draws.holdout))):
        exchanged = _exchanged(made.names, made.values[draws.train[k] > 0], np.random.default_rng([seed, k]))
        found.append(look(exchanged, held[draws.holdout[k] > 0], seed + k)[0])
    return np.array(found)


def _exchanged(names: tuple[str, ...], values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return features whose columns' groups (all that is said of VL, of drugs) are each given to other patients."""
    group = np.unique([name.partition(": ")[0] for name in names], return_inverse=True)[1]
    order = np.stack([random.permutation(len(values)) for _ in range(group.max() + 1)], axis=1)
    return np.take_along_axis(values, order[:, group], axis=0)


def _by_networks(panels: Parts[Panel], draws: Draws, seed: int) -> list[Measured]:
    from hg3.evaluation.recurrent import recurrent_log_odds, sequences  # takes torch

    # Of a large release the numbers of those who are in no draw need not be in memory.
    drawn = np.flatnonzero(draws.made[:GRU_DRAWS].any(axis=0))
    records = encode(replace(panels, made=some_patients(panels.made, drawn)))
    draws = replace(draws, made=draws.made[:, drawn])
    look = _told_apart(recurrent_log_odds)
    found = _each_draw(
        records, draws, GRU_DRAWS, lambda one, other, seed: look(sequences(one), sequences(other), seed), seed
    )
    return [
        _of_both(GRU, found, lambda told: told[:, 0]),
        # |accuracy - 0.5| on a fifth held out (Yoon et al. 2019, section 5), here on each fifth in its turn
        _of_both(DISCRIMINATIVE, found, lambda told: np.abs(told[:, 1] - 0.5)),
        *predictive_scores(panels.holdout, records, draws, seed),
    ]


def _without_networks(holdout: Panel, n_draws: int) -> list[Measured]:
    subjects = [(GRU, ""), (DISCRIMINATIVE, ""), *(("predictive score", name) for name in places(holdout))]
    unknown = np.full(n_draws, np.nan)
    return [Measured(name, subject, unknown, unknown) for name, subject in subjects]


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


def _told_apart(log_odds: LogOdds) -> Look:
    """Return a function of two groups of patients and a seed: AUC and accuracy out of fold.

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

    return look


def predictive_scores(holdout: Panel, records: Parts[Encoded], draws: Draws, seed: int = 0) -> list[Measured]:
    """Return by column how far held-out patients' next times are from what a GRU expects that learned elsewhere.

    Mean absolute error of the rank score of a real, or of a category's indicators, given all columns up to a time:
    learned from the release, and from training patients for the ceiling (Yoon et al. 2019, section 5, for every
    column, where the paper has the last one). Not estimable where no record goes on.
    """
    from hg3.evaluation.recurrent import next_time_errors  # takes torch

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
