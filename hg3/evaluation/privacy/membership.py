"""Was this patient in the training? Two attacks that have the release and, the second, other real patients.

Training patients are members, hold-out patients are not. Each half of the hold-out in turn is attacked beside the
members; of the other half, one part is the attacker's reference, and one takes the release's place for the ceiling:
those patients tell nothing of the training, so what an attack gets from them it gets by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hg3.evaluation.draws import N_DRAWS, Measured, Parts, resamples
from hg3.evaluation.privacy.distances import Points, nearest
from hg3.evaluation.privacy.search import Near

ATTACKS = ("distance", "density")
RATES = {"1%": 0.01, "0.1%": 0.001}  # of false positives
FEWEST_HITS = 10  # by chance, for a true positive rate to say something
FEWEST_HOLDOUT = 20
N_REFERENCE = 10  # nearest reference patients, whose distance says how dense real patients lie
TINY = 1e-6  # a copy lies at distance 0
CURVE_POINTS = 200


@dataclass(frozen=True)
class Scores:
    """What an attack gives N members and M others, float64; higher for those that it takes for members."""

    members: np.ndarray
    others: np.ndarray


Half = dict[str, Scores]  # by attack


def membership_measures(points: Parts[Points], seed: int, near: Near) -> tuple[list[Measured], pd.DataFrame, list[str]]:
    """Return each attack's AUC and true positive rates, its curve (attack, false_positive, true_positive), remarks.

    The distance attack takes those for members that lie near a synthetic record. The density attack (van Breugel et
    al. 2023) takes those that lie nearer to one than real patients lie there: the logarithm of the mean distance to
    the 10 nearest reference patients less that to the nearest synthetic record. A density's estimate by the nearest
    neighbour falls with its distance alone; one synthetic record is enough to find its original, where a kernel or
    more neighbours blur it. Uncertainty: 50 resamples of members and others; what is shown is the mean of the halves.

    Parameters
    ----------
    near : of which `train` and `holdout` tell how near the nearest of all synthetic records lies.
    """
    n_members, n_holdout = len(points.train), len(points.holdout)
    if n_holdout < FEWEST_HOLDOUT:
        remark = (
            f"Membership is not attacked: that takes {FEWEST_HOLDOUT} hold-out patients, and there are {n_holdout}."
        )
        return _not_estimable(), _curves([]), [remark]
    halves = np.array_split(np.random.default_rng([seed, n_holdout]).permutation(n_holdout), 2)
    of_release, by_chance = _attacked(points, halves, near)
    weights = resamples(n_members, seed), [resamples(len(half), seed + k) for k, half in enumerate(halves)]
    score, ceiling = (_summary(scores, *weights) for scores in (of_release, by_chance))
    measures = [Measured(name, "", score[name], ceiling[name]) for name in score]
    return measures, _curves(of_release), _remarks(n_members, len(halves[1]))


def _not_estimable() -> list[Measured]:
    unknown = np.full(N_DRAWS, np.nan)
    names = ["membership AUC", *(f"membership TPR at {name} FPR" for name in RATES)]
    return [Measured(f"{name}, {attack}", "", unknown, unknown) for attack in ATTACKS for name in names]


def _remarks(n_members: int, n_others: int) -> list[str]:
    return [
        f"The true positive rate at {name} false positives is not estimable: chance finds {rate * n_members:.1f} of "
        f"{n_members} members and {rate * n_others:.1f} of {n_others} others; that takes {FEWEST_HITS} and 1."
        for name, rate in RATES.items()
        if not _estimable(rate, n_members, n_others)
    ]


def _estimable(rate: float, n_members: int, n_others: int) -> bool:
    return rate * n_members >= FEWEST_HITS and rate * n_others >= 1


def _attacked(points: Parts[Points], halves: Sequence[np.ndarray], near: Near) -> tuple[list[Half], list[Half]]:
    """Return what the attacks give members and each half, from the release and from patients in its place."""
    members, holdout = points.train, points.holdout
    near_members, near_holdout = near.train.astype(float), near.holdout.astype(float)
    of_release, by_chance = [], []
    for half, rest in zip(halves, halves[::-1], strict=True):
        reference, stand_in = (holdout.of(part) for part in np.array_split(rest, 2))
        sides = members, holdout.of(half)
        dense = [nearest(side, reference, N_REFERENCE).mean(axis=1) for side in sides]
        of_release.append(_scores((near_members, near_holdout[half]), dense))
        by_chance.append(_scores([_nearest(side, stand_in) for side in sides], dense))
    return of_release, by_chance


def _nearest(one: Points, other: Points) -> np.ndarray:
    return nearest(one, other)[:, 0].astype(float)


def _scores(near: Sequence[np.ndarray], dense: Sequence[np.ndarray]) -> Half:
    """Return both attacks' scores from how far members and others lie from records and from real patients."""
    ratio = [np.log(real + TINY) - np.log(made + TINY) for real, made in zip(dense, near, strict=True)]
    return {"distance": Scores(-near[0], -near[1]), "density": Scores(*ratio)}


def _summary(halves: Sequence[Half], of_members: np.ndarray, of_others: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return AUC and true positive rates by measure, as means of the halves, under weights (draws, N): (draws,)."""
    found: dict[str, np.ndarray] = {}
    for attack in ATTACKS:
        rates = [_rates(half[attack], of_members, others) for half, others in zip(halves, of_others, strict=True)]
        areas = [np.trapezoid(true, false, axis=1) for false, true in rates]
        found[f"membership AUC, {attack}"] = np.mean(areas, axis=0)
        for name, rate in RATES.items():
            known = _estimable(rate, of_members.shape[1], of_others[-1].shape[1])
            reached = np.mean([_true_at(np.array([rate]), *pair)[:, 0] for pair in rates], axis=0)
            found[f"membership TPR at {name} FPR, {attack}"] = reached if known else np.full_like(reached, np.nan)
    return found


def _rates(scores: Scores, of_members: np.ndarray, of_others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positive rates as the threshold falls from above the highest score, (draws, scores + 1)."""
    both = np.concatenate([scores.members, scores.others])
    kind = np.unique(-both, return_inverse=True)[1]
    of_kind = np.split(kind, [len(scores.members)])

    def rates(kinds: np.ndarray, weights: np.ndarray) -> np.ndarray:
        counts = np.array([np.bincount(kinds, weight, kind.max() + 1) for weight in weights]).cumsum(axis=1)
        return np.pad(counts / counts[:, -1:], ((0, 0), (1, 0)))

    return rates(of_kind[1], of_others), rates(of_kind[0], of_members)


def _true_at(rates: np.ndarray, false: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the true positive rates at these false positive rates or just below, (draws, rates)."""
    return np.stack([t[np.searchsorted(f, rates + 1e-12, "right") - 1] for f, t in zip(false, true, strict=True)])


def _curves(halves: Sequence[Half]) -> pd.DataFrame:
    """Return each attack's curve, evenly in false positives and, below 10%, evenly in their logarithm."""
    even = np.linspace(0, 1, CURVE_POINTS // 2)
    at = np.unique(np.concatenate([even, np.geomspace(1e-4, 0.1, CURVE_POINTS // 2)]))
    found: dict[str, list[np.ndarray]] = {"attack": [], "false_positive": [], "true_positive": []}
    for attack in ATTACKS if halves else ():
        reached = [_true_at(at, *_of_everybody(half[attack]))[0] for half in halves]
        found["attack"].append(np.full(len(at), attack, object))
        found["false_positive"].append(at)
        found["true_positive"].append(np.mean(reached, axis=0))
    return pd.DataFrame({name: np.concatenate(part) if part else part for name, part in found.items()})


def _of_everybody(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    return _rates(scores, np.ones((1, len(scores.members))), np.ones((1, len(scores.others))))
