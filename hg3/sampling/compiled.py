"""The network under torch.compile: one kernel for what lies between two convolutions, and still the same bytes."""

import subprocess
from importlib.metadata import version

import torch
from torch import nn

from hg3.errors import ConfigError

CHOICES = ("none", "default")


def compile_network(network: nn.Module) -> nn.Module:
    """Return `network` compiled at its first call, for the shapes of that call.

    No kernel is chosen by timing, and each other shape gets a compilation of its own, so that the numbers of a block
    depend neither on the moment nor on the blocks before it.
    """
    return torch.compile(  # type: ignore[call-overload]  # the overloads lack isolate_recompiles
        network, fullgraph=True, dynamic=False, isolate_recompiles=True, options={"deterministic": True}
    )


def compiler(device: torch.device) -> str:
    """Return what compiles for `device`, with its version, on which the last bits may depend.

    Raises
    ------
    ConfigError
        If there is none.
    """
    try:
        if device.type == "cuda":
            return f"triton {version('triton')}"
        from torch._inductor.cpp_builder import get_cpp_compiler

        asked = [get_cpp_compiler(), "--version"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except Exception as error:  # torch's own errors here derive from nothing more special
        need = "triton" if device.type == "cuda" else "a C++ compiler"
        raise ConfigError(
            f"torch.compile needs {need} and finds none that works ({type(error).__name__}): install it, or do without "
            "compilation"
        ) from None


def check_choice(wanted: str, range_filter: bool) -> None:
    """Refuse a mode of compilation that does not exist, or that would compile for ever other numbers of patients."""
    if wanted not in CHOICES:
        raise ConfigError(f"compile = {wanted!r} was given; choose one of {', '.join(CHOICES)}")
    if wanted != "none" and range_filter:
        raise ConfigError(
            "compile = default was asked for a preset with a range filter, which samples again any number of patients, "
            "each a shape to compile for; generate without"
        )
