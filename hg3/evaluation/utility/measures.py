"""All measures of utility: the quick ones, and those that take minutes."""

import pandas as pd

from hg3.evaluation.draws import Draws, Parts
from hg3.evaluation.panel import Panel
from hg3.evaluation.results import Found
from hg3.evaluation.utility.forecast import forecast_measures
from hg3.evaluation.utility.policies import policy_measures
from hg3.evaluation.utility.prediction import prediction_measures
from hg3.evaluation.utility.survival import hazard_measures

NO_TARGETS = "The schema names no [[targets]], so no outcome is predicted from the records."


def utility_measures(panels: Parts[Panel], draws: Draws, seed: int = 0) -> Found:
    """Return how well synthetic patients teach to predict targets and next values of real ones (TSTR).

    Parameters
    ----------
    draws : unused: learners are fitted to halves of all patients, which are drawn from `seed`.

    Raises
    ------
    MissingLibraryError
        If scikit-learn is not installed.
    """
    measures, remarks = [], []
    for target in panels.holdout.schema.targets:
        found, said = prediction_measures(panels, target, seed)
        measures += found
        remarks += said
    found, said = forecast_measures(panels, seed)
    without = [] if panels.holdout.schema.targets else [NO_TARGETS]
    return [*measures, *found], {}, [*without, *remarks, *said]


def costly_utility_measures(panels: Parts[Panel], draws: Draws, seed: int = 0) -> Found:
    """Return whether synthetic patients give the hazard ratios and the treatment policies that real ones give.

    Raises
    ------
    MissingLibraryError
        If lifelines or d3rlpy is not installed.
    """
    measures, frames, remarks = [], [], []
    for target in panels.holdout.schema.targets:
        found, table, said = hazard_measures(panels, target, draws)
        measures += found
        remarks += said
        frames += [] if table is None else [table]
    tables = {"hazard ratios": pd.concat(frames, ignore_index=True)} if frames else {}
    found, policies, said = policy_measures(panels, seed)
    if policies is not None:
        tables["policies"] = policies
    return [*measures, *found], tables, [*remarks, *said]
