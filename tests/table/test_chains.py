"""Which categories are found to go on together, and what is counted of them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hg3.layout import Block, Chain, Layout, chained
from hg3.table.chains import MOST_STATES, fit_chains
from hg3.table.encoding import Encoded

RNG = np.random.default_rng


def encoded(codes: np.ndarray, widths: tuple[int, ...], seen: np.ndarray | None = None) -> tuple[Encoded, Layout]:
    """Return patients of codes (N, L, columns) behind one real, and their layout."""
    n, length, columns = codes.shape
    blocks = [Block("real", "real", 0, 1), *(Block(str(k), "category", 0, width) for k, width in enumerate(widths))]
    layout = Layout((), chained(blocks), length)
    x = np.full((n, layout.n_dynamic, length), -1.0, np.float32)
    for k, block in enumerate(layout.dynamic[1:]):
        for code in range(block.width):
            x[:, block.start + code] = np.where(codes[:, :, k] == code, 1.0, -1.0)
    observed = np.ones((n, columns + 1, length), bool)
    if seen is not None:
        observed[:, 1:] = np.moveaxis(seen, 2, 1)
    return Encoded(np.zeros((n, 0), np.float32), x, np.zeros((n, 0), bool), observed), layout


def fitted(codes: np.ndarray, widths: tuple[int, ...], seen: np.ndarray | None = None) -> tuple[Chain, ...]:
    made, layout = encoded(codes, widths, seen)
    return fit_chains(made, np.ones(len(codes), bool), layout).chains


def test_counts_of_one_column() -> None:
    codes = np.array([[0, 0, 1], [1, 1, 1], [0, 1, 0]] * 5)[:, :, None]
    (chain,) = fitted(codes, (3,))
    assert chain == Chain((1,), ((0,), (1,), (2,)), (10, 5, 0), ((5, 10, 0), (5, 10, 0), (0, 0, 0)), 0.0)


def test_who_has_no_value_is_not_counted_and_who_has_one_is_everywhere() -> None:
    """A gap holds the nearest code, as `fill_between` leaves it: the chain is that of what a network sees."""
    codes = np.array([[0, 0, 1, 0]] * 12 + [[1, 1, 1, 1]] * 8)[:, :, None]
    seen = np.array([[True, False, True, True]] * 12 + [[False] * 4] * 8)[:, :, None]
    (chain,) = fitted(codes, (2,), seen)
    assert chain.first == (12, 0) and chain.next == ((12, 12), (12, 0))


def test_only_training_patients_are_counted() -> None:
    codes = np.concatenate([np.zeros((20, 4, 1), int), np.ones((20, 4, 1), int)])
    made, layout = encoded(codes, (2,))
    (chain,) = fit_chains(made, np.arange(40) < 20, layout).chains
    assert chain.first == (20, 0) and chain.next == ((60, 0), (0, 0))


def test_columns_that_go_together_are_one_chain_over_what_occurs() -> None:
    regimen = RNG(0).integers(3, size=(200, 6))
    codes = np.stack([regimen, (regimen > 0).astype(int), RNG(1).integers(2, size=(200, 6))], axis=2)
    chains = fitted(codes, (3, 2, 2))
    assert [chain.blocks for chain in chains] == [(1, 2), (3,)]
    assert chains[0].states == ((0, 0), (1, 1), (2, 1))
    assert sum(chains[0].first) == 200 and sum(map(sum, chains[0].next)) == 200 * 5


def test_a_combination_of_few_patients_is_none_of_its_states() -> None:
    regimen = RNG(0).integers(2, size=(400, 20))
    codes = np.stack([regimen, regimen], axis=2)
    codes[:9, 0] = (0, 1)
    (chain,) = fitted(codes, (2, 2))
    assert chain.states == ((0, 0), (1, 1)) and sum(chain.first) == 391
    codes[9, 0] = (0, 1)  # the tenth
    (chain,) = fitted(codes, (2, 2))
    assert chain.states == ((0, 0), (0, 1), (1, 1)) and sum(chain.first) == 400


def test_columns_stay_apart_where_a_code_would_be_left_without_a_state() -> None:
    """One of 24 patients, of whom never ten have it beside the same other code: it may not become impossible."""
    regimen = RNG(0).integers(3, size=(4_000, 20))
    codes = np.stack([regimen, regimen], axis=2)
    codes[:24, 0, 1] = 3
    codes[:24, 0, 0] = np.arange(24) % 3
    assert [chain.blocks for chain in fitted(codes, (3, 4))] == [(1,), (2,)]
    codes[24:30, 0] = (0, 3)  # now fourteen have it beside the first
    (chain,) = fitted(codes, (3, 4))
    assert chain.states == ((0, 0), (0, 3), (1, 1), (2, 2))


@pytest.mark.parametrize(
    "codes",
    [
        np.repeat(np.arange(20)[:, None, None], 2, axis=2) % 2,  # nine and eleven patients a combination, at most
        RNG(2).integers(2, size=(500, 4, 2)),  # which say nothing of each other
    ],
)
def test_columns_stay_apart_where_few_patients_or_nothing_speaks_for_it(codes: np.ndarray) -> None:
    codes = codes[:19]
    assert [chain.blocks for chain in fitted(codes, (2, 2))] == [(1,), (2,)]


def test_columns_stay_apart_where_too_many_combinations_occur() -> None:
    one = RNG(3).integers(12, size=(4_000, 4))
    codes = np.stack([one, (one + RNG(4).integers(11, size=one.shape)) % 12], axis=2)
    assert MOST_STATES < 12 * 11
    assert [chain.blocks for chain in fitted(codes, (12, 12))] == [(1,), (2,)]


def test_a_column_of_too_many_codes_has_no_chain() -> None:
    codes = RNG(6).integers(2, size=(50, 4, 2))
    assert [chain.blocks for chain in fitted(codes, (MOST_STATES + 1, 2))] == [(2,)]


def test_columns_that_other_patients_have_stay_apart() -> None:
    one = RNG(5).integers(2, size=(200, 6))
    seen = np.ones((200, 6, 2), bool)
    seen[0, :, 1] = False
    assert len(fitted(np.stack([one, one], axis=2), (2, 2), seen)) == 2
    assert len(fitted(np.stack([one, one], axis=2), (2, 2))) == 1


def test_static_columns_are_chains_of_a_single_time() -> None:
    sex, group = RNG(7).integers(2, size=100), RNG(8).integers(3, size=100)
    codes = np.stack([sex, np.where(sex == 1, 2, group), RNG(9).integers(2, size=100)], axis=1)
    widths = (2, 3, 2)
    blocks = chained(Block(f"c{k}", "category", 0, width) for k, width in enumerate(widths))
    x = np.concatenate([2.0 * np.eye(width)[codes[:, k]] - 1.0 for k, width in enumerate(widths)], axis=1)
    made = Encoded(x, np.zeros((100, 0, 5)), np.ones((100, 3), bool), np.zeros((100, 0, 5), bool))
    found = fit_chains(made, np.ones(100, bool), Layout(blocks, (), 5))
    together, alone = found.static_chains
    assert found.chains == () and together.blocks == (0, 1) and alone.blocks == (2,)
    assert together.states == ((0, 0), (0, 1), (0, 2), (1, 2))
    assert together.first == tuple(int(((codes[:, :2] == state).all(axis=1)).sum()) for state in together.states)
    assert not any(map(any, together.next))


def walkers(n_patients: int, more: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return codes (N, 40, 1) of two kinds, of patients who change `more` times as often as 0.03 a time."""
    rng = RNG(seed)
    changes = rng.random((n_patients, 40)) < 0.03 * more[:, None]
    return ((rng.integers(2, size=(n_patients, 1)) + changes.cumsum(axis=1)) % 2)[:, :, None]


def test_how_differently_often_patients_change_is_found() -> None:
    (chain,) = fitted(walkers(4_000, RNG(1).exponential(size=4_000)), (2,))
    assert chain.mobility == pytest.approx(1.0, abs=0.2)
    movers = (np.arange(4_000) % 4 == 0) * 4.0  # the others never do
    (chain,) = fitted(walkers(4_000, movers), (2,))
    assert chain.mobility == pytest.approx(3.0, abs=0.4)


@pytest.mark.parametrize("seed", range(5))
def test_patients_who_are_alike_differ_by_chance_alone(seed: int) -> None:
    for n_patients in (60, 1_000):
        (chain,) = fitted(walkers(n_patients, np.ones(n_patients), seed), (2,))
        assert chain.mobility == 0.0


def test_nobody_changes_and_nothing_is_divided_by() -> None:
    assert [chain.mobility for chain in fitted(np.zeros((30, 5, 1), int), (2,))] == [0.0]


def test_a_layout_comes_back_from_json_with_its_chains() -> None:
    codes = RNG(0).integers(2, size=(50, 4, 1))
    made, layout = encoded(codes, (2,))
    whole = replace(fit_chains(made, np.ones(50, bool), layout), static_chains=(Chain((0,), ((0,), (1,)), (3, 4), ()),))
    assert Layout.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
    older = {key: value for key, value in whole.to_dict().items() if not key.endswith("chains")}
    assert Layout.from_dict(older) == layout
