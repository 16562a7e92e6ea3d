"""The compiled extension (csrc/), loaded once: the operators it registers, and how it was built.

Every operator of hg3 has an equal implementation in Python, which serves the devices that the extension has no kernel
for: all of them where it is absent. One that is present but cannot be loaded is an error, never a fallback.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from typing import Any

import torch

from hg3.errors import ExtensionError


def _load_extension() -> Any:
    """Return the compiled module, which registers the operators, or None where it was not built.

    Raises
    ------
    ExtensionError
        If it was built for another torch. An ImportError of any other kind is a broken build, and is left as it is.
    """
    if find_spec("hg3._C") is None:
        return None
    wanted = _torch_of_the_build()
    if not torch.__version__.startswith(wanted.removesuffix("*")):
        raise ExtensionError(
            f"hg3's extension was compiled for torch {wanted} and this is torch {torch.__version__}: install torch "
            f"{wanted} again, or hg3 anew against this torch"
        )
    return import_module("hg3._C")


def _torch_of_the_build() -> str:
    """Return the torch that hg3 was built for, as in 2.13.*; setup.py compiles against no other."""
    try:
        needs = requires("hg3") or []
    except PackageNotFoundError:  # a tree that was built in place and never installed
        needs = []
    return next((need.removeprefix("torch==") for need in needs if need.startswith("torch==")), "*")


_C = _load_extension()
_LIBRARY = torch.library.Library("hg3", "DEF" if _C is None else "FRAGMENT")


def register(schema: str, python: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Register the implementation in Python and the fake kernel of an operator; its schema too where _C is absent."""
    if _C is None:
        _LIBRARY.define(schema)
    name = schema.partition("(")[0]
    _LIBRARY.impl(name, python, "CompositeExplicitAutograd")
    torch.library.register_fake(f"hg3::{name}", fake)


def build_info() -> dict[str, Any] | None:
    """Return how the extension was built (compiler, flags, torch, CUDA, architectures), or None where it is absent."""
    return None if _C is None else dict(_C.build_info())


def instruction_set() -> str | None:
    """Return by which instructions of this CPU the extension takes a step, "avx2" or "portable"; None without it."""
    return None if _C is None else str(_C.instruction_set())


def implementation(operator: str, device: torch.device) -> str:
    """Return which implementation of hg3::`operator` serves tensors on `device`: "extension" or "torch"."""
    key = device.type.upper()
    compiled = _C is not None and torch._C._dispatch_has_kernel_for_dispatch_key(f"hg3::{operator}", key)
    return "extension" if compiled else "torch"
