"""Gradients of one patient each: those of a batch of one, no longer than they may be, and nobody in another's."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hg3.diffusion.loss import Batch, Draw, denoising_loss
from hg3.training import per_patient
from hg3.training.per_patient import Gradients, clipped_sum, clipped_sum_over, gradients_of_each
from hg3.training.private import PrivateTrainer, independent_draw
from tests.training.cases import make_private_trainer

Patients = tuple[Tensor, ...]


@pytest.fixture(scope="module")
def trainer(one_thread: None) -> PrivateTrainer:
    """A private trainer on the tiny table, all weights off their zeros, so that each has a gradient."""
    made = make_private_trainer()
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in made.model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return made


@pytest.fixture(scope="module")
def patients(trainer: PrivateTrainer) -> Patients:
    """Seven patients with missing cells and short records, and their draws, with static columns given."""
    batch = trainer.train.select(torch.arange(7), torch.device("cpu"))
    assert not batch.observed_dynamic.all() and not batch.observed_static.all()
    noise, uniform = independent_draw(batch, trainer.schedule.T, 0.9)
    assert noise.given.any()
    return (*vars(batch).values(), *vars(noise).values(), *uniform)


def weights_of(trainer: PrivateTrainer) -> Gradients:
    return {name: weight.detach() for name, weight in trainer.model.named_parameters()}


def of_one(trainer: PrivateTrainer, patients: Patients, number: int) -> Gradients:
    """Return a patient's gradient the slow way: the usual loss of a batch of one, and backward."""
    one = tuple(part[number : number + 1] for part in patients)
    preset, layout = trainer.recipe.preset, trainer.recipe.encoder.layout
    trainer.model.zero_grad()
    batch, noise = Batch(*one[:4]), Draw(*one[4:8])
    cap = preset.loss.column_cap
    denoising_loss(
        trainer.model, batch, noise, (one[8], one[9]), trainer.schedule, layout, preset.heads, cap
    ).backward()
    return {name: weight.grad.clone() for name, weight in trainer.model.named_parameters() if weight.grad is not None}


def test_each_gradient_is_that_of_a_batch_of_one(trainer: PrivateTrainer, patients: Patients) -> None:
    found = gradients_of_each(trainer._loss_of_one, weights_of(trainer), patients)
    kinds = {type(module) for module in trainer.model.modules()}
    assert len(kinds) > 8  # convolutions up and down, attention, norms, embeddings: the whole network
    assert set(found) == {name for name, _ in trainer.model.named_parameters()}
    wanted = [of_one(trainer, patients, number) for number in range(len(patients[0]))]
    for name, each in found.items():
        assert any(bool(one[name].any()) for one in wanted), name  # some patients are given all that is static
        for number, one in enumerate(wanted):
            assert_near(each[number], one[name])


def assert_near(actual: Tensor, expected: Tensor) -> None:
    """Hold two gradients against each other that float32 came to in two orders of adding."""
    largest = float(expected.abs().max())
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6 + 1e-4 * largest)


def test_nobody_is_in_the_gradient_of_another(trainer: PrivateTrainer, patients: Patients) -> None:
    """Also where a loss of the whole batch would divide by its counts, or draw a missing code by its shares."""
    others = [torch.arange(7), torch.tensor([0]), torch.tensor([0, 5, 6])]
    found = [
        gradients_of_each(trainer._loss_of_one, weights_of(trainer), tuple(part[who] for part in patients))
        for who in others
    ]
    for name, each in found[0].items():
        for fewer in found[1:]:
            assert_near(fewer[name][0], each[0])


@pytest.mark.parametrize("clip", [1e-3, 0.5, 1e3])
def test_a_patient_moves_the_sum_by_no_more_than_the_clip(
    trainer: PrivateTrainer, patients: Patients, clip: float
) -> None:
    found = gradients_of_each(trainer._loss_of_one, weights_of(trainer), patients)
    norms = [norm_of({name: each[number] for name, each in found.items()}) for number in range(7)]
    for number in range(7):
        rest = [other for other in range(7) if other != number]
        total, without = clipped_sum(found, clip), clipped_sum({k: v[rest] for k, v in found.items()}, clip)
        moved = norm_of({name: total[name] - without[name] for name in total})
        assert moved == pytest.approx(min(norms[number], clip), rel=1e-2)
        assert moved <= clip * (1 + 1e-3)  # the difference of two sums in float32
        assert norm_of(clipped_sum({k: v[[number]] for k, v in found.items()}, clip)) <= clip


def norm_of(gradient: Gradients) -> float:
    return float(torch.cat([part.flatten() for part in gradient.values()]).double().norm())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_a_gradient_that_is_not_finite_counts_as_nobody(bad: float) -> None:
    gradients = {"a": torch.tensor([[3.0], [bad]]), "b": torch.tensor([[4.0, 0.0], [1.0, bad]])}
    total = clipped_sum(gradients, 1.0)
    assert total["a"].tolist() == pytest.approx([0.6])
    assert total["b"].tolist() == pytest.approx([0.8, 0.0])


def test_as_many_at_once_as_memory_has_room_for(
    trainer: PrivateTrainer, patients: Patients, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = clipped_sum_over(trainer._loss_of_one, weights_of(trainer), patients, 0.5)
    size = sum(weight.numel() * 4 for weight in weights_of(trainer).values())
    for room in (1, 3 * size):
        monkeypatch.setattr(per_patient, "GRADIENT_BYTES", room)
        for name, part in clipped_sum_over(trainer._loss_of_one, weights_of(trainer), patients, 0.5).items():
            assert_near(part, whole[name])


def test_nobody_sums_to_nothing(trainer: PrivateTrainer, patients: Patients) -> None:
    nobody = tuple(part[:0] for part in patients)
    assert norm_of(clipped_sum_over(trainer._loss_of_one, weights_of(trainer), nobody, 0.5)) == 0.0


def test_the_clipped_sum_is_that_of_opacus() -> None:
    """Its own optimiser, on layers that it knows itself."""
    opacus = pytest.importorskip("opacus")
    from opacus.optimizers import DPOptimizer

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.LayerNorm(5), nn.Linear(5, 2))
    x, y, clip = torch.randn(9, 3), torch.randn(9, 2), 0.4
    weights = {name: weight.detach().clone() for name, weight in network.named_parameters()}

    def loss(given: Gradients, x: Tensor, y: Tensor) -> Tensor:
        return ((torch.func.functional_call(network, given, (x,)) - y) ** 2).mean()

    ours = clipped_sum_over(loss, weights, (x, y), clip)
    hooked = opacus.GradSampleModule(network, loss_reduction="sum")
    optimizer = DPOptimizer(
        torch.optim.SGD(hooked.parameters(), lr=1.0), noise_multiplier=0.0, max_grad_norm=clip, expected_batch_size=9
    )
    ((hooked(x) - y) ** 2).mean(dim=1).sum().backward()
    optimizer.clip_and_accumulate()
    for name, weight in network.named_parameters():
        torch.testing.assert_close(ours[name], weight.summed_grad, rtol=1e-4, atol=1e-6)  # type: ignore[attr-defined]


def test_a_loss_over_the_batch_would_be_noticed() -> None:
    """What the tests above could not tell apart would prove nothing: here patients do share a divisor."""
    x = torch.tensor([[1.0], [2.0]])
    weights = {"w": torch.ones(1)}
    coupled: Callable[..., Tensor] = lambda given, x: (given["w"] * x).sum() / len(x)  # noqa: E731
    assert gradients_of_each(coupled, weights, (x,))["w"].tolist() == [[1.0], [2.0]]  # each is alone, so not halved
