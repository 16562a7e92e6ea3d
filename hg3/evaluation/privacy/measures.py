"""All measures of privacy: attacks, each beside what it gets from patients that the training never saw."""

from dataclasses import replace

import numpy as np

from hg3.evaluation.draws import Draws, Parts, make_draws
from hg3.evaluation.panel import Panel
from hg3.evaluation.privacy.closeness import adversarial_measures, copy_measures, near_measures
from hg3.evaluation.privacy.disclosure import disclosure_measures
from hg3.evaluation.privacy.distances import points
from hg3.evaluation.privacy.inference import inference_measures
from hg3.evaluation.privacy.membership import membership_measures
from hg3.evaluation.privacy.singling_out import singling_out_measures
from hg3.evaluation.results import Found

MOST_PATIENTS = 10_000  # of a part; of more, as many at random: distances are of all with all


def privacy_measures(panels: Parts[Panel], draws: Draws, seed: int = 0) -> Found:
    """Return the measures, the tables of the report ("attack curves") and remarks on what could not be measured.

    Exact copies are looked for in the whole release, among all training patients; all else is measured on at most
    10,000 of each part.
    """
    copies = copy_measures(panels, seed)
    chosen = panels.each(lambda panel: _chosen(panel, seed))
    remarks = _remarks(panels)
    panels = Parts(*(_some(getattr(panels, part), getattr(chosen, part)) for part in ("made", "train", "holdout")))
    if remarks:  # few of the patients who were drawn may be among the chosen
        draws = make_draws(panels.each(lambda panel: panel.n_patients), seed)
    space = points(panels)
    membership, curves, of_membership = membership_measures(space, seed)
    closeness = [*copies, *near_measures(space, draws), *adversarial_measures(space, draws, seed)]
    inference, of_inference = inference_measures(panels, seed)
    disclosure, of_disclosure = disclosure_measures(panels, seed)
    singling_out, of_singling_out = singling_out_measures(panels, seed)
    measures = [*membership, *closeness, *inference, *disclosure, *singling_out]
    remarks += [*of_membership, *of_inference, *of_disclosure, *of_singling_out]
    return measures, {"attack curves": curves}, remarks


def _chosen(panel: Panel, seed: int) -> np.ndarray:
    order = np.random.default_rng([seed, panel.n_patients]).permutation(panel.n_patients)
    return np.sort(order[:MOST_PATIENTS])


def _some(panel: Panel, patients: np.ndarray) -> Panel:
    values = {name: value[patients] for name, value in panel.values.items()}
    return replace(panel, values=values, has_row=panel.has_row[patients])


def _remarks(panels: Parts[Panel]) -> list[str]:
    parts = {"synthetic": panels.made, "training": panels.train, "hold-out": panels.holdout}
    return [
        f"All but exact copies is measured on {MOST_PATIENTS} of the {panel.n_patients} {name} patients."
        for name, panel in parts.items()
        if panel.n_patients > MOST_PATIENTS
    ]
