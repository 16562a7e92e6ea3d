"""All measures of privacy: attacks, each beside what it gets from patients that the training never saw."""

import numpy as np

from hg3.evaluation.draws import Draws, Parts, make_draws, resamples
from hg3.evaluation.panel import Panel, some_patients
from hg3.evaluation.privacy.closeness import adversarial_measures, copy_measures, near_measures
from hg3.evaluation.privacy.disclosure import disclosure_measures
from hg3.evaluation.privacy.distances import points
from hg3.evaluation.privacy.inference import inference_measures
from hg3.evaluation.privacy.membership import membership_measures
from hg3.evaluation.privacy.search import near_everybody
from hg3.evaluation.privacy.singling_out import singling_out_measures
from hg3.evaluation.results import Found

MOST_PATIENTS = 10_000  # of a part; of more, as many at random: distances are of all with all


def privacy_measures(panels: Parts[Panel], draws: Draws, seed: int = 0) -> Found:
    """Return the measures, the tables of the report ("attack curves") and remarks on what could not be measured.

    Exact copies are looked for in the whole release, among all training patients. Near copies and members are looked
    for in the whole release as well, of at most 10,000 training and hold-out patients: who copied a few of them into a
    large release is not to be missed. All else is measured on at most 10,000 of each part.
    """
    copies, everybody = copy_measures(panels, seed), panels.made
    chosen = panels.each(lambda panel: _chosen(panel, seed))
    remarks = _remarks(panels)
    panels = Parts(*(some_patients(getattr(panels, part), getattr(chosen, part)) for part in vars(panels)))
    if remarks:  # few of the patients who were drawn may be among the chosen
        draws = make_draws(panels.each(lambda panel: panel.n_patients), seed)
    space = points(panels)
    near = near_everybody(everybody, panels, space)
    membership, curves, of_membership = membership_measures(space, seed, near)
    weights = resamples(len(near.made), seed), resamples(len(near.holdout), seed)
    closeness = [*copies, *near_measures(space, near, *weights), *adversarial_measures(space, draws, seed)]
    inference, of_inference = inference_measures(panels, seed)
    disclosure, of_disclosure = disclosure_measures(panels, seed)
    singling_out, of_singling_out = singling_out_measures(panels, seed)
    measures = [*membership, *closeness, *inference, *disclosure, *singling_out]
    remarks += [*of_membership, *of_inference, *of_disclosure, *of_singling_out]
    return measures, {"attack curves": curves}, remarks


def _chosen(panel: Panel, seed: int) -> np.ndarray:
    order = np.random.default_rng([seed, panel.n_patients]).permutation(panel.n_patients)
    return np.sort(order[:MOST_PATIENTS])


def _remarks(panels: Parts[Panel]) -> list[str]:
    searched = (
        f"Copies, near copies and members are looked for in all of the {panels.made.n_patients} synthetic records; the "
        f"other attacks use {MOST_PATIENTS} of them."
    )
    real = {"training": panels.train, "hold-out": panels.holdout}
    return [searched] * (panels.made.n_patients > MOST_PATIENTS) + [
        f"All but exact copies is measured on {MOST_PATIENTS} of the {panel.n_patients} {name} patients."
        for name, panel in real.items()
        if panel.n_patients > MOST_PATIENTS
    ]
