"""Is the same treatment learned: policies from synthetic and from real patients, on the states of held-out ones."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hg3.evaluation.draws import Measured, Parts
from hg3.evaluation.panel import Panel
from hg3.evaluation.summaries import total_variation
from hg3.evaluation.utility.decisions import Decisions, decisions
from hg3.evaluation.utility.learning import GAMMA, buffer, learn_policy, learn_value, quiet
from hg3.evaluation.utility.samples import FEWEST, resamples

N_FITS = 3  # each is tested on every third resample
MOST_PATIENTS = 1000  # learned from: more of them take more steps of learning
DISAGREEMENT, VALUE = "policy disagreement", "policy value"


@dataclass(frozen=True)
class Policy:
    """What a policy does to the N held-out patients.

    Parameters
    ----------
    recommended : how often each action is recommended to each, float64, (N, actions).
    value : mean reward a time that fitted Q evaluation expects from each one's first state, discounted, in the
        reward's own unit, (N,); NaN without a row.
    """

    recommended: np.ndarray
    value: np.ndarray


def policy_measures(panels: Parts[Panel], seed: int = 0) -> tuple[list[Measured], pd.DataFrame | None, list[str]]:
    """Return how differently policies treat held-out patients, and what they are worth, with a table; or why not.

    The disagreement is the total variation between the recommendations over held-out states of the policy learned
    from synthetic patients, or of one learned from other real patients (the ceiling), and a policy learned from real
    ones.
    """
    why = _why_not(panels)
    if why:
        return [], None, [f"No policies are learned: {why}."]
    found, names = decisions(panels)
    if min(_n_with_steps(part) for part in (found.made, found.train, found.holdout)) < 2 * FEWEST:
        return [], None, [f"No policies are learned: fewer than {2 * FEWEST} patients of a part have rewards."]
    random = np.random.default_rng(seed)
    fits = [_policies(found, len(names), random) for _ in range(N_FITS)]
    weights = resamples(np.zeros(panels.holdout.n_patients), random)
    return _measures(fits, weights), _table(fits[0], names), []


def _why_not(panels: Parts[Panel]) -> str:
    schema = panels.holdout.schema
    if all(column.role == "state" for column in schema.columns):
        return 'no column of the schema has role = "action"'
    return "" if schema.reward else "the schema has no [[reward]]"


def _n_with_steps(part: Decisions) -> int:
    return int((~np.isnan(part.reward)).any(axis=1).sum())


def _policies(found: Parts[Decisions], n_actions: int, random: np.random.Generator) -> dict[str, Policy]:
    """Return the policies of as many synthetic, real and other real patients."""
    n_made, n_train = found.made.has_row.shape[0], found.train.has_row.shape[0]
    size = min(n_made, n_train // 2, MOST_PATIENTS)
    made, train = random.permutation(n_made)[:size], random.permutation(n_train)
    known = found.train.reward[~np.isnan(found.train.reward)]
    scale = float(known.mean()), float(known.std()) or 1.0
    state = int(random.integers(2**31))
    learners = {"made": (found.made, made), "real": (found.train, train[:size])}
    learners["other"] = found.train, train[size : 2 * size]
    return {
        name: _policy(part, patients, found.holdout, n_actions, scale, state, name != "other")
        for name, (part, patients) in learners.items()
    }


def _policy(
    part: Decisions,
    patients: np.ndarray,
    holdout: Decisions,
    n_actions: int,
    scale: tuple[float, float],
    seed: int,
    valued: bool,
) -> Policy:
    whose, _ = np.nonzero(holdout.has_row)
    value = np.full(len(holdout.has_row), np.nan)
    with quiet(seed) as d3rlpy:
        policy = learn_policy(d3rlpy, buffer(d3rlpy, part, patients, n_actions, scale))
        actions = policy.predict(holdout.state[holdout.has_row])
        recommended = np.zeros((len(holdout.has_row), n_actions))
        np.add.at(recommended, (whose, actions), 1.0)
        if valued:
            transitions = buffer(d3rlpy, holdout, np.arange(len(value)), n_actions, scale)
            learned = learn_value(d3rlpy, policy, transitions)
            first, begins = np.unique(whose, return_index=True)
            states = holdout.state[holdout.has_row][begins]
            value[first] = learned.predict_value(states, actions[begins])
    return Policy(recommended, scale[0] + scale[1] * (1 - GAMMA) * value)


def _measures(fits: list[dict[str, Policy]], weights: np.ndarray) -> list[Measured]:
    def recommended(name: str) -> np.ndarray:
        return np.stack([w @ fits[i % N_FITS][name].recommended for i, w in enumerate(weights)])

    def values(name: str) -> np.ndarray:
        return np.array([_mean(fits[i % N_FITS][name].value, w) for i, w in enumerate(weights)])

    made, other = (total_variation(recommended(name), recommended("real")) for name in ("made", "other"))
    return [Measured(DISAGREEMENT, "", made, other), Measured(VALUE, "", values("made"), values("real"), True)]


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    known = ~np.isnan(values)
    return float(np.average(values[known], weights=weights[known]))


def _table(fit: dict[str, Policy], names: tuple[str, ...]) -> pd.DataFrame:
    """Return the share of held-out states to which each action is recommended; NaN if to fewer than 10 patients."""

    def share(name: str) -> np.ndarray:
        counts = fit[name].recommended
        shares = counts.sum(axis=0) / counts.sum()
        return np.where((counts > 0).sum(axis=0) < FEWEST, np.nan, shares)

    table = pd.DataFrame({"action": names, "real": share("real"), "synthetic": share("made")})
    return table.sort_values(["real", "synthetic"], ascending=False, ignore_index=True)
