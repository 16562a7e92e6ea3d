"""The network: shapes, levels without a pad, patients that do not see each other, gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hg3.config import NetworkConfig
from hg3.diffusion.schedule import cosine_schedule
from hg3.diffusion.unet import Attention, ResidualBlock, TimeConv, UNet, evidence, time_features
from hg3.layout import Block, Chain, Layout

CONFIG = NetworkConfig(width=16, levels=3, heads=2)
LENGTHS = [1, 5, 8, 60, 61, 230]
T = 100
SCHEDULE = cosine_schedule(T)
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def fresh(length: int, n_static: int = 3, n_dynamic: int = 4, config: NetworkConfig = CONFIG) -> UNet:
    torch.manual_seed(0)
    static = (Block("sex", "category", 0, n_static),) if n_static else ()
    dynamic = (Block("VL", "real", 0, 1), Block("drug", "category", 1, n_dynamic - 1))
    return UNet(Layout(static, dynamic, length), SCHEDULE, config).eval()


def lively(length: int, n_static: int = 3, n_dynamic: int = 4, config: NetworkConfig = CONFIG) -> UNet:
    """Return a network in which no layer is still zero, so that whatever can leak does."""
    network = fresh(length, n_static, n_dynamic, config)
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        fan_in = math.prod(parameter.shape[1:]) if parameter.dim() > 1 else 4
        parameter.data = torch.randn(parameter.shape, generator=generator) / math.sqrt(fan_in)
    return network


def inputs(length: int, n_static: int = 3, n_dynamic: int = 4, n_patients: int = 3) -> Inputs:
    generator = torch.Generator().manual_seed(2)
    x_static = torch.randn(n_patients, n_static, generator=generator)
    x_dynamic = torch.randn(n_patients, n_dynamic, length, generator=generator)
    given = torch.zeros(n_patients, min(n_static, 1), dtype=torch.bool)
    return x_static, x_dynamic, torch.randint(T, (n_patients,), generator=generator), given


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("n_static", [3, 0])
@pytest.mark.parametrize("length", LENGTHS)
@torch.no_grad()
def test_shapes(length: int, n_static: int) -> None:
    raw_static, raw_dynamic = lively(length, n_static)(*inputs(length, n_static))
    assert raw_static.shape == (3, n_static)
    assert raw_dynamic.shape == (3, 4, length)
    assert torch.isfinite(raw_static).all() and torch.isfinite(raw_dynamic).all()


@pytest.mark.parametrize("levels", [1, 2, 5])
@torch.no_grad()
def test_shapes_at_other_depths(levels: int) -> None:
    network = lively(13, config=NetworkConfig(width=8, levels=levels, heads=1))
    assert network(*inputs(13))[1].shape == (3, 4, 13)


@pytest.mark.parametrize("length", LENGTHS)
@torch.no_grad()
def test_every_level_has_its_own_times_and_no_pad(length: int) -> None:
    network, seen = lively(length), []
    for module in network.modules():
        if isinstance(module, ResidualBlock | Attention):
            module.register_forward_hook(lambda _module, given, output: seen.append((given[0].shape, output.shape)))
    network(*inputs(length))
    down = [length, math.ceil(length / 2), math.ceil(length / 4)]
    wanted = [*down, *[math.ceil(length / 8)] * 3, *reversed(down)]
    assert seen == [(torch.Size((3, times, 16)),) * 2 for times in wanted]


@pytest.mark.parametrize("length", [1, 2, 15, 60])
@torch.no_grad()
def test_convolutions_read_zeros_past_either_end(length: int) -> None:
    """As a Conv1d does whose input was padded by hand, an odd length by one more at its end before it is halved."""
    torch.manual_seed(0)
    x = torch.randn(2, length, 8)
    for convolution, pad in ((TimeConv(8, 3), (1, 1)), (TimeConv(8, 4, stride=2), (1, 1 + length % 2))):
        assert convolution.bias is not None
        weight, stride = convolution.weight[:, :, 0].double(), convolution.stride
        padded = F.pad(x.double().transpose(1, 2), pad)
        wanted = F.conv1d(padded, weight, convolution.bias.double(), stride=stride).transpose(1, 2)
        assert wanted.shape[1] == math.ceil(length / stride)
        torch.testing.assert_close(convolution(x).double(), wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_one_time_for_all_is_the_same_time_for_each() -> None:
    network = lively(60)
    x_static, x_dynamic, _, given = inputs(60)
    shared = network(x_static, x_dynamic, torch.tensor([7]), given)
    for one, each in zip(shared, network(x_static, x_dynamic, torch.full((3,), 7), given), strict=True):
        torch.testing.assert_close(one, each, rtol=1e-4, atol=1e-4)  # a product of one row adds in another order


@pytest.mark.parametrize("length", [5, 61])
@torch.no_grad()
def test_patients_do_not_see_each_other(length: int) -> None:
    network = lively(length)
    x_static, x_dynamic, t, given = inputs(length, n_patients=9)
    together = network(x_static, x_dynamic, t, given)
    for i in range(9):
        alone = network(x_static[i : i + 1], x_dynamic[i : i + 1], t[i : i + 1], given[i : i + 1])
        # batch sizes pick kernels that add in other orders: some float32 roundings of numbers of order 10
        torch.testing.assert_close(alone[0][0], together[0][i], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(alone[1][0], together[1][i], rtol=1e-4, atol=1e-4)


def changed_by(network: UNet, base: Inputs, other: Inputs) -> list[Tensor]:
    return [(a - b).abs() for a, b in zip(network(*base), network(*other), strict=True)]


@torch.no_grad()
def test_static_and_dynamic_tell_each_other() -> None:
    network = lively(60)
    x_static, x_dynamic, t, given = inputs(60)
    _, dynamic = changed_by(network, (x_static, x_dynamic, t, given), (-x_static, x_dynamic, t, given))
    assert (dynamic.amax(dim=1) > 1e-3).all()  # at every month
    for month in (0, 30, 59):
        other = x_dynamic.clone()
        other[:, :, month] += 1.0
        static, dynamic = changed_by(network, (x_static, x_dynamic, t, given), (x_static, other, t, given))
        assert (static.amax(dim=1) > 1e-4).all()
        assert (dynamic.amax(dim=1) > 1e-5).all()  # every month hears of every other


@torch.no_grad()
def test_what_is_given_matters() -> None:
    network = lively(8)
    x_static, x_dynamic, t, given = inputs(8)
    static, dynamic = changed_by(network, (x_static, x_dynamic, t, given), (x_static, x_dynamic, t, ~given))
    assert (static.amax(dim=1) > 1e-4).all() and (dynamic.amax(dim=(1, 2)) > 1e-4).all()


@torch.no_grad()
def test_the_diffusion_time_matters() -> None:
    network = lively(8)
    x_static, x_dynamic, t, given = inputs(8)
    static, dynamic = changed_by(network, (x_static, x_dynamic, t, given), (x_static, x_dynamic, (t + 1) % T, given))
    assert (static.amax(dim=1) > 1e-4).all() and (dynamic.amax(dim=(1, 2)) > 1e-4).all()


def gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def backward(network: UNet, length: int) -> None:
    raw_static, raw_dynamic = network(*inputs(length))
    network.zero_grad()
    ((raw_static - 1) ** 2).mean().add(((raw_dynamic - 1) ** 2).mean()).backward()


@pytest.mark.parametrize("length", [60, 61])
def test_every_parameter_learns_once_the_zero_layers_have_moved(length: int) -> None:
    network = fresh(length).train()
    backward(network, length)
    assert all(torch.isfinite(gradient(p)).all() for p in network.parameters())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.sub_(0.1 * gradient(parameter))
    backward(network, length)
    still = [name for name, p in network.named_parameters() if not gradient(p).abs().sum() > 0]
    assert still == []
    assert (gradient(network.position)[length:] == 0).all()  # never read


@torch.no_grad()
def test_blocks_start_as_the_identity() -> None:
    x, time = torch.randn(2, 8, 16), torch.randn(2, 64)
    block = ResidualBlock(16)
    assert block.conv_out.bias is not None  # the one thing it adds
    torch.testing.assert_close(block(x, time), x + block.conv_out.bias)


def test_time_features_are_sines_and_cosines_of_a_scaled_time() -> None:
    t = torch.tensor([0, 1, 250, 499])
    features = time_features(t, 500)
    assert features.shape == (4, 128) and features.dtype == torch.float32
    for row, time in zip(features, t.tolist(), strict=True):
        for i in range(64):
            angle = time / 500 * 1000 / 10_000 ** (i / 64)
            # float32 holds an angle up to 1000 to 3e-5
            assert row[i].item() == pytest.approx(math.sin(angle), abs=2e-4)
            assert row[64 + i].item() == pytest.approx(math.cos(angle), abs=2e-4)


def test_time_features_mean_the_same_share_of_the_way_at_any_length() -> None:
    short, long = time_features(torch.tensor([30]), 100), time_features(torch.tensor([300]), 1000)
    torch.testing.assert_close(short, long)


@pytest.mark.parametrize("n_times", [20, 500, 1000])
def test_time_features_tell_all_times_apart(n_times: int) -> None:
    features = time_features(torch.arange(n_times), n_times)
    distance = torch.cdist(features, features)
    distance.fill_diagonal_(math.inf)
    assert distance.min() > 0.5


def test_evidence_is_what_bayes_says_of_a_noisy_code() -> None:
    """log p(x_t | k) - log p(x_t | j) = evidence (x_t[k] - x_t[j]), from the Gaussian densities themselves."""
    x_t = torch.tensor([0.3, -1.2, 0.8], dtype=torch.float64)
    strength = evidence(SCHEDULE)
    for t in (99, 70, 50, 3):
        signal, noise = SCHEDULE.signal[t], SCHEDULE.noise[t]
        log_density = [-((x_t - signal * (2 * torch.eye(3)[k] - 1)) ** 2).sum() / (2 * noise**2) for k in range(3)]
        for k, j in ((0, 1), (2, 0)):
            expected = float(log_density[k] - log_density[j])
            assert strength[t].item() * float(x_t[k] - x_t[j]) == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_a_fresh_network_trusts_its_chains_and_learns_how_far() -> None:
    torch.manual_seed(0)
    blocks = (Block("VL", "real", 0, 1), Block("drug", "category", 1, 3))
    chain = Chain((1,), ((0,), (1,), (2,)), (5, 3, 2), ((50, 2, 1), (2, 40, 2), (1, 3, 30)))
    network = UNet(Layout((), blocks, 8, (chain,)), SCHEDULE, CONFIG).eval()
    _, x_dynamic, _, given = inputs(8, 0)
    own = evidence(SCHEDULE)[50] * x_dynamic * torch.tensor([0.0, 1.0, 1.0, 1.0])[:, None]
    ask = (torch.zeros(3, 0), x_dynamic, torch.full((3,), 50), given)
    for parameter in network.leave.parameters():
        parameter.zero_()
    torch.testing.assert_close(network(*ask)[1], own + network.chains(own))
    assert network.trust is not None and network.chains(own).abs().max() > 0.1
    network.trust.bias.fill_(-1.0)
    torch.testing.assert_close(network(*ask)[1], own)


@torch.no_grad()
def test_static_columns_hear_of_each_other_and_a_given_one_is_certain() -> None:
    torch.manual_seed(0)
    blocks = (Block("sex", "category", 0, 2), Block("group", "category", 2, 3), Block("age", "real", 5, 1))
    together = Chain((0, 1), ((0, 0), (0, 1), (1, 2)), (50, 30, 20), ((0,) * 3,) * 3)
    network = UNet(Layout(blocks, (), 8, (), (together,)), SCHEDULE, CONFIG).eval()
    assert network.leave_static is not None and network.static_trust is not None
    for parameter in network.leave_static.parameters():
        parameter.zero_()
    x_static = torch.tensor([[-1.0, 1.0, 0.4, 0.2, 0.1, 0.3]])
    given, t = torch.zeros(1, 3, dtype=torch.bool), torch.tensor([SCHEDULE.T - 1])

    def said() -> Tensor:
        return network(x_static, torch.zeros(1, 0, 8), t, given)[0][0, 2:5].softmax(0)

    torch.testing.assert_close(said(), torch.tensor([0.5, 0.3, 0.2]), atol=0.02, rtol=0)  # all is noise: the counts
    given[0, 0] = True
    torch.testing.assert_close(said(), torch.tensor([0.0, 0.0, 1.0]), atol=0.05, rtol=0)  # the counts' smoothing
    network.static_trust.bias.fill_(-1.0)
    assert said().max() < 0.4


def test_a_fresh_network_reads_categories_from_their_own_channels() -> None:
    """The evidence reaches exactly the category channels, static and dynamic, and no real."""
    network = fresh(8)
    for parameter in network.leave[-1].parameters():
        torch.nn.init.zeros_(parameter)
    x_static, x_dynamic, _, given = inputs(8)
    t = torch.full((3,), 50)
    with torch.inference_mode():
        _, raw = network(x_static, x_dynamic, t, given)
    strength = evidence(SCHEDULE)[50]
    assert torch.equal(raw[:, 0], torch.zeros(3, 8))
    torch.testing.assert_close(raw[:, 1:], strength * x_dynamic[:, 1:])
