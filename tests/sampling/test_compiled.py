"""The compiled network: the eager numbers, the same in another process, and what cannot be compiled is refused."""

from pathlib import Path

import pytest
import torch

from hg3.errors import ConfigError
from hg3.sampling.compiled import check_choice, compile_network, compiler
from tests.diffusion.test_unet import inputs, lively
from tests.runs import make_run, manifest_of, run_python

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


IN_A_PROCESS_OF_ITS_OWN = """
import sys
from pathlib import Path
from hg3.release.writer import generate
generate(sys.argv[1], sys.argv[2], 40, compile="default", steps=4, block_patients=16, part_blocks=2)
print((Path(sys.argv[2]) / "SHA256SUMS").read_text(), end="")
"""


@pytest.mark.slow
def test_processes_that_compile_for_themselves_make_the_same_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second finds nothing that the compiler left to the first: it compiles anew, to the same bytes."""
    run, sums = make_run(tmp_path), []
    for name in ("one", "other"):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / f"cache-{name}"))
        sums.append(run_python(IN_A_PROCESS_OF_ITS_OWN, run, tmp_path / name))
        assert list((tmp_path / f"cache-{name}").rglob("*.so"))
        assert manifest_of(tmp_path / name)["compile"].startswith("default, ")
    assert sums[0] == sums[1] and sums[0].count("\n") > 5


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
