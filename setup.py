"""Only what must be computed: which torch extension to build. All else is in pyproject.toml.

HG3_BUILD=auto (the default) builds for what torch finds here, cpu and cuda ask for one, none builds nothing.
"""

import os
from glob import glob

from setuptools import setup

BUILDS = ("auto", "cpu", "cuda", "none")


def extension() -> dict:
    build = os.environ.get("HG3_BUILD") or "auto"
    if build not in BUILDS:
        raise SystemExit(f"hg3: HG3_BUILD={build!r} is not one of {', '.join(BUILDS)}.")
    sources = sorted(glob("csrc/*.cpp"))
    if build == "none" or (build == "auto" and not sources):
        return {}
    if not sources:
        raise SystemExit(
            f"hg3: HG3_BUILD={build} asks for the torch extension, but this version has no extension "
            "sources (csrc/*.cpp): leave HG3_BUILD away or set it to none."
        )
    try:
        from torch.utils import cpp_extension
    except ImportError as error:
        raise SystemExit(
            f"hg3: the extension is compiled against torch, which cannot be imported ({error}): "
            "pip install torch==2.13.0 first, then install hg3 with --no-build-isolation."
        ) from None
    kernels = sorted(glob("csrc/*.cu"))
    can_cuda = bool(kernels) and cpp_extension.CUDA_HOME is not None
    if build == "cuda" and not can_cuda:
        raise SystemExit(
            "hg3: HG3_BUILD=cuda needs the CUDA compiler and csrc/*.cu: set CUDA_HOME, or HG3_BUILD=cpu."
        )
    if build != "cpu" and can_cuda:
        module = cpp_extension.CUDAExtension(
            "hg3._C", sources + kernels, define_macros=[("HG3_CUDA", None)]
        )
    else:
        module = cpp_extension.CppExtension("hg3._C", sources)
    return {"ext_modules": [module], "cmdclass": {"build_ext": cpp_extension.BuildExtension}}


setup(**extension())
