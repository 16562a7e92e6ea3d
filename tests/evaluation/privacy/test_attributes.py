"""What a record says of a column."""

from dataclasses import replace

import numpy as np

from hg3.evaluation.draws import Parts
from hg3.evaluation.privacy.attributes import NONE, attributes, first_rows
from tests.evaluation.privacy.cases import people


def test_a_record_says_its_most_frequent_code_and_the_tenth_of_its_median() -> None:
    train = people(500, 1)
    found = {one.column.name: one for one in attributes(Parts(train, train, train))}
    drug, rows = train.values["drug"], train.has_row
    codes = [np.bincount(drug[k, rows[k]].astype(int)).argmax() for k in range(500)]
    assert found["drug"].codes.train.tolist() == codes
    height = found["height"].codes.train
    assert ((height == NONE) == np.isnan(train.values["height"][:, 0])).all()
    assert set(np.bincount(height[height >= 0])) <= set(range(35, 46))  # some 400 heights in tenths
    late = replace(train, has_row=train.has_row & (np.arange(6) > 0))
    first = {one.column.name: one for one in first_rows(Parts(late, late, late))}
    assert (first["drug"].codes.train == np.where(rows[:, 1], drug[:, 1], drug[:, 2])).all()
    first = {one.column.name: one for one in first_rows(Parts(train, train, train))}
    assert (first["drug"].codes.train == drug[:, 0]).all()
