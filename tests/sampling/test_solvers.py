"""Sampler tables: which times a grid takes, and every row against the papers' formulas."""

import numpy as np
import pytest

from hg3.diffusion.schedule import Schedule, cosine_schedule, rescaled_to_zero
from hg3.errors import ConfigError
from hg3.sampling.solvers import (
    B0,
    B1,
    FIRST_LOG_SNR,
    HISTORY,
    NOISE,
    SIGNAL,
    SOLVERS,
    STEP_STD,
    A,
    sampler_table,
    time_grid,
)
from tests import oracle

SCHEDULES = {n: cosine_schedule(n) for n in (20, 60, 500, 1000)}
# of v3: linear, leaves 8% of the signal, and starts above lambda = -4
LINEAR = Schedule(np.cumprod(1 - np.linspace(1e-4, 0.01, 500)))
STEPS = [2, 3, 5, 20, 100, 500]


@pytest.mark.parametrize("n_times", [20, 60])
def test_a_grid_of_any_number_of_steps(n_times: int) -> None:
    for n_steps in range(2, n_times + 1):
        times = time_grid(SCHEDULES[n_times], n_steps)
        assert len(times) == n_steps
        assert times[0] == n_times - 1 and times[-1] == 0
        assert np.all(np.diff(times) < 0)


@pytest.mark.parametrize("schedule", [*SCHEDULES.values(), LINEAR], ids=["20", "60", "500", "1000", "linear"])
def test_all_steps_are_all_times(schedule: Schedule) -> None:
    assert time_grid(schedule, schedule.T).tolist() == list(range(schedule.T))[::-1]


@pytest.mark.parametrize("n_steps", [3, 5, 10, 20])
@pytest.mark.parametrize("n_times", [500, 1000])
def test_few_steps_are_uniform_in_lambda(n_times: int, n_steps: int) -> None:
    log_snr = np.array([oracle.log_snr(a) for a in SCHEDULES[n_times].alpha_bar])
    times = time_grid(SCHEDULES[n_times], n_steps)
    targets = np.linspace(FIRST_LOG_SNR, log_snr[0], n_steps - 1)
    for time, target in zip(times[1:], targets, strict=True):
        gap = log_snr[max(time - 1, 0)] - log_snr[time + 1]  # between the neighbours: twice the rounding of a time
        assert abs(log_snr[time] - target) <= gap / 2
    assert log_snr[times[1]] >= FIRST_LOG_SNR


@pytest.mark.parametrize("n_steps", [50, 200, 400])
def test_many_steps_stay_above_the_first_log_snr(n_steps: int) -> None:
    schedule = SCHEDULES[500]
    assert (schedule.log_snr[time_grid(schedule, n_steps)[1:]] >= FIRST_LOG_SNR).all()


@pytest.mark.parametrize("n_steps", [-1, 0, 1, 21])
def test_a_number_of_steps_that_cannot_be_is_refused(n_steps: int) -> None:
    with pytest.raises(ConfigError, match=f"{n_steps} steps were asked for; the schedule allows 2 to 20"):
        sampler_table("ancestral", SCHEDULES[20], n_steps)


def test_an_unknown_solver_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"solver 'euler' is unknown; choose one of ancestral, ancestral-beta, ddim, dpm\+\+, sde-dpm\+\+",
    ):
        sampler_table("euler", SCHEDULES[20], 10)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n_steps", STEPS)
@pytest.mark.parametrize("schedule", [SCHEDULES[500], LINEAR], ids=["cosine", "linear"])
def test_rows_match_the_oracle(solver: str, n_steps: int, schedule: Schedule) -> None:
    table = sampler_table(solver, schedule, n_steps)
    expected = [oracle.solver_row(solver, schedule.alpha_bar, table.times.tolist(), k) for k in range(n_steps)]
    np.testing.assert_allclose(table.rows[:, :HISTORY], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n_times", [20, 60])
def test_every_row_of_every_table_is_finite(solver: str, n_times: int) -> None:
    for n_steps in range(2, n_times + 1):
        rows = sampler_table(solver, SCHEDULES[n_times], n_steps).rows
        assert rows.shape == (n_steps, 7)
        assert np.isfinite(rows).all()
        assert np.isfinite(rows.astype(np.float32)).all()
        assert (rows[:, [SIGNAL, NOISE]].astype(np.float32) > 0).all()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n_steps", [2, 3, 4, 5, 20, 500])
def test_the_last_step_returns_the_patient(solver: str, n_steps: int) -> None:
    last = sampler_table(solver, SCHEDULES[500], n_steps).rows[-1].astype(np.float32)
    assert last[[A, B0, B1, STEP_STD]].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("n_steps", [2, 3, 4, 5, 20])
@pytest.mark.parametrize("solver", ["dpm++", "sde-dpm++"])
def test_dpm_is_first_order_where_it_must_be(solver: str, n_steps: int) -> None:
    rows = sampler_table(solver, SCHEDULES[500], n_steps).rows
    first_order = [k < 2 or k == n_steps - 1 for k in range(n_steps)]
    assert (rows[:, B1] == 0).tolist() == first_order
    assert (rows[:-1, STEP_STD] > 0).all() == (solver == "sde-dpm++")


@pytest.mark.parametrize("n_steps", [2, 20, 500])
def test_ddim_of_any_eta(n_steps: int) -> None:
    schedule = SCHEDULES[500]
    for eta in (0.0, 0.3, 1.0):
        table = sampler_table("ddim", schedule, n_steps, eta)
        times = table.times.tolist()
        expected = [oracle.solver_row(f"ddim:{eta}", schedule.alpha_bar, times, k) for k in range(n_steps)]
        np.testing.assert_allclose(table.rows[:, :HISTORY], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("solver, eta", [("ddim", -0.1), ("ddim", 1.5), ("dpm++", 0.0), ("ddim", float("nan"))])
def test_an_eta_that_cannot_be_is_refused(solver: str, eta: float) -> None:
    with pytest.raises(ConfigError, match="ddim takes an eta from 0 to 1, the others none"):
        sampler_table(solver, SCHEDULES[500], 10, eta)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n_steps", [2, 20, 500])
def test_a_schedule_that_ends_without_signal_has_finite_rows(solver: str, n_steps: int) -> None:
    rows = sampler_table(solver, rescaled_to_zero(SCHEDULES[500]), n_steps).rows
    assert np.isfinite(rows).all() and rows[0, SIGNAL] == 0 and rows[0, NOISE] == 1


def test_the_published_update_is_a_row() -> None:
    """x = (x - (1 - alpha) / sqrt(1 - alpha_bar) eps) / sqrt(alpha) + sqrt(beta) z for t = 499..0, without z at 0."""
    beta = np.linspace(1e-4, 0.01, 500)
    alpha_bar = np.cumprod(1 - beta)
    table = sampler_table("ancestral-beta", LINEAR, 500)
    random = np.random.default_rng(0)
    for t, (signal, noise, a, b0, b1, step_std, _) in zip(table.times, table.rows, strict=True):
        x, eps = random.standard_normal(2)
        published = (x - (1 - (1 - beta[t])) / np.sqrt(1 - alpha_bar[t]) * eps) / np.sqrt(1 - beta[t])
        assert a * x + b0 * (x - noise * eps) / signal + b1 == pytest.approx(published, rel=1e-11, abs=1e-12)
        assert step_std == pytest.approx(np.sqrt(beta[t]) if t else 0.0, rel=1e-11)


@pytest.mark.parametrize("solver", SOLVERS)
def test_history_is_kept_from_the_step_before_it_is_read(solver: str) -> None:
    rows = sampler_table(solver, SCHEDULES[500], 20).rows
    reads = rows[:, B1] != 0
    assert rows[reads, HISTORY].all()
    assert rows[np.append(reads[1:], False), HISTORY].all()
    assert rows[-1, HISTORY] == 0
    assert solver.endswith("dpm++") or not rows[:, HISTORY].any()


@pytest.mark.parametrize("solver", sorted(SOLVERS.keys() - {"ancestral-beta"}))  # whose variance is too wide
@pytest.mark.parametrize("n_steps", [2, 20, 500])
def test_a_right_x_0_stays_right(solver: str, n_steps: int) -> None:
    """Where x_0_hat and its history are x_0, x_s has the signal and the variance of its own time."""
    rows = sampler_table(solver, SCHEDULES[500], n_steps).rows
    signal_s, noise_s = np.append(rows[1:, SIGNAL], 1), np.append(rows[1:, NOISE], 0)
    mean = rows[:, A] * rows[:, SIGNAL] + rows[:, B0] + rows[:, B1]
    variance = (rows[:, A] * rows[:, NOISE]) ** 2 + rows[:, STEP_STD] ** 2
    np.testing.assert_allclose(mean, signal_s, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(variance, noise_s**2, rtol=1e-10, atol=1e-14)
