"""Are synthetic records too close to training patients? Beside how close hold-out patients are."""

import hashlib

import numpy as np

from hg3.evaluation.draws import Draws, Measured, Parts, resamples
from hg3.evaluation.panel import Panel
from hg3.evaluation.privacy.distances import Points, distances, nearest
from hg3.evaluation.privacy.search import Near

MOST_IN_A_DRAW = 1_000  # patients of each part, so that 50 draws take seconds
NEAR = 0.01  # of hold-out patients are this near to a training patient


def copy_measures(panels: Parts[Panel], seed: int = 0) -> list[Measured]:
    """Return the share of synthetic records that are a training patient's, cell by cell; the ceiling: of hold-out ones.

    All records of the release count, in every draw: a few copies in a large release would be in few draws of it. The
    hold-out's share is resampled. Reals are compared as written: at the schema's decimals and at seven digits.
    """
    known = set(_prints(panels.train))
    made, held = (np.array([one in known for one in _prints(part)], float) for part in (panels.made, panels.holdout))
    weights = resamples(len(held), seed)
    ceiling = weights @ held / weights.sum(axis=1)
    return [Measured("exact copies", "", np.full_like(ceiling, made.mean()), ceiling)]


def _prints(panel: Panel) -> list[bytes]:
    """Return a hash of every record: which times have a row, and every value."""
    cells = [panel.has_row]
    for column in panel.schema.columns:
        values = panel.values[column.name]
        values = values if column.decimals is None else np.round(values, column.decimals)
        # seven digits; -0 is 0, and a cell without a value is like any other without one
        cells.append(np.where(np.isnan(values), np.nan, values + 0.0).astype(np.float32))
    return [hashlib.blake2b(b"".join(cell[k].tobytes() for cell in cells)).digest() for k in range(panel.n_patients)]


def near_measures(points: Parts[Points], near: Near, of_made: np.ndarray, of_holdout: np.ndarray) -> list[Measured]:
    """Return the share of synthetic records as near to a training patient as 1% of hold-out patients are, or nearer.

    Parameters
    ----------
    near : of which `made` tells how near every synthetic record lies, whether `points` holds it or not.
    of_made, of_holdout : how often each synthetic record and hold-out patient counts, draw by draw, (draws, N).
    """
    apart = nearest(points.holdout, points.train)[:, 0]
    threshold = np.quantile(apart, NEAR, method="lower")
    sides = ((of_made, near.made), (of_holdout, apart))
    score, ceiling = (weights @ (part <= threshold) / weights.sum(axis=1) for weights, part in sides)
    return [Measured("near copies", "", score, ceiling)]


def adversarial_measures(points: Parts[Points], draws: Draws, seed: int = 0) -> list[Measured]:
    """Return the loss of nearest-neighbour adversarial accuracy, and the share closer to training.

    The accuracy (Yale et al. 2020) of telling real patients R from records S by their nearest neighbours is
    1/2 (P[d_RS > d_RR] + P[d_SR > d_SS]); a tie counts half. Its loss is the accuracy against hold-out patients less
    that against training patients: 0 of a release that knows them alike, above 0 if it repeats the training. The share
    of records closer to training than to hold-out patients is 0.5 of such a release. Each draw takes equally many of
    each part, at most 1,000; for the ceiling, hold-out patients outside the draw take the release's place.
    """
    random = np.random.default_rng(seed)
    pairs = [_of_draw(points, *weights, random) for weights in zip(draws.made, draws.train, draws.holdout, strict=True)]
    (loss, lost), (share, shared) = np.array(pairs).transpose(2, 1, 0)
    name = "nearest-neighbour adversarial accuracy loss"
    return [Measured(name, "", loss, lost), Measured("share closer to training", "", share, shared)]


def _of_draw(
    points: Parts[Points], made: np.ndarray, train: np.ndarray, holdout: np.ndarray, random: np.random.Generator
) -> list[tuple[float, float]]:
    """Return loss and share of the release and of hold-out patients in its place; NaN with under two of a part."""
    parts = [np.flatnonzero(part) for part in (made, train, holdout, holdout == 0)]
    size = min(MOST_IN_A_DRAW, *map(len, parts))
    if size < 2:
        return [(np.nan, np.nan)] * 2
    s, t, h, rest = (random.choice(part, size, replace=False) for part in parts)
    real = [(part, _to_others(part)) for part in (points.train.of(t), points.holdout.of(h))]
    return [_loss_and_share(release, *real) for release in (points.made.of(s), points.holdout.of(rest))]


def _loss_and_share(
    release: Points, train: tuple[Points, np.ndarray], holdout: tuple[Points, np.ndarray]
) -> tuple[float, float]:
    """Return both of one release; patients come with their distances to the nearest other of their part."""
    (to_train, to_holdout), within = (distances(release, part) for part, _ in (train, holdout)), _to_others(release)
    loss = _accuracy(to_holdout, holdout[1], within) - _accuracy(to_train, train[1], within)
    return loss, _higher(to_holdout.min(axis=1), to_train.min(axis=1))


def _accuracy(apart: np.ndarray, among_real: np.ndarray, among_made: np.ndarray) -> float:
    """Return the adversarial accuracy from distances of records to patients (S, R) and to their own nearest."""
    return 0.5 * (_higher(apart.min(axis=0), among_real) + _higher(apart.min(axis=1), among_made))


def _to_others(points: Points) -> np.ndarray:
    apart = distances(points, points)
    np.fill_diagonal(apart, np.inf)
    return apart.min(axis=1)


def _higher(one: np.ndarray, other: np.ndarray) -> float:
    """Return the share of pairs of which `one` is higher; a tie counts half."""
    return float(((one > other) + 0.5 * (one == other)).mean())
