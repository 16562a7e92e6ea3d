"""Policies and their values by offline reinforcement learning (d3rlpy): silent, on one seed, without a file left."""

import io
import random as python_random
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np

from hg3.evaluation.learners import library
from hg3.evaluation.utility.decisions import Decisions

GAMMA = 0.9  # a horizon of ten times
STEPS = {
    "policy": 1500,
    "value": 1000,
}  # of 256 transitions each
INTERVAL = 25  # steps between targets: 40 of them bring a value to within GAMMA ** 40 = 1.5% of where it goes
SETTINGS = {"batch_size": 256, "learning_rate": 1e-3, "gamma": GAMMA, "target_update_interval": INTERVAL}
# Of squared logits in imitating what was done, as in the authors' program; d3rlpy's 0.5 keeps the imitation so even
# that the policy recommends what nobody does, of which nothing is known.
BETA = 0.01
HIDDEN = [64, 64]  # units of the networks' layers


@contextmanager
def quiet(seed: int) -> Iterator[Any]:
    """Give d3rlpy, seeded; print nothing of what it and its libraries say, and leave all other random numbers alone."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), catch_warnings():
        simplefilter("ignore")
        states = python_random.getstate(), np.random.get_state()  # which its import uses already
        torch, d3rlpy = library("torch"), library("d3rlpy")
        with torch.random.fork_rng(devices=[]):
            d3rlpy.seed(seed)
            yield d3rlpy
        python_random.setstate(states[0])
        np.random.set_state(states[1])


def buffer(d3rlpy: Any, found: Decisions, patients: np.ndarray, n_actions: int, scale: tuple[float, float]) -> Any:
    """Return the transitions of some patients; no step ends in a state that ends all: records stop, patients do not.

    Parameters
    ----------
    scale : middle and deviation of rewards, which become (reward - middle) / deviation.
    """
    episodes = []
    for patient, times in found.runs(patients):
        reward = (np.nan_to_num(found.reward[patient, times]) - scale[0]) / scale[1]
        reward[-1] = 0.0  # no step begins at the last time, and this number is not read
        columns = (found.action[patient, times, None], reward[:, None].astype(np.float32))
        episodes.append(d3rlpy.dataset.Episode(found.state[patient, times], *columns, terminated=False))
    return d3rlpy.dataset.ReplayBuffer(
        d3rlpy.dataset.InfiniteBuffer(),
        episodes=episodes,
        action_space=d3rlpy.ActionSpace.DISCRETE,
        action_size=n_actions,
    )


def learn_policy(d3rlpy: Any, transitions: Any) -> Any:
    """Return a policy by discrete batch-constrained Q-learning (Fujimoto et al. 2019)."""
    config = d3rlpy.algos.DiscreteBCQConfig(**SETTINGS, beta=BETA, encoder_factory=_encoder(d3rlpy))
    return _fitted(d3rlpy, config.create(device="cpu:0"), transitions, STEPS["policy"])


def learn_value(d3rlpy: Any, policy: Any, transitions: Any) -> Any:
    """Return the value of a policy by fitted Q evaluation (Le et al. 2019)."""
    config = d3rlpy.ope.FQEConfig(**SETTINGS, encoder_factory=_encoder(d3rlpy))
    value = d3rlpy.ope.DiscreteFQE(algo=policy, config=config, device="cpu:0")
    return _fitted(d3rlpy, value, transitions, STEPS["value"])


def _encoder(d3rlpy: Any) -> Any:
    return d3rlpy.models.VectorEncoderFactory(hidden_units=HIDDEN)


def _fitted(d3rlpy: Any, learner: Any, transitions: Any, n_steps: int) -> Any:
    nothing = d3rlpy.logging.NoopAdapterFactory()
    learner.fit(transitions, n_steps, n_steps_per_epoch=n_steps, logger_adapter=nothing, show_progress=False)
    return learner
