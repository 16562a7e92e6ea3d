"""Gates: what a release must reach, in TOML, and whether it does.

A gate takes all subjects of one measure together, draw by draw: their mean, or the worst of them. What it asks is met
if the better end of the 95% interval over the draws reaches it, and shown only if the worse end does too. Of fewer than
10 draws the lowest and the highest take the interval's place.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hg3.errors import ConfigError
from hg3.evaluation.draws import Measured, interval
from hg3.evaluation.names import unknown_names

State = Literal["shown", "met", "missed", "not estimable"]


class Gate(BaseModel):
    """One thing that a release must reach.

    Parameters
    ----------
    measures : names of measures, as metrics.json has them; a release without any of them is not judged by this gate.
    subjects : of these measures those of some subjects alone, as "VL, CD4"; of all if absent.
    over : the mean of all subjects, or the worst of them, in each draw.
    margin : the most that the score may be worse than the ceiling.
    limit : what the score itself must reach, at most or, where higher is better, at least.
    by : whether the interval is looked at, or the estimate alone, which few patients cannot hide behind.
    optional : whether a release passes where the measure cannot be estimated, as there are too few patients.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    question: Literal["fidelity", "time", "utility", "privacy"]
    measures: tuple[str, ...] = Field(min_length=1)
    subjects: tuple[str, ...] | None = Field(default=None, min_length=1)
    over: Literal["mean", "worst"] = "mean"
    margin: float | None = Field(default=None, allow_inf_nan=False)
    limit: float | None = Field(default=None, allow_inf_nan=False)
    by: Literal["interval", "estimate"] = "interval"
    optional: bool = False

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.margin is None) == (self.limit is None):
            raise ValueError("takes one of `margin` and `limit`")
        return self

    def takes(self, measured: Measured) -> bool:
        """Return whether the gate looks at a measure."""
        return measured.name in self.measures and (self.subjects is None or measured.subject in self.subjects)


class Gates(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    gates: tuple[Gate, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Verdict:
    """What came of a gate: the score and the ceiling, and what of them the gate looks at, with its interval.

    Parameters
    ----------
    score, ceiling, value : means over the draws of the mean, or of the worst, of all subjects.
    worst : the subject, or the measure, that is furthest from what is wanted; empty where there is only one.
    n_draws : how many draws the interval is of.
    left_out : the subjects that could not be estimated, or of which the measure has no power to tell.
    """

    gate: Gate
    score: float
    ceiling: float
    value: float
    interval: tuple[float, float]
    state: State
    worst: str
    higher_is_better: bool = False
    left_out: tuple[str, ...] = ()
    n_draws: int = 0

    @property
    def passed(self) -> bool:
        return self.state in ("shown", "met") or (self.state == "not estimable" and self.gate.optional)

    def content(self) -> dict[str, Any]:
        """Return the verdict as JSON holds it."""
        numbers = {"score": self.score, "ceiling": self.ceiling, "value": self.value}
        known = {key: None if np.isnan(value) else round(value, 6) for key, value in numbers.items()}
        ends = [None if np.isnan(end) else round(end, 6) for end in self.interval]
        gate = self.gate.model_dump(exclude_none=True)
        told = {"interval": ends, "n_draws": self.n_draws, "better": "higher" if self.higher_is_better else "lower"}
        return {**gate, **known, **told, "state": self.state, "worst": self.worst} | (
            {"left_out": list(self.left_out)} if self.left_out else {}
        )


def load_gates(path: Path | None = None) -> Gates:
    """Return the gates in a TOML file, by default those that come with hg3.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no list of gates, or names a measure that no table has.
    """
    try:
        place = files("hg3.evaluation") / "gates.toml" if path is None else path
        gates = Gates.model_validate(tomllib.loads(place.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        if isinstance(error, ValidationError):
            fault = error.errors()[0]
            reason = f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}"
        raise ConfigError(
            f"{path} cannot be read as gates ({reason}); write TOML with [[gates]], each with name, question, "
            "measures, and margin or limit"
        ) from None
    wrong = unknown_names([name for gate in gates.gates for name in gate.measures])
    if wrong:
        raise ConfigError(f"{path} has gates on measures that are not known: {wrong}")
    return gates


def judge(gates: Gates, measures: Iterable[Measured]) -> list[Verdict]:
    """Return what came of each gate that has a measure to look at.

    Raises
    ------
    ConfigError
        If a gate mixes measures of which higher is better with others.
    """
    found = list(measures)
    chosen = ((gate, [m for m in found if gate.takes(m)]) for gate in gates.gates)
    return [_verdict(gate, of_gate) for gate, of_gate in chosen if of_gate]


def _verdict(gate: Gate, measures: list[Measured]) -> Verdict:
    if len({m.higher_is_better for m in measures}) > 1:
        raise ConfigError(
            f"gate {gate.name!r} names measures of which higher is better and others; make two gates of it"
        )
    sign = -1.0 if measures[0].higher_is_better else 1.0  # from here on lower is better
    known = [m for m in measures if m.is_known and m.has_power]
    left_out = tuple(m.subject or m.name for m in measures if not (m.is_known and m.has_power))
    if not known:
        return Verdict(gate, np.nan, np.nan, np.nan, (np.nan, np.nan), "not estimable", "", sign < 0, left_out)
    n_draws = min(len(m.score) for m in known)
    scores = np.stack([m.score[:n_draws] for m in known])
    ceilings = np.stack([m.ceiling[:n_draws] for m in known])
    looked_at = sign * (scores - ceilings if gate.margin is not None else scores)
    bound = gate.margin if gate.margin is not None else sign * (gate.limit or 0.0)
    over = np.mean if gate.over == "mean" else np.max
    values = over(looked_at, axis=0)
    low, high = interval(values)
    if gate.by == "estimate":
        low = high = float(values.mean())
    state: State = "shown" if high <= bound else "met" if low <= bound else "missed"
    score, ceiling, value = (
        sign * float(over(sign * part, axis=0).mean()) for part in (scores, ceilings, sign * looked_at)
    )
    ends = (low, high) if sign > 0 else (-high, -low)
    furthest = known[int(np.argmax(looked_at.mean(axis=1)))]
    worst = (furthest.subject or furthest.name) if len(known) > 1 else ""
    return Verdict(gate, score, ceiling, value, ends, state, worst, sign < 0, left_out, n_draws)
