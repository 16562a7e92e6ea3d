"""What a private training may spend, what it has spent, and what of it all is outside the guarantee."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from hg3.config import Preset
from hg3.errors import ConfigError, RunError
from hg3.training.accountant import NAME, epsilon_spent, noise_multiplier_for

DELTA_SHARE = 0.1  # delta times the number of training patients, where the preset gives no delta
UNIT = "one training patient's whole record, there or not"
OUTSIDE = (
    "the number of patients, their ids, and which of them are training patients",
    "the schema: its bounds, decimals, codes and length, which must come from elsewhere than this table",
    "the preset, chosen without a look at this table, at another run on it or at an evaluation",
    "that the table was not refused, and how long the training took",
    "other runs on the same patients: what each of them spends adds up",
    "evaluation reports and certificates, which are measured on real patients, and a choice between releases by them",
    "the arithmetic of floats, which is not that of the proof",
)


@dataclass(frozen=True)
class Budget:
    """The plan of a private training, fixed before its first update.

    Parameters
    ----------
    asked, delta : at most so much may be spent over all `updates`.
    clip : the longest that a patient's gradient may be; the noise has `noise_multiplier` times that as its deviation.
    sample_rate : the probability of a patient to be in an update, `batch` / `patients`.
    patients : how many training patients there are, which is taken for known.
    """

    asked: float
    delta: float
    clip: float
    noise_multiplier: float
    sample_rate: float
    batch: int
    updates: int
    patients: int

    def spent(self, update: int) -> float:
        """Return the epsilon of the first `update` updates."""
        return epsilon_spent(self.noise_multiplier, self.sample_rate, update, self.delta)

    def statement(self, update: int) -> dict[str, Any]:
        """Return what a checkpoint and a release of it say: the plan, what is spent, and what is outside."""
        said = {"epsilon": self.spent(update), "made_updates": update, "accountant": NAME, "unit": UNIT}
        return {**said, **asdict(self), "outside": list(OUTSIDE)}

    @classmethod
    def from_statement(cls, statement: dict[str, Any]) -> "Budget":
        return cls(**{field.name: statement[field.name] for field in fields(cls)})


def planned_budget(preset: Preset, patients: int, updates: int | None) -> Budget | None:
    """Return the plan of a training that begins, None where it is not private.

    Raises
    ------
    ConfigError
        If the number of updates is not given, delta is 1/patients or more, nothing costs so little, or Opacus is not
        installed.
    """
    private = preset.privacy
    if private is None:
        return None
    if updates is None:
        raise ConfigError("a private training needs its length in updates beforehand, for its noise is made for it")
    delta = DELTA_SHARE / patients if private.delta is None else private.delta
    if delta * patients >= 1:
        raise ConfigError(
            f"privacy.delta is {delta:g} and there are {patients} training patients: with 1/{patients} or more, a "
            "training may give one of them away whole; ask for less, or leave it out"
        )
    rate = preset.training.batch / patients
    noise_multiplier = noise_multiplier_for(private.epsilon, delta, rate, updates)
    return Budget(
        *(private.epsilon, delta, private.clip, noise_multiplier, rate, preset.training.batch), updates, patients
    )


def privacy_statement(state: dict[str, Any], preset: Preset) -> dict[str, Any] | None:
    """Return what the `state` of a checkpoint says of its privacy, None where its preset is not private.

    Raises
    ------
    RunError
        If it says nothing although the preset is private.
    """
    if preset.privacy is None:
        return None
    statement = state.get("privacy")
    if not isinstance(statement, dict) or not {field.name for field in fields(Budget)} <= statement.keys():
        raise RunError("the run is private and its checkpoint does not say what was spent; restore it")
    return statement


def resumed_budget(preset: Preset, patients: int, updates: int | None, state: dict[str, Any] | None) -> Budget | None:
    """Return the plan that a checkpoint's `state` holds, or that of a training that begins, if there is none yet.

    Raises
    ------
    ConfigError
        If other updates or another batch are asked for than the plan has.
    RunError
        If the checkpoint holds no plan, or that of other patients.
    """
    if preset.privacy is None or state is None:
        return planned_budget(preset, patients, updates)
    budget = Budget.from_statement(privacy_statement(state, preset) or {})
    if updates not in (None, budget.updates):
        raise ConfigError(
            f"the run's noise was made for {budget.updates} updates and {updates} were asked for; resume without"
        )
    if preset.training.batch != budget.batch:
        raise ConfigError(
            f"the run's noise was made for training.batch {budget.batch}, not {preset.training.batch}; resume without"
        )
    if patients != budget.patients:
        raise RunError(f"the run was planned for {budget.patients} training patients and there are {patients}")
    return budget
