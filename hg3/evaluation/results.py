"""What an evaluation found: sections of measures, what the report draws beside them, and the verdicts of the gates."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from hg3.evaluation.draws import Measured, Parts
from hg3.evaluation.gates import Verdict

FORMAT = 1
Question = Literal["fidelity", "time", "utility", "privacy"]
Found = tuple[list[Measured], dict[str, pd.DataFrame], list[str]]  # measures, what the report draws by name, remarks


@dataclass(frozen=True)
class Section:
    """One part of an evaluation.

    Parameters
    ----------
    question : which of the four questions of a release it helps to answer.
    tables : what the report draws beside the measures, by name: curves of attacks, hazard ratios, policies.
    remarks : sentences on what could not be measured, and why.
    """

    name: str
    question: Question
    measures: tuple[Measured, ...]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """A release, measured.

    Parameters
    ----------
    about : what was compared: name and title of the schema, the release's manifest sum and the run, where known.
    patients : how many there are of each part; n_drawn : how many of them are in each draw.
    seconds : by section, how long it took.
    """

    about: Mapping[str, Any]
    patients: Parts[int]
    n_drawn: int
    sections: tuple[Section, ...]
    verdicts: tuple[Verdict, ...]
    seconds: Mapping[str, float]

    def content(self) -> dict[str, Any]:
        """Return what metrics.json holds."""
        return {
            "format": FORMAT,
            "about": dict(self.about),
            "patients": vars(self.patients),
            "patients_in_a_draw": self.n_drawn,
            "verdicts": [verdict.content() for verdict in self.verdicts],
            "measures": [
                {"section": section.name, "question": section.question, **measured_content(measured)}
                for section in self.sections
                for measured in section.measures
            ],
            "remarks": {section.name: list(section.remarks) for section in self.sections if section.remarks},
            "seconds": {name: round(seconds, 1) for name, seconds in self.seconds.items()},
        }


def measured_content(measured: Measured) -> dict[str, Any]:
    """Return a measure's means over the draws and the paired difference with its interval; null if not estimable.

    The interval is the middle 95% of `n_draws` draws; of fewer than 10, it goes from the lowest to the highest.
    """
    mean, low, high = measured.difference()
    by_draw = {"score": measured.score, "ceiling": measured.ceiling}
    by_draw |= {} if measured.control is None else {"control": measured.control}
    return {
        "measure": measured.name,
        "subject": measured.subject,
        "better": "higher" if measured.higher_is_better else "lower",
        "score": number(float(np.mean(measured.score))),
        "ceiling": number(float(np.mean(measured.ceiling))),
        "difference": number(mean),
        "interval": [number(low), number(high)],
        "n_draws": len(measured.score),
        **({} if measured.control is None else {"has_power": measured.has_power}),
        "draws": {key: [number(float(value)) for value in values] for key, values in by_draw.items()},
    }


def measured_of(content: Mapping[str, Any]) -> Measured:
    """Return the measure that `measured_content` wrote.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it did not write it.
    """
    score, ceiling = (np.array(content["draws"][key], float) for key in ("score", "ceiling"))  # null becomes NaN
    if not len(score) or score.shape != ceiling.shape:
        raise ValueError("a measure without draws, or with draws that are not paired")
    control = np.array(content["draws"]["control"], float) if "control" in content["draws"] else None
    return Measured(content["measure"], content["subject"], score, ceiling, content["better"] == "higher", control)


def number(value: float) -> float | None:
    """Return a number as JSON can hold it, with six decimals; None for NaN."""
    return round(value, 6) if np.isfinite(value) else None
