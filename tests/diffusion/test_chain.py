"""What chains say of codes, against all paths that there are."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import Tensor

from hg3.diffusion.chain import CLASSES, Chains, chain_messages, mobilities
from hg3.layout import Block, Chain

BLOCKS = (
    Block("drug", "category", 0, 3),
    Block("VL", "real", 3, 1),
    Block("seen", "category", 4, 2),
    Block("boost", "category", 6, 2),
)
# drug and boost go together, and two of their six combinations never occur; seen is by itself
TOGETHER = Chain(
    (0, 3), ((0, 0), (1, 0), (1, 1), (2, 1)), (5, 3, 0, 1), ((90, 4, 2, 1), (3, 40, 2, 0), (0, 5, 60, 2), (1, 0, 0, 30))
)
ALONE = Chain((2,), ((0,), (1,)), (7, 3), ((50, 20), (30, 10)))


def chains(*of: Chain) -> Chains:
    return Chains(of, BLOCKS)


def evidence(length: int, seed: int = 1) -> Tensor:
    own = 2.0 * torch.randn((4, 8, length), generator=torch.Generator().manual_seed(seed))
    own[:, 3] = 0.0  # a real's channel is no evidence
    return own


def chances(chain: Chain) -> tuple[Tensor, list[Tensor]]:
    """Return the chances to begin with, (S,), and to go on, (S, S) by class, with one patient more who is like all."""
    n = len(chain.states)
    everyone = [chain.first[k] + sum(row[k] for row in chain.next) + 1.0 / n for k in range(n)]
    share = [each / sum(everyone) for each in everyone]
    first = torch.tensor([chain.first[k] + share[k] for k in range(n)], dtype=torch.float64)
    follow = torch.tensor([[row[k] + share[k] for k in range(n)] for row in chain.next], dtype=torch.float64)
    everybody = follow / follow.sum(dim=1, keepdim=True)
    go = []
    for more in mobilities(chain.mobility):
        of_class = everybody.clone()
        for k in range(n):
            stays = everybody[k, k]
            odds = more * (1 - stays) / stays
            of_class[k] *= odds / (1 + odds) / (1 - stays)
            of_class[k, k] = 1 / (1 + odds)
        go.append(of_class)
    return first / first.sum(), go


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("chain", [TOGETHER, ALONE, replace(TOGETHER, mobility=0.8), replace(ALONE, mobility=3.0)])
def test_own_evidence_and_what_is_said_are_the_posterior_over_all_paths(chain: Chain, length: int) -> None:
    own = evidence(length)
    found = own + chains(chain)(own)
    first, go = chances(chain)
    paths = list(product(range(len(chain.states)), repeat=length))
    starts = [BLOCKS[number].start for number in chain.blocks]

    def log_weight(path: tuple[int, ...]) -> Tensor:
        steps = torch.stack([sum((follow[i, j].log() for i, j in pairwise(path)), torch.tensor(0.0)) for follow in go])
        prior = first[path[0]].log() + steps.logsumexp(0)
        channels = [
            (start + code, time)
            for time, k in enumerate(path)
            for start, code in zip(starts, chain.states[k], strict=True)
        ]
        return prior + sum(own[:, channel, time].double() for channel, time in channels)

    weight = torch.stack([log_weight(path) for path in paths]).softmax(0)
    for place, number in enumerate(chain.blocks):
        block = BLOCKS[number]
        for time in range(length):
            expected = torch.stack(
                [
                    sum(w for w, path in zip(weight, paths, strict=True) if chain.states[path[time]][place] == code)
                    for code in range(block.width)
                ],
                dim=1,
            )
            said = found[:, block.channels, time].double().softmax(1)
            torch.testing.assert_close(said, expected, atol=2e-6, rtol=1e-5)


def test_what_has_no_chain_is_left_alone() -> None:
    said = chains(TOGETHER)(evidence(7))
    assert torch.equal(said[:, 3], torch.zeros(4, 7)) and torch.equal(said[:, 4:6], torch.zeros(4, 2, 7))
    assert (said[:, :3] != 0).any(dim=1).all() and (said[:, 6:] != 0).any(dim=1).all()
    assert torch.equal(chains()(evidence(7)), torch.zeros(4, 8, 7))


def test_own_evidence_is_not_said_twice() -> None:
    own = evidence(1)
    more = own.clone()
    more[:, 4] += 3.0
    torch.testing.assert_close(chains(ALONE)(own), chains(ALONE)(more))


def test_a_combination_that_never_occurs_is_not_believed() -> None:
    own = torch.zeros(1, 8, 3)
    own[:, 2] = 4.0  # drug 2 goes with boost 1 alone
    found = (own + chains(TOGETHER)(own))[0, 6:].softmax(0)
    assert (found[1] > 0.95).all()


def test_neighbours_speak_for_a_time_that_says_nothing() -> None:
    own = torch.zeros(1, 8, 5)
    own[:, 0, 0] = own[:, 0, 4] = 30.0
    found = (own + chains(TOGETHER)(own))[0, :3].softmax(0)
    assert (found[0] > 0.7).all() and found[0, 0] > found[0, 1] > found[0, 2]


@pytest.mark.parametrize("strength", [0.0, 1e3, 1e8])
def test_it_stays_finite(strength: float) -> None:
    own = strength * evidence(60)
    said = chains(replace(TOGETHER, mobility=1.0), ALONE)(own)
    assert torch.isfinite(said).all()


def test_strong_evidence_elsewhere_rounds_nothing_away() -> None:
    own = torch.zeros(1, 8, 4)
    own[:, 0, 1], own[:, 6:, 2] = 30.0, 1e8  # of boost, that two codes are as likely
    weak = own.clone()
    weak[:, 6:, 2] = 0.0
    torch.testing.assert_close(chains(TOGETHER)(own), chains(TOGETHER)(weak))


def test_a_patient_who_changes_often_is_held_for_one_who_will() -> None:
    """What lies between is known of both: a month that says nothing, after quiet years or after restless ones."""
    quiet, restless = torch.zeros(2, 8, 13)
    quiet[4, :12] = 30.0
    restless[4, :12:2] = restless[5, 1:12:2] = 30.0
    restless[4:6, 11] = quiet[4:6, 11]
    own = torch.stack([quiet, restless])
    stays = {
        spread: (own + chains(replace(ALONE, mobility=spread))(own))[:, 4:6, 12].softmax(1) for spread in (0.0, 1.0)
    }
    assert stays[0.0][0, 0] == pytest.approx(float(stays[0.0][1, 0]), abs=1e-5)
    assert stays[1.0][0, 0] > stays[0.0][0, 0] > stays[1.0][1, 0]


@pytest.mark.parametrize("variance", [0.0, 0.05, 1.0, 9.0])
def test_the_classes_change_as_often_as_everybody(variance: float) -> None:
    found = mobilities(variance)
    assert len(found) == (CLASSES if variance else 1) and (np.diff(found) > 0).all()
    assert found.mean() == pytest.approx(1.0, abs=1e-9) and (found >= 0).all()
    assert found.var() <= variance


def test_half_precision_around_it_changes_nothing() -> None:
    own = evidence(60)
    with torch.autocast("cpu", torch.bfloat16):
        found = chains(TOGETHER, ALONE)(own)
    assert found.dtype == torch.float32 and torch.equal(found, chains(TOGETHER, ALONE)(own))


def test_a_patient_alone_is_what_it_is_in_a_batch() -> None:
    own = evidence(9)
    each = torch.cat([chains(TOGETHER, ALONE)(own[n : n + 1]) for n in range(4)])
    torch.testing.assert_close(each, chains(TOGETHER, ALONE)(own))


def test_nothing_of_it_is_learned_or_kept_in_a_checkpoint() -> None:
    made = chains(TOGETHER, ALONE)
    assert not list(made.parameters()) and not made.state_dict()


def test_a_compiler_takes_the_steps_as_one_operator() -> None:
    seen = evidence(6).exp()[:, :2].permute(2, 0, 1).contiguous()
    first, go = torch.tensor([0.7, 0.3]), torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(3))
    torch.library.opcheck(chain_messages, (seen, first, go), test_utils=("test_schema", "test_faketensor"))
    graph = torch.fx.experimental.proxy_tensor.make_fx(chains(TOGETHER, ALONE))(evidence(6))
    asked = [node.target for node in graph.graph.nodes if "chain_messages" in str(node.target)]
    assert len(asked) == 2
