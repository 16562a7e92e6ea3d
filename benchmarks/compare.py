"""A release beside the patients that its run held out: marginal distances and ceilings, in a second."""

from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.quick_look import changing, length_ceiling, length_scores, marginal_scores
from hg3.evaluation.cohorts import compared_cohorts
from hg3.release.load import load
from hg3.release.reading import open_release


def compare_release(release: Path, run: Path) -> dict[str, Any]:
    """Return the distances of `release` to the hold-out of `run`.

    A conditional release is compared with the same subgroup, a balanced one with equal groups; one that was given a
    real has no subgroup and is refused.

    Returns
    -------
    By column: "tv", "ks", and "tv_ceiling", "ks_ceiling", the 95th percentile of as many training patients;
    "missing" and "missing_real" where cells may be missing; "changing", the share of patients with several codes where
    no held-out patient has. For the whole: record lengths, gaps, rejected, moved, patients, holdout_patients, and how
    often each rule was broken before and after.
    """
    opened = open_release(release)
    condition = {key: opened.manifest[key] for key in ("where", "balance")}
    compared = compared_cohorts(load(release), opened.schema, run, **condition)
    scores = marginal_scores(compared.synthetic, compared.holdout, compared.train)
    guardrail = opened.manifest["guardrail"]
    return {
        **_by_measure(scores),
        **_missing(scores),
        **length_scores(compared.synthetic, compared.holdout),
        "length_ks_ceiling": length_ceiling(compared.train, compared.holdout, compared.synthetic.n_patients),
        "patients": compared.synthetic.n_patients,
        "holdout_patients": compared.holdout.n_patients,
        "changing": changing(compared.synthetic, compared.holdout),
        "rejected": guardrail["rejected"],
        "moved": guardrail["moved"],
        "rules": guardrail["rules"],
    }


def _by_measure(scores: pd.DataFrame) -> dict[str, dict[str, float]]:
    out: dict[str, dict[str, float]] = {}
    for measure in ("tv", "ks"):
        part = scores[scores["measure"] == measure].set_index("column")
        for key, shown in ((measure, "distance"), (f"{measure}_ceiling", "ceiling_95")):
            out[key] = _rounded(part[shown])
    return out


def _missing(scores: pd.DataFrame) -> dict[str, dict[str, float]]:
    part = scores[(scores["missing"] > 0) | (scores["missing_real"] > 0)].set_index("column")
    return {"missing": _rounded(part["missing"]), "missing_real": _rounded(part["missing_real"])}


def _rounded(values: pd.Series) -> dict[str, float]:
    return {str(column): round(float(value), 4) for column, value in values.items()}
