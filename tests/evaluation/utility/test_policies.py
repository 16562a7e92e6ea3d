"""Decisions as a release has them, and policies that find the treatment that was made the best."""

import random as python_random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hg3.evaluation.draws import Measured, Parts
from hg3.evaluation.panel import Panel, panel_of, some_patients
from hg3.evaluation.utility import learning, policies
from hg3.evaluation.utility.decisions import OTHER, Decisions, decisions
from hg3.evaluation.utility.policies import policy_measures
from hg3.release.load import load
from hg3.release.transitions import Transitions
from hg3.table.checks import checked_cohort
from tests.evaluation.utility.cases import made, needs, with_schema
from tests.release.test_load import ROWS, SCHEMA, make_release, table_of


def same(one: Panel) -> Parts[Panel]:
    return Parts(one, one, one)


def test_rewards_are_those_of_a_loaded_release(tmp_path: Path) -> None:
    table = table_of(ROWS, SCHEMA)
    loaded = load(make_release(tmp_path / "release", [table], SCHEMA), "transitions")
    assert isinstance(loaded, Transitions)
    cohort = checked_cohort(table.to_pandas(), SCHEMA, to_learn_from=False)[0]
    found = decisions(same(panel_of(cohort)))[0].made
    patient = np.searchsorted(cohort.patients, loaded.patient)
    time = loaded.time - SCHEMA.first_time
    np.testing.assert_array_equal(found.reward[patient, time], loaded.r)
    assert np.isfinite(loaded.r).any() and np.isnan(loaded.r).any()
    found.reward[patient, time] = np.nan
    assert np.isnan(found.reward).all()  # and there are no others


def test_a_state_holds_what_was_decided_before_and_nothing_that_is_decided_now() -> None:
    one = made(30, seed=0)
    drug = one.values["drug"].copy()
    drug[:, 5] = 1 - drug[:, 5]
    other = replace(one, values={**one.values, "drug": drug})
    before, after = (decisions(Parts(part, one, one))[0].made for part in (one, other))
    changed = (before.state != after.state).any(axis=2)
    np.testing.assert_array_equal(changed, np.broadcast_to(np.arange(12) == 6, changed.shape))
    assert (before.action != after.action).any(axis=0).nonzero()[0].tolist() == [5]


def test_a_joint_action_of_few_patients_is_the_other() -> None:
    one = made(60, seed=0)
    drug = np.zeros_like(one.values["drug"])
    drug[:9] = 1.0
    one = replace(one, values={**one.values, "drug": drug})
    found, names = decisions(same(one))
    assert names == ("a", OTHER)
    np.testing.assert_array_equal(found.made.action[:, 0], np.arange(60) < 9)
    drug[9, 3] = 1.0
    found, names = decisions(same(one))
    assert names == ("a", "b", OTHER)  # most rows first


def test_runs_are_cut_where_a_step_or_its_reward_is_not_known() -> None:
    reward = np.array([[1, 1, np.nan, 1, np.nan], [np.nan] * 5, [1, 1, 1, 1, np.nan]], float)
    found = Decisions(np.zeros((3, 5, 1)), np.zeros((3, 5), int), reward, np.ones((3, 5), bool))
    assert list(found.runs(np.arange(3))) == [(0, slice(0, 3)), (0, slice(3, 5)), (2, slice(0, 5))]


def by_name(panels: Parts[Panel], seed: int = 0) -> dict[str, Measured]:
    found, _, remarks = policy_measures(panels, seed)
    assert remarks == []
    return {m.name: m for m in found}


def _states() -> tuple[str, ...]:
    """Every stream of random numbers that belongs to somebody else."""
    return repr(python_random.getstate()), repr(np.random.get_state(legacy=False)), repr(torch.get_rng_state().tolist())


@needs("d3rlpy")
def test_learning_is_silent_leaves_nothing_and_repeats_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(learning, "STEPS", {"policy": 20, "value": 20})
    panels = Parts(made(40, seed=1), made(60, seed=2), made(40, seed=3))
    one = by_name(panels, 0)
    np.random.seed(9)  # of somebody else, which neither changes what is found nor is changed
    torch.manual_seed(9)
    states = _states()
    again, other = by_name(panels, 0), by_name(panels, 1)
    assert states == _states()
    assert capfd.readouterr() == ("", "") and list(tmp_path.iterdir()) == []
    for name in ("policy disagreement", "policy value"):
        assert one[name].score.shape == (50,) and np.isfinite(one[name].score).all()
        np.testing.assert_array_equal(one[name].score, again[name].score)
        assert (one[name].score != other[name].score).any()
    assert not one["policy disagreement"].higher_is_better and one["policy value"].higher_is_better


@needs("d3rlpy")
@pytest.mark.slow
def test_the_better_treatment_is_found_and_a_release_that_turns_it_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drug b lifts the marker, which is the reward, by 0.5, and drug a lowers it; a turned release has it reversed."""
    monkeypatch.setattr(learning, "STEPS", {"policy": 400, "value": 400})
    monkeypatch.setattr(policies, "N_FITS", 1)
    train, holdout = made(400, seed=2, lift=0.5), made(200, seed=3, lift=0.5)
    honest, turned = (Parts(made(200, seed=1, lift=lift), train, holdout) for lift in (0.5, -0.5))
    found, table, _ = policy_measures(honest)
    assert table is not None
    assert (table.loc[table["action"] == "b", ["real", "synthetic"]] > 0.85).all(axis=None)
    assert found[0].score.mean() < 0.15 and found[0].ceiling.mean() < 0.15
    caught = by_name(turned)
    assert caught["policy disagreement"].score.mean() > 0.7
    worse = caught["policy value"].difference()
    assert worse[2] < 0 and worse[0] < -1.0  # each step moves the marker by 0.5, and its reward by 1


@needs("d3rlpy")
@pytest.mark.slow
def test_the_order_of_patients_changes_chance_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "STEPS", {"policy": 400, "value": 400})
    monkeypatch.setattr(policies, "N_FITS", 1)
    release, train, holdout = (made(n, seed=seed, lift=0.5) for n, seed in ((400, 1), (400, 2), (200, 3)))
    order = np.random.default_rng(0).permutation(400)
    found, turned = (by_name(Parts(one, train, holdout)) for one in (release, some_patients(release, order)))
    recommended = "policy disagreement"
    assert turned[recommended].score.mean() == pytest.approx(found[recommended].score.mean(), abs=0.1)


@needs("d3rlpy")
@pytest.mark.slow
def test_a_value_is_a_mean_reward_in_its_own_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing moves a patient's marker, its value is its reward of every time: twice the marker."""
    monkeypatch.setattr(learning, "STEPS", {"policy": 300, "value": 1000})
    one = made(200, seed=1, lift=0.0)
    found = decisions(same(one))[0].made
    policy = policies._policy(found, np.arange(200), found, 3, (0.3, 1.7), seed=0, valued=True)
    slope, middle = np.polyfit(2 * one.values["marker"][:, 0], policy.value, 1)
    assert 0.8 < slope < 1.1 and abs(middle) < 0.2
    assert policy.recommended[:, 2].sum() == 0  # what nobody did


def test_recommendations_to_few_patients_are_not_shown() -> None:
    counts = np.zeros((30, 3))
    counts[:, 0] = 5.0
    counts[:9, 1] = 5.0
    counts[:10, 2] = 5.0
    policy = policies.Policy(counts, np.zeros(30))
    table = policies._table({"made": policy, "real": policy}, ("a", "b", "c")).set_index("action")
    assert table.loc["b"].isna().all() and (table.loc["c"] == 50 / 245).all()


def test_what_is_missing_for_policies_is_said() -> None:
    one = made(40, seed=1)
    assert policy_measures(same(with_schema(one, reward=[])))[2] == [
        "No policies are learned: the schema has no [[reward]]."
    ]
    columns = tuple(column.model_copy(update={"role": "state"}) for column in one.schema.columns)
    passive = replace(one, schema=one.schema.model_copy(update={"columns": columns}))
    assert policy_measures(same(passive))[2] == [
        'No policies are learned: no column of the schema has role = "action".'
    ]
    few = made(19, seed=1)
    assert policy_measures(Parts(few, one, one))[2] == [
        "No policies are learned: fewer than 20 patients of a part have rewards."
    ]
