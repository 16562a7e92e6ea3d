"""The training loss against loops over cells, and what it promises: every column has an equal say."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hg3.config import HeadsConfig
from hg3.diffusion.absent import fill_absent
from hg3.diffusion.loss import (
    Batch,
    CellLosses,
    Draw,
    cell_losses,
    column_losses,
    denoising_loss,
    draw,
    draw_at,
    draw_uniform,
    mean_of_patients,
)
from hg3.diffusion.process import coefficients
from hg3.diffusion.schedule import cosine_schedule
from hg3.layout import Block, Layout
from tests import oracle

CAP = 5.0
BLOCKS = (
    Block("a", "real", 0, 1),
    Block("three codes", "category", 1, 3),
    Block("b", "real", 4, 1),
    Block("two codes", "category", 5, 2),
    Block("three more", "category", 7, 3),
)
SCHEDULE = cosine_schedule(100)
Cells = tuple[Tensor, Tensor, Tensor, Tensor]


def random_cells(
    blocks: tuple[Block, ...], seed: int, n_patients: int = 6, length: int = 5, share: float = 0.6
) -> Cells:
    """Return raw, x_0, v (B, C, L) and observed (B, blocks, L); a cell without a value holds the fill."""
    generator = torch.Generator().manual_seed(seed)
    n_channels = sum(b.width for b in blocks)
    raw, x_0, v = torch.randn(3, n_patients, n_channels, length, generator=generator)
    observed = torch.rand(n_patients, len(blocks), length, generator=generator) < share
    for i, block in enumerate(blocks):
        if block.kind == "category":
            code = torch.randint(block.width, (n_patients, length), generator=generator)
            x_0[:, block.channels] = 2.0 * F.one_hot(code, block.width).permute(0, 2, 1) - 1.0
        x_0[:, block.channels] = torch.where(observed[:, i, None], x_0[:, block.channels], block.fill)
    return raw, x_0, v, observed


def losses_of(
    raw: Tensor, x_0: Tensor, v: Tensor, observed: Tensor, blocks: tuple[Block, ...], cap: float = CAP
) -> Tensor:
    cells = cell_losses(raw, {"x_0": x_0, "v": v}, blocks, HeadsConfig())
    return column_losses(cells, torch.ones_like(observed), observed, cap)


def column_losses_slowly(cells: Cells, blocks: tuple[Block, ...], cap: float = CAP) -> list[float]:
    raw, x_0, v, observed = (part.double().numpy() for part in cells)
    mean_count = observed.sum() / len(blocks)
    losses = []
    for i, block in enumerate(blocks):
        total = 0.0
        for b, time in np.ndindex(raw.shape[0], raw.shape[2]):
            channels = range(block.start, block.start + block.width)
            if block.kind == "real":
                loss = (raw[b, block.start, time] - v[b, block.start, time]) ** 2
            else:
                p = oracle.softmax([raw[b, c, time] for c in channels])
                wanted = [(x_0[b, c, time] + 1) / 2 for c in channels]
                loss = sum(w * (math.log(w) - math.log(q)) for w, q in zip(wanted, p, strict=True) if w > 0)
            total += loss
        count = observed[:, i].sum()
        heaviest_cell = cap / mean_count if mean_count else math.inf
        cell_weight = min(1 / max(count, 1), heaviest_cell)
        losses.append(total * cell_weight)
    return losses


@pytest.mark.parametrize("share", [0.0, 0.02, 0.6, 1.0])
@pytest.mark.parametrize("cap", [CAP, 1.0])
def test_column_losses_match_a_loop(share: float, cap: float) -> None:
    cells = random_cells(BLOCKS, seed=1, share=share)
    expected = column_losses_slowly(cells, BLOCKS, cap)
    # float32 sums of at most 30 cells of size up to about 20
    np.testing.assert_allclose(losses_of(*cells, BLOCKS, cap).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_columns_have_an_equal_say_however_rare() -> None:
    blocks = (Block("often", "real", 0, 1), Block("rare", "real", 1, 1))
    observed = torch.zeros(10, 2, 8, dtype=torch.bool)
    observed[:, 0] = True
    observed[:2, 1] = True  # 16 cells against 80, above a fifth of the mean count
    errors, nothing = observed.float(), torch.zeros(observed.shape)
    losses = losses_of(errors, nothing, nothing, observed, blocks)
    assert losses.tolist() == pytest.approx([1.0, 1.0])


def test_the_cells_of_a_very_rare_column_are_capped() -> None:
    """A cell without a value weighs what an observed one does, at most five times that of the mean column."""
    blocks = (Block("often", "real", 0, 1), Block("once", "real", 1, 1))
    observed = torch.zeros(10, 2, 8, dtype=torch.bool)
    observed[:, 0] = True
    observed[0, 1, 0] = True
    nothing = torch.zeros(observed.shape)
    mean_count = (80 + 1) / 2
    losses = losses_of(observed.float(), nothing, nothing, observed, blocks)
    assert losses.tolist() == pytest.approx([1.0, CAP / mean_count])
    losses = losses_of(torch.ones(observed.shape), nothing, nothing, observed, blocks)
    assert losses.tolist() == pytest.approx([1.0, 80 * CAP / mean_count])


def test_nothing_observed_at_all_is_finite() -> None:
    raw, x_0, v, observed = random_cells(BLOCKS, seed=3, share=0.0)
    assert torch.isfinite(losses_of(raw, x_0, v, observed, BLOCKS)).all()


def test_no_blocks_no_losses() -> None:
    nothing = torch.zeros(4, 0, 1)
    assert losses_of(nothing, nothing, nothing, nothing.bool(), ()).shape == (0,)


def make_batch(layout: Layout, seed: int, share: float = 0.6) -> Batch:
    _, x_static, _, observed_static = random_cells(layout.static, seed, length=1, share=share)
    _, x_dynamic, _, observed_dynamic = random_cells(layout.dynamic, seed, length=layout.length, share=share)
    return Batch(x_static[:, :, 0], x_dynamic, observed_static[:, :, 0], observed_dynamic)


def noised_slowly(x_0: Tensor, eps: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    x_t, v = torch.empty_like(x_0), torch.empty_like(x_0)
    for b, time in enumerate(t.tolist()):
        alpha_bar = float(SCHEDULE.alpha_bar[time])
        x_t[b] = torch.from_numpy(oracle.x_t(x_0[b].double().numpy(), eps[b].double().numpy(), alpha_bar))
        v[b] = alpha_bar**0.5 * eps[b] - (1 - alpha_bar) ** 0.5 * x_0[b]
    return x_t, v


@pytest.mark.parametrize("static", [BLOCKS[:2], ()], ids=["static", "no static"])
def test_the_whole_loss_is_the_mean_over_columns(static: tuple[Block, ...]) -> None:
    layout = Layout(static, BLOCKS, 5)
    batch = make_batch(layout, seed=4)
    generator = torch.Generator().manual_seed(5)
    noise, uniform = draw(batch, SCHEDULE.T, generator), draw_uniform(batch, generator)
    raw_static, raw_dynamic = torch.randn_like(batch.x_static), torch.randn_like(batch.x_dynamic)
    seen: list[Tensor] = []

    def model(x_static: Tensor, x_dynamic: Tensor, t: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        assert given.shape == (len(batch), len(static)) and not given.any()
        seen.extend([x_static, x_dynamic, t])
        return raw_static, raw_dynamic

    actual = denoising_loss(model, batch, noise, uniform, SCHEDULE, layout, HeadsConfig(), CAP)
    x_0, eps, there = batch.x_static[..., None], noise.eps_static[..., None], batch.observed_static[..., None]
    x_0, eps = fill_absent(x_0, eps, there, uniform[0][..., None], static, *coefficients(SCHEDULE, noise.t))
    x_t, v = noised_slowly(x_0, eps, noise.t)
    np.testing.assert_allclose(seen[0][..., None], x_t, rtol=1e-5, atol=1e-5)
    losses = column_losses_slowly((raw_static[..., None], x_0, v, there), static) if static else []
    x_0, eps, there = batch.x_dynamic, noise.eps_dynamic, batch.observed_dynamic
    there = there.any(dim=2, keepdim=True).expand_as(there)  # who has a value somewhere has something everywhere
    x_0, eps = fill_absent(x_0, eps, there, uniform[1], BLOCKS, *coefficients(SCHEDULE, noise.t))
    x_t, v = noised_slowly(x_0, eps, noise.t)
    np.testing.assert_allclose(seen[1], x_t, rtol=1e-5, atol=1e-5)
    losses += column_losses_slowly((raw_dynamic, x_0, v, there), BLOCKS)
    assert torch.equal(seen[2], noise.t)
    assert actual.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_a_patient_s_loss_is_the_mean_over_columns_of_observed_cells() -> None:
    layout = Layout(BLOCKS[:2], BLOCKS, 5)
    batch = make_batch(layout, seed=4)
    noise = draw_at(batch, 3, torch.Generator().manual_seed(5))
    assert (noise.t == 3).all() and not noise.given.any()
    assert abs(float(noise.eps_dynamic.std()) - 1.0) < 0.2
    generator = torch.Generator().manual_seed(6)
    cells = [
        torch.rand(len(batch), 2, 1, generator=generator),
        torch.rand(len(batch), len(BLOCKS), 5, generator=generator),
    ]
    asked = [torch.rand(part.shape, generator=generator) < 0.5 for part in cells]
    every = [torch.ones_like(wanted) for wanted in asked]
    parts = [CellLosses(part, all_of_it, seen) for part, all_of_it, seen in zip(cells, every, asked, strict=True)]
    for patient, actual in enumerate(mean_of_patients(parts)):
        columns = [
            sum(float(c) * bool(a) for c, a in zip(row, seen, strict=True)) / max(int(seen.sum()), 1)
            for part, which in zip(cells, asked, strict=True)
            for row, seen in zip(part[patient], which[patient], strict=True)
        ]
        assert actual.item() == pytest.approx(sum(columns) / len(columns), rel=1e-5)


def test_given_static_blocks_come_clean_and_are_not_asked_for() -> None:
    layout = Layout(BLOCKS[:2], BLOCKS, 5)
    batch = make_batch(layout, seed=4)
    generator = torch.Generator().manual_seed(5)
    noise, uniform = draw(batch, SCHEDULE.T, generator, condition=0.8), draw_uniform(batch, generator)
    assert noise.given.any() and not noise.given.all()
    raw = torch.randn_like(batch.x_static).requires_grad_()
    seen: list[Tensor] = []

    def model(x_static: Tensor, x_dynamic: Tensor, t: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        seen.extend([x_static, given])
        return raw, torch.zeros_like(x_dynamic)

    denoising_loss(model, batch, noise, uniform, SCHEDULE, layout, HeadsConfig(), CAP).backward()
    given = torch.stack([noise.given[:, 0], *[noise.given[:, 1]] * 3], dim=1)
    assert torch.equal(seen[0][given], batch.x_static[given])
    assert (seen[0][~given] != batch.x_static[~given]).all()
    assert torch.equal(seen[1], noise.given)
    assert raw.grad is not None and torch.equal(raw.grad != 0, ~given)


def test_a_static_block_without_a_value_is_never_given() -> None:
    batch = make_batch(Layout(BLOCKS[:2], BLOCKS, 5), seed=4, share=0.5)
    given = [draw(batch, 10, torch.Generator().manual_seed(s), condition=1.0).given for s in range(20)]
    assert torch.equal(torch.stack(given).any(dim=0), batch.observed_static)


def test_no_condition_gives_nothing() -> None:
    batch = make_batch(Layout(BLOCKS[:2], BLOCKS, 5), seed=4)
    assert not draw(batch, 10, torch.Generator().manual_seed(0)).given.any()
    everyone = draw(batch, 10, torch.Generator().manual_seed(0), condition=1.0).given
    assert 0 < everyone.float().mean() < 1  # half of the blocks, on average


@pytest.mark.parametrize("head", ["eps", "v", "x_0"])
def test_a_head_that_is_no_softmax_is_asked_for_its_target(head: str) -> None:
    raw, x_0, v, _ = random_cells(BLOCKS, seed=1)
    targets = {"eps": torch.randn_like(v), "v": v, "x_0": x_0}
    cells = cell_losses(raw, targets, BLOCKS, HeadsConfig.model_validate({"real": head, "category": head}))
    for i, block in enumerate(BLOCKS):
        expected = ((raw - targets[head])[:, block.channels] ** 2).mean(dim=1)
        torch.testing.assert_close(cells[:, i], expected)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_gradients_are_finite_where_logits_are_extreme(share: float) -> None:
    raw, x_0, v, observed = random_cells(BLOCKS, seed=6, share=share)
    raw = (1e4 * raw).requires_grad_()
    losses_of(raw, x_0, v, observed, BLOCKS).mean().backward()
    assert raw.grad is not None and torch.isfinite(raw.grad).all()
    assert raw.grad.abs().sum() > 0


def test_gradient_of_a_column_falls_on_its_own_channels_alone() -> None:
    raw, x_0, v, observed = random_cells(BLOCKS, seed=7)
    for i, block in enumerate(BLOCKS):
        leaf = raw.clone().requires_grad_()
        losses_of(leaf, x_0, v, observed, BLOCKS)[i].backward()
        assert leaf.grad is not None
        touched = leaf.grad.abs().sum(dim=(0, 2)) > 0
        assert [c for c in range(10) if touched[c]] == list(range(10))[block.channels]


@pytest.mark.parametrize("n_times", [2, 100, 2**20])
def test_draws_spread_over_all_times(n_times: int) -> None:
    batch = make_batch(Layout(BLOCKS[:2], BLOCKS, 5), seed=8)
    t = torch.cat([draw(batch, n_times, torch.Generator().manual_seed(s)).t for s in range(200)])
    assert t.dtype == torch.int64 and t.min() >= 0 and t.max() < n_times
    # 200 uniform offsets, six spread times each: the mean of 200 has standard error below T / sqrt(12 * 200)
    assert t.double().mean().item() == pytest.approx((n_times - 1) / 2, abs=5 * n_times / math.sqrt(2400))


def test_draws_are_those_of_their_generator() -> None:
    batch = make_batch(Layout(BLOCKS[:2], BLOCKS, 5), seed=9)

    def parts(seed: int) -> Draw:
        return draw(batch, 100, torch.Generator().manual_seed(seed))

    assert torch.equal(parts(1).eps_dynamic, parts(1).eps_dynamic) and torch.equal(parts(1).t, parts(1).t)
    assert not torch.equal(parts(1).eps_dynamic, parts(2).eps_dynamic)
    assert parts(1).eps_static.shape == batch.x_static.shape


def test_select_takes_patients_in_the_order_asked_for() -> None:
    batch = make_batch(Layout(BLOCKS[:2], BLOCKS, 5), seed=10)
    chosen = batch.select(torch.tensor([4, 0, 4]), torch.device("cpu"))
    assert len(chosen) == 3 and len(batch) == 6
    assert torch.equal(chosen.x_dynamic, batch.x_dynamic[[4, 0, 4]])
    assert torch.equal(chosen.observed_static, batch.observed_static[[4, 0, 4]])
