"""What all tests share: a small cohort made in code, and hypothesis without chance."""

import pandas as pd
import pytest
import torch
from hypothesis import settings

from hg3.table.schema import TableSchema
from tests.table.cases import make_schema, make_table, tiny_columns

settings.register_profile("hg3", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("hg3")


torch.set_num_threads(1)  # tiny networks: two threads that wait for each other cost more than they bring


@pytest.fixture
def tiny_schema() -> TableSchema:
    """A schema with columns of every kind on a grid of 6 months."""
    return make_schema(tiny_columns(), name="tiny")


@pytest.fixture
def tiny_table() -> pd.DataFrame:
    """16 patients of `tiny_schema`."""
    return make_table()
