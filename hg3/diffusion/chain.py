"""What the other times and columns say of a code, if categories were Markov chains: exact, forwards and backwards."""

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from hg3.layout import Block, Chain

LEAST = 1e-30  # of a chance, before its logarithm
CLASSES = 4  # of patients, equally many in each, from those who change least to those who change most


class Chains(nn.Module):
    """Log odds of every code at every time beyond its own evidence, from the noisy channels of all codes at all times.

    Under a hidden Markov chain over combinations of codes (`hg3.layout.Chain`) the chance of a combination at a time
    is its evidence then x what the times before say x what those after say (Rabiner 1989, equations 19 to 27). Where
    some patients change often and others hardly ever, there are as many such chains as `CLASSES` of patients, and what
    all times say of a patient's class comes with it: movers and stayers (Goodman 1961).
    """

    def __init__(self, chains: tuple[Chain, ...], blocks: tuple[Block, ...]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(_OneChain(chain, [blocks[number] for number in chain.blocks]) for chain in chains)

    def forward(self, evidence: Tensor) -> Tensor:
        """Return what is said, (B, C, L), from the own evidence of every channel, (B, C, L); 0 for reals.

        Float32, whatever is around: sixty products in bfloat16 forget the first. Nothing of it is learned, so that no
        gradient goes through it.
        """
        said = torch.zeros_like(evidence, dtype=torch.float32)
        with torch.autocast(evidence.device.type, enabled=False):
            for part in self.parts:
                assert isinstance(part, _OneChain)
                said = said.index_copy(1, part.channels, part(evidence.detach().float()))
        return said


class _OneChain(nn.Module):
    """One chain of S states over the K channels of its blocks; `codes` (S, K) says which codes a state has."""

    channels: Tensor
    codes: Tensor
    first: Tensor
    go: Tensor

    def __init__(self, chain: Chain, blocks: list[Block]) -> None:
        super().__init__()
        self.widths = [block.width for block in blocks]
        channels = [channel for block in blocks for channel in range(block.start, block.start + block.width)]
        states = torch.tensor(chain.states)
        codes = [torch.nn.functional.one_hot(states[:, n], width) for n, width in enumerate(self.widths)]
        first, go = _chances(chain)
        for name, value in (
            ("channels", torch.tensor(channels)),
            ("codes", torch.cat(codes, dim=1).float()),
            ("first", first),
            ("go", torch.stack([go, go.mT])),  # time forwards, and time backwards
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(self, evidence: Tensor) -> Tensor:
        """Return what is said of this chain's channels, (B, K, L), from the evidence (B, C, L)."""
        blocks = evidence[:, self.channels].permute(2, 0, 1).split(self.widths, 2)
        own = [block - block.amax(dim=2, keepdim=True) for block in blocks]  # strong evidence would round away messages
        of_state = torch.cat(own, dim=2) @ self.codes.T  # (L, B, S)
        seen = torch.exp(of_state - of_state.amax(dim=2, keepdim=True))
        rest, said = of_state + chain_messages(seen, self.first, self.go), []
        for evidence_of, codes in zip(own, self.codes.split(self.widths, 1), strict=True):
            others = rest - evidence_of @ codes.T  # a column's own evidence is for the caller to add
            chance = torch.exp(others - others.amax(dim=2, keepdim=True)) @ codes
            said.append(chance.clamp_min(LEAST).log())
        return torch.cat(said, dim=2).permute(1, 2, 0)


@torch.library.custom_op("hg3::chain_messages", mutates_args=())
def chain_messages(seen: Tensor, first: Tensor, go: Tensor) -> Tensor:
    """Return the logarithm of what the times before and after say of each state, (L, B, S), summed over the classes.

    One operator, for a compiler would unroll its steps and work on them for minutes. It has no gradient: what it reads
    is given.

    Parameters
    ----------
    seen : float32, (L, B, S): the evidence of each time, up to a factor.
    first : (S,) chances to begin with; go : (2, K, S, S) chances to go on, forwards and backwards in time, by class.
    """
    both = torch.stack([seen, seen.flip(0)], dim=1)[:, :, None]  # (L, 2, 1, B, S)
    shape = (go.shape[1], *seen.shape[1:])
    said = torch.stack([first.expand(shape), torch.ones(shape, device=seen.device)])  # (2, K, B, S)
    told = [said]
    for here in both[:-1]:
        known = said.clamp_min(LEAST) * here
        said = (known / known.sum(dim=(1, 3), keepdim=True)) @ go
        told.append(said)
    before, after = torch.stack(told).clamp_min(LEAST).log().unbind(1)
    return (before + after.flip(0)).logsumexp(dim=1)


@chain_messages.register_fake
def _(seen: Tensor, first: Tensor, go: Tensor) -> Tensor:
    return torch.empty_like(seen)


def _chances(chain: Chain) -> tuple[Tensor, Tensor]:
    """Return the chances to begin with, (S,), and to go from state to state, (K, S, S), by class of patients.

    Each is counted with one patient more, who is like all others together: nothing that occurs is impossible. The
    classes differ in the odds of a change.
    """
    first, follow = torch.tensor(chain.first).double(), torch.tensor(chain.next).double()
    everyone = first + follow.sum(dim=0) + 1.0 / len(first)
    everyone = everyone / everyone.sum()
    first, follow = first + everyone, follow + everyone
    go = follow / follow.sum(dim=1, keepdim=True)
    stay = torch.diag(go)
    more = torch.as_tensor(mobilities(chain.mobility))[:, None]
    leave = more * (1.0 - stay) / (more * (1.0 - stay) + stay)  # (K, S)
    moved = (go - torch.diag(stay)) / (1.0 - stay).clamp_min(LEAST)[:, None]
    of_class = leave[:, :, None] * moved + torch.diag_embed(1.0 - leave)
    return (first / first.sum()).float(), of_class.float()


def mobilities(variance: float) -> np.ndarray:
    """Return how much more often than the average the patients of each class change, (K,), with the mean 1.

    A gamma distribution of mean 1 in classes of equal chance, each by its mean (Yang 1994); one class without variance.
    """
    if variance == 0.0:
        return np.ones(1)
    shape = 1.0 / variance
    edges = stats.gamma.ppf(np.linspace(0.0, 1.0, CLASSES + 1), shape, scale=variance)
    return np.diff(stats.gamma.cdf(edges, shape + 1.0, scale=variance)) * CLASSES
