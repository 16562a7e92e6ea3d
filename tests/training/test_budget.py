"""What a private training spends: as Opacus says, never more than asked for, and refused where it cannot be known."""

import json
import math
import sys
from typing import Any

import pytest

from hg3.config import Preset, load_preset
from hg3.errors import ConfigError, RunError
from hg3.training.accountant import epsilon_spent, noise_multiplier_for
from hg3.training.budget import Budget, planned_budget, privacy_statement, resumed_budget

pytest.importorskip("opacus")
N, UPDATES = 600, 200


def preset(**changes: str) -> Preset:
    given = {f"privacy.{key}": value for key, value in {"epsilon": "8", **changes}.items()}
    return load_preset("hg3", given)


def plan(updates: int = UPDATES, patients: int = N, **changes: str) -> Budget:
    made = planned_budget(preset(**changes), patients, updates)
    assert made is not None
    return made


def state_of(budget: Budget, update: int) -> dict[str, Any]:
    """Return a checkpoint's state as it comes back from the disk."""
    return dict(json.loads(json.dumps({"privacy": budget.statement(update)})))


@pytest.mark.parametrize("epsilon", ["0.1", "1", "8", "50"])
def test_what_is_planned_is_what_opacus_accounts(epsilon: str) -> None:
    from opacus.accountants import PRVAccountant, RDPAccountant

    budget = plan(epsilon=epsilon)
    assert (budget.sample_rate, budget.delta, budget.patients) == (64 / N, 0.1 / N, N)
    spent = budget.spent(UPDATES)
    assert 0.998 * float(epsilon) <= spent <= float(epsilon)
    usual, tighter = RDPAccountant(), PRVAccountant()
    usual.history = tighter.history = [(budget.noise_multiplier, budget.sample_rate, UPDATES)]
    assert spent == pytest.approx(usual.get_epsilon(budget.delta), rel=2e-2)  # over orders of its own
    if epsilon == "8":
        assert 0.7 * spent < tighter.get_epsilon(budget.delta) < spent  # another proof, and a closer one


def test_without_sampling_it_is_the_gaussian_mechanism() -> None:
    """One update of everybody: Mironov 2017, proposition 7, converted by the least of orders between 1 and 1,000."""
    sigma, delta = 2.0, 1e-5
    orders = [1 + step / 100 for step in range(1, 99_900)]
    exact = min(a / (2 * sigma**2) + math.log((a - 1) / a) - (math.log(delta) + math.log(a)) / (a - 1) for a in orders)
    assert exact <= epsilon_spent(sigma, 1.0, 1, delta) <= 1.01 * exact


def test_more_updates_more_sampling_and_less_noise_cost_more() -> None:
    base = epsilon_spent(1.0, 0.1, 100, 1e-4)
    assert epsilon_spent(1.0, 0.1, 101, 1e-4) > base
    assert epsilon_spent(1.0, 0.11, 100, 1e-4) > base
    assert epsilon_spent(0.9, 0.1, 100, 1e-4) > base
    assert epsilon_spent(1.0, 0.1, 100, 1e-5) > base
    assert epsilon_spent(1.0, 0.1, 0, 1e-4) == 0.0
    assert epsilon_spent(0.0, 0.1, 1, 1e-4) == math.inf


def test_a_statement_comes_back_as_its_plan_and_names_what_is_outside() -> None:
    budget = plan()
    said = state_of(budget, 150)["privacy"]
    assert Budget.from_statement(said) == budget
    assert said["made_updates"] == 150 and said["epsilon"] == budget.spent(150) < budget.spent(UPDATES)
    outside = " | ".join(said["outside"])
    for word in ("number of patients", "schema", "preset", "refused", "other runs", "evaluation", "floats"):
        assert word in outside
    assert "patient" in said["unit"] and "Renyi" in said["accountant"]


@pytest.mark.parametrize(
    ("changes", "updates", "sentence"),
    [
        ({}, None, "needs its length in updates beforehand"),
        ({"delta": "0.01"}, 10, r"privacy\.delta is 0\.01 and there are 600 training patients: with 1/600 or more"),
        (
            {"epsilon": "1e-9"},
            10,
            r"no noise makes 10 updates cost as little as privacy\.epsilon 1e-09 at delta 0\.000",
        ),
    ],
)
def test_a_plan_that_cannot_be_is_refused(changes: dict[str, str], updates: int | None, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        planned_budget(preset(**changes), N, updates)


def test_a_training_that_is_not_private_has_no_plan() -> None:
    usual = load_preset("hg3")
    assert planned_budget(usual, N, None) is None and resumed_budget(usual, N, None, {}) is None
    assert privacy_statement({}, usual) is None


def test_a_resumed_training_keeps_its_plan() -> None:
    budget = plan()
    state = state_of(budget, 10)
    state["privacy"]["noise_multiplier"] = 3.25  # as an Opacus of another version may have made it
    for updates in (None, UPDATES):
        kept = resumed_budget(preset(), N, updates, state)
        assert kept is not None and kept.noise_multiplier == 3.25 and kept.updates == UPDATES
    assert resumed_budget(preset(), N, UPDATES, None) == budget  # no checkpoint yet: nothing was spent
    with pytest.raises(ConfigError, match="needs its length in updates"):
        resumed_budget(preset(), N, None, None)


@pytest.mark.parametrize(
    ("batch", "patients", "updates", "error", "sentence"),
    [
        ("64", N, 300, ConfigError, "noise was made for 200 updates and 300 were asked for; resume without"),
        ("32", N, None, ConfigError, r"noise was made for training\.batch 64, not 32; resume without"),
        ("64", 599, None, RunError, "planned for 600 training patients and there are 599"),
    ],
)
def test_a_resume_cannot_change_the_plan(
    batch: str, patients: int, updates: int | None, error: type[Exception], sentence: str
) -> None:
    changed = load_preset("hg3", {"privacy.epsilon": "8", "training.batch": batch})
    with pytest.raises(error, match=sentence):
        resumed_budget(changed, patients, updates, state_of(plan(), 10))


@pytest.mark.parametrize("state", [{}, {"privacy": None}, {"privacy": {"delta": 1e-4}}])
def test_a_checkpoint_that_does_not_say_what_was_spent_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(RunError, match="does not say what was spent; restore it"):
        privacy_statement(state, preset())


def test_without_opacus_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "opacus"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(ConfigError, match=r"needs Opacus, which is not installed: pip install \"hg3\[private\]\", or"):
        noise_multiplier_for(2.5, 1e-4, 0.123, 7)
