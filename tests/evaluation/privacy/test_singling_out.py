"""Descriptions of one patient, from releases that repeat patients and from others."""

import numpy as np
import pytest

from hg3.evaluation.draws import Parts
from hg3.evaluation.privacy.singling_out import _codes, _hits, _predicates, singling_out_measures
from tests.evaluation.privacy.cases import cohort, contains, people, some


def test_a_predicate_holds_of_one_synthetic_record() -> None:
    codes = _codes(cohort(200))
    predicates = _predicates(codes.made, np.random.default_rng(0))
    assert len(predicates) > 300
    assert min(len(columns) for columns, _ in predicates) >= 2
    assert all((values >= 0).all() for _, values in predicates)
    assert (_hits(codes.made, predicates).sum(axis=0) == 1).all()


def test_copies_are_singled_out() -> None:
    (measured,), _ = singling_out_measures(cohort(500, 0.2))
    assert measured.difference()[1] > 0.02
    (all_copied,), _ = singling_out_measures(cohort(500, 1.0))
    assert 0.45 < all_copied.score.mean() <= 0.6  # half of the originals are in a draw, and some are not alone


def test_two_alike_are_not_singled_out() -> None:
    panels = cohort(300)
    four_times = some(panels.made, np.tile(np.arange(300), 4))
    (measured,), _ = singling_out_measures(Parts(panels.made, four_times, people(1200, 5)))
    assert 0.15 < measured.score.mean() < 0.3  # half are in a draw: one of four alone, 1 in 4 times


@pytest.mark.parametrize("seed", [0, 1])
def test_others_are_not(seed: int) -> None:
    (measured,), remarks = singling_out_measures(cohort(500, seed=seed), seed)
    assert contains(measured) and remarks == []


def test_records_that_are_all_alike_give_no_predicates() -> None:
    alike = some(people(1, 0), np.zeros(30, int))
    (measured,), remarks = singling_out_measures(Parts(alike, alike, alike))
    assert np.isnan(measured.score).all()
    assert len(remarks) == 1 and "the release gives 0 predicates that hold of one record alone" in remarks[0]
