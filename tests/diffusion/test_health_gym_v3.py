"""Health Gym v3 to the letter: the numbers that its code and its logs fix."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from hg3.config import load_preset
from hg3.diffusion.health_gym_v3 import PublishedUNet, published_draw, published_losses
from hg3.diffusion.loss import Batch
from hg3.diffusion.schedule import Schedule, make_schedule
from hg3.errors import ConfigError
from hg3.layout import Block, Layout, chained

PRESET = load_preset("health-gym-v3")
WIDTHS = (1, 1, 2, 4, 6, 6, 2)  # VL, CD4, sex, ethnicity, base combination, extra PI, extra enhancer
LAYOUT = Layout((), chained(Block(str(i), "real" if w == 1 else "category", 0, w) for i, w in enumerate(WIDTHS)), 60)

pytestmark = pytest.mark.filterwarnings("ignore:the schedule ends at alpha_bar")


def schedule() -> Schedule:
    return make_schedule(PRESET.schedule)


def network(**changes: object) -> PublishedUNet:
    torch.manual_seed(0)
    return PublishedUNet(LAYOUT, schedule(), PRESET.network.model_copy(update=changes)).eval()


def patients(n: int, seed: int = 0) -> Batch:
    """Return encoded patients: reals in [-1, 1], one-hot blocks, the pad at 0."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(n, 22, 100)
    x[:, :2, :60] = 2 * torch.rand(n, 2, 60, generator=generator) - 1
    for block in LAYOUT.dynamic[2:]:
        code = torch.randint(block.width, (n, 60), generator=generator)
        x[:, block.channels, :60] = 2.0 * torch.nn.functional.one_hot(code, block.width).permute(0, 2, 1) - 1
    return Batch(torch.zeros(n, 0), x, torch.zeros(n, 0, dtype=torch.bool), torch.ones(n, 7, 60, dtype=torch.bool))


def test_what_the_published_code_sets() -> None:
    training, sampling = PRESET.training, PRESET.sampling
    assert (training.batch, training.learning_rate, training.clip, training.ema) == (128, 1e-3, 1.0, 0.0)
    assert (training.warmup, training.decay, training.weight_decay, training.keep) == (0, "none", 0.0, "last")
    assert (sampling.solver, sampling.steps, sampling.clamp, sampling.range_filter) == (
        *("ancestral-beta", 500),
        *(False, True),
    )
    assert (PRESET.heads.real, PRESET.heads.category, PRESET.encoding.scaling) == ("eps", "eps", "range")
    assert (LAYOUT.n_dynamic, PRESET.network.pad_to, PRESET.network.width, PRESET.network.levels) == (22, 100, 256, 3)


def test_the_schedule_leaves_eight_hundredths() -> None:
    assert schedule().T == 500
    assert schedule().alpha_bar[-1] == pytest.approx(0.0794, abs=5e-5)
    assert schedule().alpha_bar[[0, 99, 299]] == pytest.approx([0.9999, 0.8974, 0.3979], abs=5e-5)


@pytest.mark.parametrize("width, parameters", [(256, 7_373_334), (128, 1_966_358), (64, 553_110)])
def test_parameters(width: int, parameters: int) -> None:
    assert sum(p.numel() for p in network(width=width).parameters() if p.requires_grad) == parameters


def test_lengths_through_the_network() -> None:
    lengths: list[int] = []
    made = network(width=64)
    for module in (*made.down_blocks, *made.middle, *made.up_blocks):
        module.register_forward_hook(lambda _module, _given, out: lengths.append(out.shape[2]))
    raw_static, eps = made(torch.zeros(2, 0), torch.zeros(2, 22, 100), torch.tensor([0, 499]), torch.zeros(2, 0))
    assert lengths == [100, 50, 25, 12, 12, 25, 50, 100]
    assert raw_static.shape == (2, 0) and eps.shape == (2, 22, 100)


@torch.no_grad()
def test_an_untrained_network_starts_at_the_printed_losses() -> None:
    """A network that answers 0 has noise loss 1 and reconstruction loss 20/3 mean((1 - ab) / ab) = 14.75."""

    def silent(x_static: Tensor, x_dynamic: Tensor, t: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        return x_static, torch.zeros_like(x_dynamic)

    odds = (1 - schedule().alpha_bar) / schedule().alpha_bar
    assert 20 / 3 * odds.mean() == pytest.approx(14.75, abs=0.005)
    batch, generator = patients(500), torch.Generator().manual_seed(0)
    noise = replace(published_draw(batch, 500, generator), t=torch.arange(500))  # each time once: no chance in the mean
    blend = torch.rand(batch.x_dynamic.shape, generator=generator)
    for model, tolerance in ((silent, 0.003), (network(), 0.1)):
        difference, reconstruction = published_losses(model, batch, noise, blend, schedule(), 60)
        assert float(difference) == pytest.approx(1.0, rel=tolerance)
        assert float(reconstruction) == pytest.approx(14.75, rel=tolerance)


@torch.no_grad()
def test_losses_are_the_published_formula_on_the_sixty_months() -> None:
    made, batch, generator = network(width=64), patients(3), torch.Generator().manual_seed(1)
    noise = published_draw(batch, 500, generator)
    blend = torch.rand(batch.x_dynamic.shape, generator=generator)
    actual = published_losses(made, batch, noise, blend, schedule(), 60)
    total = np.zeros(2)
    for i, t in enumerate(noise.t.tolist()):
        ab = float(schedule().alpha_bar[t])
        x_0, eps = batch.x_dynamic[i].double(), noise.eps_dynamic[i].double()
        x_t = ab**0.5 * x_0 + (1 - ab) ** 0.5 * eps
        _, answer = made(torch.zeros(1, 0), x_t[None].float(), noise.t[i : i + 1], torch.zeros(1, 0))
        eps_hat, r = answer[0].double(), blend[i].double()
        x_0_hat = (x_t - (1 - ab) ** 0.5 * (r * eps + (1 - r) * eps_hat)) / (ab**0.5 + 1e-8)
        for part, square in enumerate(((eps_hat - eps) ** 2, 20 * (x_0_hat - x_0) ** 2)):
            total[part] += float(square[:, :60].sum())
    np.testing.assert_allclose([float(part) for part in actual], total / (3 * 22 * 60), rtol=1e-4)


@torch.no_grad()
def test_the_pad_is_not_hidden_which_is_one_of_its_faults() -> None:
    x, t = torch.randn(1, 22, 100), torch.tensor([250])
    made, other = network(width=64), x.clone()
    other[:, :, 99] += 5.0
    one, two = (made(torch.zeros(1, 0), v, t, torch.zeros(1, 0))[1] for v in (x, other))
    assert (one - two)[:, :, 0].abs().max() > 1e-6


def test_times_are_drawn_one_by_one() -> None:
    batch = patients(400)
    t = published_draw(batch, 500, torch.Generator().manual_seed(0)).t
    assert t.min() >= 0 and t.max() < 500
    assert len(t.unique()) < 330  # drawn evenly, 400 would all differ


def test_static_columns_and_long_records_are_refused() -> None:
    static = Layout((Block("sex", "category", 0, 2),), LAYOUT.dynamic, 60)
    with pytest.raises(ConfigError, match="knows no static columns and the schema has sex; say static = false"):
        PublishedUNet(static, schedule(), PRESET.network)
    with pytest.raises(ConfigError, match=r"the schema has 101 times and network\.pad_to is 100"):
        PublishedUNet(Layout((), LAYOUT.dynamic, 101), schedule(), PRESET.network)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"heads.real": "v"}, r"loss\.kind health-gym-v3 is of the noise, so both heads must be eps"),
        ({"training.condition": "0.2"}, "has no static columns to give"),
        ({"network.width": "60"}, "width 60 is not a multiple of its normalisation groups, 8"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_preset("health-gym-v3", changes)
