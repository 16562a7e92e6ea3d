"""Sentences on measures whose score and ceiling say it all: attacks, learners, distances."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hg3.evaluation.draws import Measured
from hg3.evaluation.report.scales import percent, short, two_decimals


@dataclass(frozen=True)
class Saying:
    """A sentence with places for {score}, {ceiling}, {subject} and {variant}, and how the numbers are written."""

    words: str
    written: Callable[[float], str] = percent


PAIRS = "{Variant} tells a synthetic from a real patient in {score} of pairs, against {ceiling} of two real groups."
GUESSES = "A network that guesses which records are synthetic is right in {score} of cases, against {ceiling}."
PREDICTED = (
    "{Subject} is predicted at an {measure} of {score} by who learns from synthetic patients, against {ceiling}."
)
ADDED = (
    "Synthetic patients added to real ones bring the prediction of {subject} to an AUROC of {score}, from {ceiling}."
)
FORECAST = "Who learns from synthetic patients misses the next {subject} by {score} of all values, against {ceiling}."
EFFECTS = "Hazard ratios of {subject} are off by a factor of {score} on average, against {ceiling} between real groups."
OVERLAPS = "Intervals of {score} of the hazard ratios of {subject} overlap those of real patients, against {ceiling}."
POLICY = "A policy learnt from synthetic patients decides otherwise in {score} of cases, against {ceiling}."
MEMBERS = (
    "The {variant} attack finds {score} of training patients while it accuses {rate} of others; chance is {ceiling}."
)
TOLD_BY = "The {variant} attack tells a training patient from another in {score} of pairs, against {ceiling} by chance."
INFERRED = "An attacker guesses {subject} of {score} of training patients right, against {ceiling} of others."
COPIES = "{score} of synthetic records are exactly a training patient’s, against {ceiling} by chance."
NEAR = "{score} of synthetic records lie as near to a training patient as the nearest 1% of others, against {ceiling}."
CLOSER = "{score} of synthetic records lie closer to training than to held-out patients, against {ceiling}."
DISCLOSED = "An attacker finds {score} of training patients and learns something new, against {ceiling} of others."
SINGLED = "An attacker singles out a patient in {score} of attempts, against {ceiling} by chance."
SINGLED_RARE = SINGLED.replace("a patient", "a patient of a rare subgroup")
SUBGROUPS = "The table of subgroups is {score} away from that of real patients, against {ceiling} between real groups."

COVERED = "The release has {score} of the subgroups of real patients, against {ceiling} of as many real patients."


def _factor(log_ratio: float) -> str:
    return short(float(np.exp(log_ratio)))


def _right(above_half: float) -> str:
    return percent(0.5 + above_half)


SAYINGS = {
    "two-sample AUC": Saying(PAIRS),
    "discriminative score": Saying(GUESSES, _right),
    "TSTR AUROC": Saying(PREDICTED.replace("{measure}", "AUROC"), two_decimals),
    "TSTR AUPRC": Saying(PREDICTED.replace("{measure}", "AUPRC"), two_decimals),
    "real and synthetic AUROC": Saying(ADDED, two_decimals),
    "TSTR MAE": Saying(FORECAST),
    "hazard ratios": Saying(EFFECTS, _factor),
    "hazard ratio intervals": Saying(OVERLAPS),
    "policy disagreement": Saying(POLICY),
    "membership AUC": Saying(TOLD_BY),
    "membership TPR at 1% FPR": Saying(MEMBERS.replace("{rate}", "1%")),
    "membership TPR at 0.1% FPR": Saying(MEMBERS.replace("{rate}", "0.1%")),
    "attribute inference": Saying(INFERRED),
    "exact copies": Saying(COPIES),
    "near copies": Saying(NEAR),
    "share closer to training": Saying(CLOSER),
    "disclosure risk": Saying(DISCLOSED),
    "singling out": Saying(SINGLED),
    "singling out, rare subgroups": Saying(SINGLED_RARE),
    "mode collapse": Saying(SUBGROUPS),
    "subgroup coverage": Saying(COVERED),
}


def saying(measured: Measured, subject: str) -> str | None:
    """Return the sentence of a measure, its subject called `subject`; None of one that has none."""
    family, _, variant = measured.name.partition(", ")
    found = SAYINGS.get(measured.name, SAYINGS.get(family))
    if found is None:
        return None
    numbers = {key: found.written(float(np.mean(getattr(measured, key)))) for key in ("score", "ceiling")}
    words = {"subject": subject, "Subject": _capital(subject), "variant": variant, "Variant": _capital(variant)}
    told = found.words
    for key, word in {**numbers, **words}.items():
        told = told.replace("{" + key + "}", word)
    return told


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
