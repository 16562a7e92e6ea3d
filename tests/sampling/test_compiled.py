"""The compiled network: the eager numbers, the same ones again, and what cannot be compiled is refused."""

import pytest
import torch

from hg3.errors import ConfigError
from hg3.sampling.compiled import check_choice, compile_network, compiler
from tests.diffusion.test_unet import inputs, lively

CPU = torch.device("cpu")


@pytest.mark.slow
def test_compiled_network_gives_the_eager_answer() -> None:
    network = lively(5)
    compiled = compile_network(network)
    with torch.inference_mode():
        eager, first, again = network(*inputs(5)), compiled(*inputs(5)), compiled(*inputs(5))
    for one, other, twice in zip(eager, first, again, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)  # some float32 roundings of numbers of order 10
        assert torch.equal(other, twice)


def test_compiler_is_named_with_its_version() -> None:
    assert any(character.isdigit() for character in compiler(CPU))


def test_no_compiler_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise RuntimeError("none of them works")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", nowhere)
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler and finds none that works \(RuntimeError\)"):
        compiler(CPU)


def test_modes_that_are_refused() -> None:
    with pytest.raises(ConfigError, match="'max-autotune' was given; choose one of none, default"):
        check_choice("max-autotune", range_filter=False)
    with pytest.raises(ConfigError, match="range filter"):
        check_choice("default", range_filter=True)
    check_choice("none", range_filter=True)
