"""The forward process, and v, which together with x_t gives back both the patient and the noise."""

import numpy as np
import pytest
import torch

from hg3.diffusion.process import coefficients, q_sample, v_target
from hg3.diffusion.schedule import cosine_schedule
from tests import oracle

SCHEDULE = cosine_schedule(50)


@pytest.fixture
def x_0_and_eps() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 50, 3, 7, generator=generator, dtype=torch.float64)
    return x_0, eps


def test_q_sample_at_every_time(x_0_and_eps: tuple[torch.Tensor, torch.Tensor]) -> None:
    x_0, eps = x_0_and_eps
    signal = torch.from_numpy(SCHEDULE.signal)[:, None, None]
    noise = torch.from_numpy(SCHEDULE.noise)[:, None, None]
    x_t = q_sample(x_0, eps, signal, noise)
    for t in range(50):
        expected = oracle.x_t(x_0[t].numpy(), eps[t].numpy(), float(SCHEDULE.alpha_bar[t]))
        np.testing.assert_allclose(x_t[t].numpy(), expected, rtol=1e-13, atol=1e-14)


def test_v_and_x_t_are_a_rotation_of_eps_and_x_0(x_0_and_eps: tuple[torch.Tensor, torch.Tensor]) -> None:
    x_0, eps = x_0_and_eps
    for t in range(50):
        signal, noise = torch.tensor(SCHEDULE.signal[t]), torch.tensor(SCHEDULE.noise[t])
        x_t, v = q_sample(x_0[t], eps[t], signal, noise), v_target(x_0[t], eps[t], signal, noise)
        rotation = np.array([[signal, noise], [-noise, signal]])
        solved = np.linalg.solve(rotation, np.stack([x_t.flatten(), v.flatten()]))
        np.testing.assert_allclose(solved[0], x_0[t].flatten(), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(solved[1], eps[t].flatten(), rtol=1e-12, atol=1e-13)


def test_v_at_the_noisy_end_is_the_patient_and_at_the_clean_end_the_noise() -> None:
    x_0, eps = torch.tensor(0.5), torch.tensor(-2.0)
    zero, one = torch.tensor(0.0), torch.tensor(1.0)
    assert v_target(x_0, eps, zero, one) == -x_0
    assert v_target(x_0, eps, one, zero) == eps


def test_coefficients_are_those_of_each_patients_own_time() -> None:
    t = torch.tensor([49, 0, 7, 7])
    signal, noise = coefficients(SCHEDULE, t)
    assert signal.shape == noise.shape == (4, 1, 1)
    assert signal.dtype == noise.dtype == torch.float32
    for row, time in enumerate(t.tolist()):
        alpha_bar = float(SCHEDULE.alpha_bar[time])
        # one rounding to float32
        assert signal[row].item() == pytest.approx(alpha_bar**0.5, rel=2**-24)
        assert noise[row].item() == pytest.approx((1 - alpha_bar) ** 0.5, rel=2**-24)
