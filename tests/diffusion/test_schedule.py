"""The noise schedule: the published formula, and the promise that it ends in pure noise."""

import math
import warnings

import numpy as np
import pytest

from hg3.config import ScheduleConfig, load_preset
from hg3.diffusion.schedule import (
    LARGEST_TERMINAL_ALPHA_BAR,
    Schedule,
    check_terminal_signal,
    cosine_schedule,
    linear_schedule,
    make_schedule,
    schedule_of,
    sigmoid_schedule,
)
from hg3.errors import ConfigError
from tests import oracle


@pytest.mark.parametrize("n_steps", [2, 3, 20, 100, 500, 1000])
def test_cosine_is_the_published_formula(n_steps: int) -> None:
    np.testing.assert_allclose(cosine_schedule(n_steps).alpha_bar, oracle.cosine_alpha_bar(n_steps), rtol=1e-12, atol=0)


@pytest.mark.parametrize("n_steps", [2, 20, 1000, 2**20])
def test_signal_falls_and_everything_is_finite(n_steps: int) -> None:
    schedule = cosine_schedule(n_steps)
    assert len(schedule.alpha_bar) == n_steps
    assert np.all(np.diff(schedule.alpha_bar) < 0)
    assert schedule.alpha_bar[-1] > 0 and schedule.alpha_bar[0] < 1
    assert np.isfinite(schedule.log_snr).all()
    assert np.all(schedule.signal.astype(np.float32) > 0)  # an eps head divides by it in float32
    assert np.all(schedule.noise.astype(np.float32) > 0)


def test_log_snr_and_squares_agree_with_alpha_bar() -> None:
    schedule = cosine_schedule(200)
    expected = [oracle.log_snr(alpha_bar) for alpha_bar in schedule.alpha_bar]
    np.testing.assert_allclose(schedule.log_snr, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(schedule.signal**2 + schedule.noise**2, 1.0, rtol=1e-15)


def test_every_usual_length_ends_in_pure_noise() -> None:
    left = [cosine_schedule(n).alpha_bar[-1] for n in range(20, 1001)]
    assert max(left) <= 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make_schedule(ScheduleConfig(steps=500)).T == 500


def test_a_schedule_that_leaves_signal_is_refused() -> None:
    assert cosine_schedule(4).alpha_bar[-1] > LARGEST_TERMINAL_ALPHA_BAR
    with pytest.raises(ConfigError, match=r"alpha_bar = 0\.00014.*biased.*schedule\.allow_terminal_signal"):
        make_schedule(ScheduleConfig(steps=4))
    with pytest.warns(UserWarning, match=r"alpha_bar = 0\.00014.*biased"):
        assert make_schedule(ScheduleConfig(steps=4, allow_terminal_signal=True)).T == 4


def test_a_schedule_that_leaves_signal_warns_of_the_consequence_when_it_is_wanted() -> None:
    linear = Schedule(np.cumprod(1 - np.linspace(1e-4, 0.01, 500)))
    assert linear.alpha_bar[-1] == pytest.approx(0.0794, abs=1e-4)
    with pytest.warns(UserWarning, match="alpha_bar = 0.079.*constant columns such as sex come out biased"):
        check_terminal_signal(linear, allowed=True)
    with pytest.raises(ConfigError, match="pure noise"):
        check_terminal_signal(linear, allowed=False)


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="a schedule of 1 steps was asked for; it needs at least 2"):
        cosine_schedule(1)


def test_linear_betas_are_linear() -> None:
    alpha_bar = linear_schedule(500, 1e-4, 0.01).alpha_bar
    product, expected = 1.0, []
    for i in range(500):
        product *= 1 - (1e-4 + (0.01 - 1e-4) * i / 499)
        expected.append(product)
    np.testing.assert_allclose(alpha_bar, expected, rtol=1e-12)
    assert alpha_bar[-1] == pytest.approx(0.0794, abs=5e-5)  # what Health Gym v3 ends with


def test_sigmoid_falls_like_a_sigmoid() -> None:
    """Jabri et al. 2022, appendix B, written out, with start -3, end 3 and temperature 1."""

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    alpha_bar = sigmoid_schedule(500).alpha_bar
    for i in (0, 100, 250, 498):
        u = (i + 1) / 500
        expected = (sigmoid(3) - sigmoid(6 * u - 3)) / (sigmoid(3) - sigmoid(-3))
        assert alpha_bar[i] == pytest.approx(expected, rel=1e-12)
    assert (np.diff(alpha_bar) < 0).all() and 0 < alpha_bar[-1] <= 1e-9


@pytest.mark.parametrize("kind", ["linear", "cosine", "sigmoid"])
def test_rescaled_schedules_end_without_signal_and_begin_as_before(kind: str) -> None:
    plain = make_schedule(ScheduleConfig.model_validate({"kind": kind, "beta_last": 0.04}))
    rescaled = make_schedule(
        ScheduleConfig.model_validate({"kind": kind, "beta_last": 0.04, "zero_terminal_snr": True})
    )
    assert rescaled.alpha_bar[-1] == 0 and rescaled.log_snr[-1] == -math.inf
    assert rescaled.alpha_bar[0] == pytest.approx(plain.alpha_bar[0], rel=1e-12)
    assert (np.diff(rescaled.alpha_bar) < 0).all()
    # Lin et al. 2024, algorithm 1: shift, then scale, in sqrt(alpha_bar)
    middle = (plain.signal[250] - plain.signal[-1]) * plain.signal[0] / (plain.signal[0] - plain.signal[-1])
    assert rescaled.signal[250] == pytest.approx(middle, rel=1e-12)


def test_the_published_schedule_can_be_rescaled_to_pure_noise() -> None:
    published = ScheduleConfig(kind="linear", beta_last=0.01)
    with pytest.raises(ConfigError, match=r"alpha_bar = 0\.079"):
        make_schedule(published)
    assert make_schedule(published.model_copy(update={"zero_terminal_snr": True})).alpha_bar[-1] == 0


HARDLY = {"schedule.kind": "linear", "schedule.beta_last": "0.9", "schedule.steps": "20"}


@pytest.mark.parametrize(
    "beta_first, variance", [("1e-300", "0"), ("1e-17", "0"), ("1e-15", r"1(\.1)?e-15"), ("9e-10", "9e-10")]
)
@pytest.mark.parametrize("rescaled", ["false", "true"])
def test_a_schedule_begins_with_noise_to_divide_by(beta_first: str, variance: str, rescaled: str) -> None:
    changes = {**HARDLY, "schedule.zero_terminal_snr": rescaled, "schedule.beta_first": beta_first}
    with pytest.raises(ConfigError, match=rf"begins with a noise variance of {variance}, .* needs at least 9\.3e-10; "):
        schedule_of(load_preset("hg3", changes))


@pytest.mark.parametrize("schedule", [{**HARDLY, "schedule.beta_first": "1e-9"}, {"schedule.steps": str(2**20)}])
@pytest.mark.parametrize("kind", [None, "sigmoid"])
def test_what_is_divided_by_the_least_noise_is_a_float32(schedule: dict[str, str], kind: str | None) -> None:
    made = schedule_of(load_preset("hg3", schedule | ({"schedule.kind": kind} if kind else {})))
    evidence = (2.0 * made.signal / made.noise**2).astype(np.float32)
    assert np.isfinite(np.float32(1e8) * evidence).all() and (made.noise.astype(np.float32) > 0).all()


STEEP = {"schedule.kind": "linear", "schedule.beta_first": "0.9", "schedule.beta_last": "0.999"}


@pytest.mark.parametrize("changes", [STEEP, {**STEEP, "schedule.beta_first": "0.5"}])
def test_a_signal_that_is_gone_before_the_end_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"alpha_bar is \S+ at time \d+ of 0 to 499 and falls no further; lower"):
        schedule_of(load_preset("hg3", changes))


@pytest.mark.parametrize("part", ["real", "category"])
@pytest.mark.parametrize(
    "changes, left",
    [({**STEEP, "schedule.steps": "50"}, r"\S+e-3\d"), ({"schedule.zero_terminal_snr": "true"}, "0")],
)
def test_an_eps_head_needs_a_signal_to_divide_by(changes: dict[str, str], left: str, part: str) -> None:
    assert schedule_of(load_preset("hg3", changes)).signal[-1] < 1e-30
    with pytest.raises(ConfigError, match=rf"{part}.* eps.* ends with a signal of {left}; .* at least 1e-30"):
        schedule_of(load_preset("hg3", {**changes, f"heads.{part}": "eps"}))


@pytest.mark.parametrize("changes", [{}, {"schedule.steps": "1000"}, {"schedule.kind": "sigmoid"}])
def test_an_eps_head_goes_with_the_usual_schedules(changes: dict[str, str]) -> None:
    preset = load_preset("hg3", {**changes, "heads.real": "eps", "heads.category": "eps"})
    signal = schedule_of(preset).signal[-1]
    assert np.isfinite(np.float32(1e8) / np.float32(signal))
