"""Only what must be computed: which torch extension to build. All else is in pyproject.toml.

HG3_BUILD=auto (the default) builds for what torch and the CUDA toolkit allow here, cpu and cuda ask for one, none
builds nothing and leaves hg3 to its torch implementation. The toolkit decides, never a visible device.
"""

import json
import os
import re
from glob import glob

from setuptools import setup

BUILDS = ("auto", "cpu", "cuda", "none")
TORCH_MINOR = "2.13"  # of the pin in pyproject.toml: what is compiled against one minor runs under no other
# No flag that changes a result: fma is written out where it is meant, and contracted nowhere else.
CXX_FLAGS = ["-O3", "-g0", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
NVCC_FLAGS = ["-O3", "--fmad=false"]
ARCHITECTURES = "8.0;9.0+PTX"  # A100 and H100 or H200, where TORCH_CUDA_ARCH_LIST does not say otherwise
LEAST_ARCHITECTURE = (8, 0)  # below it a warp has no instruction for the sum of its counts
TOO_OLD = ("Kepler", "Maxwell", "Pascal", "Volta", "Turing")  # names that torch knows


def extension() -> dict:
    build = os.environ.get("HG3_BUILD") or "auto"
    if build not in BUILDS:
        raise SystemExit(f"hg3: HG3_BUILD={build!r} is not one of {', '.join(BUILDS)}.")
    if build == "none":
        return {}
    torch, cpp_extension = compiled_against()
    can_cuda = cpp_extension.CUDA_HOME is not None and torch.version.cuda is not None
    if build == "cuda" and not can_cuda:
        raise SystemExit(
            "hg3: HG3_BUILD=cuda needs the CUDA toolkit and a torch built for CUDA: set CUDA_HOME to the toolkit, "
            "install a CUDA build of torch, or choose HG3_BUILD=cpu."
        )
    module = cuda_module(torch, cpp_extension) if can_cuda and build != "cpu" else cpu_module(cpp_extension)
    return {"ext_modules": [module], "cmdclass": {"build_ext": build_command(cpp_extension)}}


def compiled_against() -> tuple:
    """Return torch and its cpp_extension; stop in a sentence if they are absent or of another minor version."""
    try:
        import torch
        from torch.utils import cpp_extension
    except ImportError as error:
        raise SystemExit(
            f"hg3: the extension is compiled against torch, which cannot be imported ({error}): "
            f"pip install torch=={TORCH_MINOR}.0 first, then install hg3 with --no-build-isolation, or set "
            "HG3_BUILD=none."
        ) from None
    if not torch.__version__.startswith(TORCH_MINOR + "."):
        raise SystemExit(
            f"hg3: the extension is compiled against torch {TORCH_MINOR}, and torch {torch.__version__} is installed: "
            f"pip install torch=={TORCH_MINOR}.0 first."
        )
    return torch, cpp_extension


def cpu_module(cpp_extension):
    sources = sorted(path for path in glob("csrc/*.cpp") if not path.endswith("_cuda.cpp"))
    return cpp_extension.CppExtension("hg3._C", sources, **options())


def cuda_module(torch, cpp_extension):
    architectures = os.environ.get("TORCH_CUDA_ARCH_LIST") or ARCHITECTURES
    os.environ["TORCH_CUDA_ARCH_LIST"] = architectures  # where it is empty, torch would ask the devices at hand
    check_architectures(architectures)
    macros = [
        ("HG3_CUDA", text(torch.version.cuda)),
        ("HG3_ARCHITECTURES", text(architectures.replace(";", " "))),
        ("HG3_NVCC_FLAGS", text(" ".join(NVCC_FLAGS))),
    ]
    sources = sorted(glob("csrc/*.cpp") + glob("csrc/*.cu"))
    return cpp_extension.CUDAExtension("hg3._C", sources, **options(macros))


def check_architectures(architectures: str) -> None:
    """Stop in a sentence at an architecture that the kernel cannot be compiled for."""
    for name in architectures.replace(";", " ").split():
        number = re.match(r"(\d+)\.(\d+)", name)
        if name.startswith(TOO_OLD) or (number and (int(number[1]), int(number[2])) < LEAST_ARCHITECTURE):
            raise SystemExit(
                f"hg3: TORCH_CUDA_ARCH_LIST names {name}, and the kernel needs 8.0 (A100) or later: "
                "leave it out, or choose HG3_BUILD=cpu."
            )


def options(macros: list = ()) -> dict:
    flags = [*CXX_FLAGS, *os.environ.get("CFLAGS", "").split()]  # which the compiler is given as well
    return {
        "include_dirs": [os.path.abspath("csrc")],
        "depends": sorted(glob("csrc/*.h")),
        "define_macros": [("HG3_FLAGS", text(" ".join(flags))), *macros],
        "extra_compile_args": {"cxx": CXX_FLAGS, "nvcc": NVCC_FLAGS},
    }


def text(value: str) -> str:
    """Return `value` as a macro that is a string."""
    return json.dumps(value)


def build_command(cpp_extension):
    class Build(cpp_extension.BuildExtension):
        """torch's, that ends in a sentence where the compiler fails."""

        def run(self) -> None:
            try:
                super().run()
            except Exception as error:
                said = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
                raise SystemExit(
                    f"hg3: the extension could not be compiled ({said}; what the compiler said stands above): mend "
                    "that, or set HG3_BUILD=none, and hg3 uses its torch implementation, which is slower."
                ) from error

    return Build


setup(**extension())
