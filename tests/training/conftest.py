"""What the tests of training share: one thread, and one finished run a module."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.training.cases import Inputs, make_inputs, tiny_train


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Compute on one thread: equal bits are promised for equal thread counts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The tiny table and its schema as files, not to be changed."""
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def finished(one_thread: None, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 30 updates, not to be changed."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert tiny_train(inputs, out)
    return out
