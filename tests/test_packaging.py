"""What an installation gets: data files, entry point, one version; and what setup.py says."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from importlib.metadata import entry_points, metadata, version
from importlib.resources import files
from pathlib import Path
from shutil import copytree, ignore_patterns, which

import pytest
import torch

import hg3
from hg3.config import load_preset, shipped_presets
from hg3.extension import build_info
from hg3.table.schema import load_schema, shipped_schemas

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_SOURCE = ignore_patterns(
    *(".git", ".venv", "runs", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "*.so")
)

BUILD = """
import os, sys
from setuptools import build_meta
os.chdir(sys.argv[1])
print(getattr(build_meta, sys.argv[2])(sys.argv[3]))
"""


def built(source: Path, what: str, out: Path) -> Path:
    """Return the sdist or wheel that the build backend makes of `source`, without the extension."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(source), f"build_{what}", str(out)],
        env={**os.environ, "HG3_BUILD": "none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    source = Path(copytree(ROOT, folder / "source", ignore=NOT_SOURCE))
    return built(source, "sdist", folder)


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel made from the sdist, which thereby proves to be complete."""
    with tarfile.open(sdist) as archive:
        archive.extractall(sdist.parent / "unpacked", filter="data")
    (source,) = (sdist.parent / "unpacked").iterdir()
    return built(source, "wheel", sdist.parent)


def sources(folder: str) -> set[str]:
    """Return the files of a folder of the project, as paths from its root."""
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(ROOT)) for path in found if path.suffix != ".so"}


def test_sdist_holds_all_sources(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = sources("hg3") | sources("tests") | sources("docs") | sources("csrc")
    assert wanted - names == set()
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt"} <= names
    assert not {name for name in names if name.endswith((".so", ".pyc")) or name.startswith((".venv", "runs/"))}


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == sources("hg3")
    assert {"hg3/py.typed", "hg3/presets/hg3.toml", "hg3/table/schemas/art-hiv-v2.toml"} <= names


def test_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (folder,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        said = message_from_bytes(archive.read(f"{folder}/METADATA"))
        points = archive.read(f"{folder}/entry_points.txt").decode()
        assert any(name.startswith(f"{folder}/licenses/LICENSE") for name in archive.namelist())
    assert (said["Name"], said["Version"], said["License-Expression"]) == ("hg3", PROJECT["version"], "MIT")
    assert said["Requires-Python"] == ">=3.11"
    assert "hg3 = hg3.cli.app:main" in points.splitlines()
    needs = said.get_all("Requires-Dist") or []
    assert "torch==2.13.*" in needs
    assert not [need for need in needs if need.startswith(("mlflow", "opacus", "submitit")) and "extra ==" not in need]


def test_version_has_one_source() -> None:
    assert hg3.__version__ == version("hg3") == PROJECT["version"]
    mentions = [path for path in (ROOT / "hg3").rglob("*.py") if f'"{PROJECT["version"]}"' in path.read_text()]
    assert mentions == []


def test_entry_point_is_the_command() -> None:
    (point,) = entry_points(group="console_scripts", name="hg3")
    assert point.value == "hg3.cli.app:main"
    assert callable(point.load())
    program = which("hg3", path=str(Path(sys.executable).parent))
    assert program is not None
    said = subprocess.run([program, "doctor", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout)["hg3"] == hg3.__version__


def test_extras_are_extras() -> None:
    assert set(metadata("hg3").get_all("Provides-Extra") or []) >= {
        "tracking",
        "cluster",
        "evaluation",
        "private",
        "dev",
    }


def test_presets_and_schemas_are_read_as_package_data() -> None:
    assert "hg3" in shipped_presets()
    assert "art-hiv-v2" in shipped_schemas()
    for preset in shipped_presets():
        assert load_preset(preset).name == preset
    for schema in shipped_schemas():
        assert load_schema(schema).name == schema
    assert (files("hg3") / "py.typed").is_file()


def test_pins_agree() -> None:
    """torch is built against, required and installed in one minor version."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    wanted = [need for need in (*PROJECT["dependencies"], *build) if need.startswith("torch")]
    assert wanted == ["torch==2.13.*", "torch==2.13.*"]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [pin for pin in pins if pin.startswith("torch==")] == ["torch==2.13.0"]
    assert 'TORCH_MINOR = "2.13"' in (ROOT / "setup.py").read_text(encoding="utf-8")
    assert "TORCH := torch==2.13.0" in (ROOT / "Makefile").read_text(encoding="utf-8")


# setup.py: which extension it builds, and what it says where it cannot.

# A torch that knows of no device: whoever asks for one ends in an AttributeError.
FAKE_TORCH = """
import os
__version__ = os.environ["FAKE_TORCH"]
class version:
    cuda = os.environ.get("FAKE_CUDA")
"""
FAKE_CPP_EXTENSION = """
import json, os
from setuptools.command.build_ext import build_ext as BuildExtension
CUDA_HOME = os.environ.get("FAKE_TOOLKIT")
def said(kind, name, sources, **options):
    print(json.dumps({"kind": kind, "name": name, "sources": sources, "macros": dict(options["define_macros"])}))
def CppExtension(*given, **options): return said("cpu", *given, **options)
def CUDAExtension(*given, **options): return said("cuda", *given, **options)
"""
ALL = {"FAKE_CUDA": "13.0", "FAKE_TOOLKIT": "/opt/cuda"}


@pytest.fixture(scope="module")
def fake_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fake")
    (folder / "torch" / "utils").mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text(FAKE_TORCH)
    (folder / "torch" / "utils" / "cpp_extension.py").write_text(FAKE_CPP_EXTENSION)
    return folder


def set_up(fake: Path, build: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run setup.py as far as its decision, under a torch in which everything is as `environment` says."""
    kept = {name: value for name, value in os.environ.items() if name != "TORCH_CUDA_ARCH_LIST"}
    return subprocess.run(
        [sys.executable, "setup.py", "--version"],
        cwd=ROOT,
        env={**kept, "HG3_BUILD": build, "PYTHONPATH": str(fake), "FAKE_TORCH": "2.13.1+cu130", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("build", "there", "kind"),
    [
        ("auto", ALL, "cuda"),  # with no device in sight
        ("auto", {"FAKE_CUDA": "13.0"}, "cpu"),
        ("auto", {"FAKE_TOOLKIT": "/opt/cuda"}, "cpu"),  # beside a torch without CUDA
        ("auto", {}, "cpu"),
        ("", ALL, "cuda"),
        ("cpu", ALL, "cpu"),
        ("cpu", {}, "cpu"),
        ("cuda", ALL, "cuda"),
    ],
)
def test_the_toolkit_decides_what_is_built(fake_torch: Path, build: str, there: dict[str, str], kind: str) -> None:
    done = set_up(fake_torch, build, **there)
    assert done.returncode == 0, done.stderr
    asked = json.loads(done.stdout.splitlines()[0])
    assert (asked["kind"], asked["name"]) == (kind, "hg3._C")
    assert {"csrc/registration.cpp", "csrc/reverse_step_cpu.cpp"} <= set(asked["sources"])
    with_cuda = sources("csrc") & {str(path.relative_to(ROOT)) for path in (ROOT / "csrc").glob("*_cuda.c*")}
    assert with_cuda & set(asked["sources"]) == (with_cuda if kind == "cuda" else set())
    assert asked["macros"].get("HG3_CUDA") == ('"13.0"' if kind == "cuda" else None)


@pytest.mark.parametrize(
    ("asked", "built"),
    [(None, "8.0 9.0+PTX"), ("", "8.0 9.0+PTX"), ("8.6;9.0a", "8.6 9.0a"), ("12.0+PTX", "12.0+PTX"), ("Ada", "Ada")],
)
def test_architectures_are_stated(fake_torch: Path, asked: str | None, built: str) -> None:
    """Never left to the devices at hand, of which a machine that builds may have none."""
    wish = {} if asked is None else {"TORCH_CUDA_ARCH_LIST": asked}
    done = set_up(fake_torch, "cuda", **ALL, **wish)
    assert json.loads(done.stdout.splitlines()[0])["macros"]["HG3_ARCHITECTURES"] == f'"{built}"'


@pytest.mark.parametrize(("asked", "old"), [("7.5;9.0", "7.5"), ("8.0 7.0+PTX", "7.0+PTX"), ("Turing", "Turing")])
@pytest.mark.parametrize("build", ["auto", "cuda"])
def test_architectures_that_the_kernel_is_too_new_for_are_refused(
    fake_torch: Path, build: str, asked: str, old: str
) -> None:
    done = set_up(fake_torch, build, **ALL, TORCH_CUDA_ARCH_LIST=asked)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"hg3: TORCH_CUDA_ARCH_LIST names {old}, and the kernel needs 8.0 (A100) or later: leave it out, or choose "
        "HG3_BUILD=cpu.\n"
    )
    assert set_up(fake_torch, "cpu", **ALL, TORCH_CUDA_ARCH_LIST=asked).returncode == 0


def test_flags_are_stated_with_those_of_the_environment(fake_torch: Path) -> None:
    done = set_up(fake_torch, "cuda", **ALL, CFLAGS='-march=native -DNAME="x"')
    macros = json.loads(done.stdout.splitlines()[0])["macros"]
    assert macros["HG3_FLAGS"].startswith('"-O3 ') and macros["HG3_FLAGS"].endswith(r' -march=native -DNAME=\"x\""')
    assert macros["HG3_NVCC_FLAGS"] == '"-O3 --fmad=false"'


@pytest.mark.parametrize("version", ["2.12.1", "2.14.0+cpu", "2.1.3", "3.2.13"])
@pytest.mark.parametrize("build", ["auto", "cpu", "cuda"])
def test_setup_refuses_another_minor_version_of_torch(fake_torch: Path, build: str, version: str) -> None:
    done = set_up(fake_torch, build, **{**ALL, "FAKE_TORCH": version})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"hg3: the extension is compiled against torch 2.13, and torch {version} is installed: "
        "pip install torch==2.13.0 first.\n"
    )


@pytest.mark.parametrize("there", [{"FAKE_CUDA": "13.0"}, {"FAKE_TOOLKIT": "/opt/cuda"}, {}])
def test_cuda_without_its_toolkit_is_an_error(fake_torch: Path, there: dict[str, str]) -> None:
    done = set_up(fake_torch, "cuda", **there)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "hg3: HG3_BUILD=cuda needs the CUDA toolkit and a torch built for CUDA: set CUDA_HOME to the toolkit, install "
        "a CUDA build of torch, or choose HG3_BUILD=cpu.\n"
    )


def test_a_build_of_another_name_is_an_error(fake_torch: Path) -> None:
    done = set_up(fake_torch, "garbage")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "hg3: HG3_BUILD='garbage' is not one of auto, cpu, cuda, none.\n"


def test_none_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    done = set_up(tmp_path, "none")
    assert (done.returncode, done.stderr) == (0, "")


def test_setup_without_torch_says_how(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    done = set_up(tmp_path, "cpu")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "hg3: the extension is compiled against torch, which cannot be imported (no torch here): pip install "
        "torch==2.13.0 first, then install hg3 with --no-build-isolation, or set HG3_BUILD=none.\n"
    )


# The extension.


FULL = "the compiler has no space left"
# one that can still tell its version, and one that can do nothing
BROKEN = {
    "to compile": f"""#!/bin/sh
case " $* " in *" -c "*) echo "{FULL}" >&2; exit 1;; esac
exec g++ "$@"
""",
    "to start": "#!/bin/sh\nexit 1\n",
}
SENTENCE = r"hg3: the extension could not be compiled \([^\n]+\): mend that, or set HG3_BUILD=none, and "


def with_broken_compiler(folder: Path, fails: str) -> dict[str, str]:
    compiler = folder / "c++"
    compiler.write_text(BROKEN[fails])
    compiler.chmod(0o755)
    return {**os.environ, "CXX": str(compiler), "HG3_BUILD": "cpu"}


@pytest.mark.parametrize("fails", BROKEN)
def test_a_failing_compiler_ends_in_a_sentence(tmp_path: Path, fails: str) -> None:
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--build-temp", str(tmp_path), "--build-lib", str(tmp_path)],
        cwd=ROOT,
        env=with_broken_compiler(tmp_path, fails),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.match(SENTENCE, done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
    assert (FULL in done.stdout + done.stderr) == (fails == "to compile")


@pytest.mark.slow
def test_pip_shows_the_sentence(sdist: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(tmp_path)]
    environment = with_broken_compiler(tmp_path, "to compile")
    done = subprocess.run([*pip, str(sdist)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(re.findall(SENTENCE, done.stderr)) == 1
    assert "Traceback" not in done.stderr


def test_what_was_asked_for_was_built() -> None:
    stamp = Path(sys.prefix) / ".hg3-installed"  # of the Makefile: the build, and the folder
    if not stamp.is_file():
        pytest.skip("hg3 was not installed by make")
    assert (build_info() is None) == (stamp.read_text().split()[0] == "none")


@pytest.mark.skipif(build_info() is None, reason="hg3 was installed with HG3_BUILD=none: no hg3._C")
def test_build_info_says_how() -> None:
    info = build_info() or {}
    assert info.keys() == {"compiler", "flags", "torch", "cuda", "nvcc_flags", "architectures"}
    assert info["torch"] == torch.__version__.partition("+")[0]
    assert re.match(r"(gcc|clang) \d+\.", info["compiler"]) and "-ffp-contract=off" in info["flags"]
    assert len({info[key] is None for key in ("cuda", "nvcc_flags", "architectures")}) == 1


ANOTHER_TORCH = """
import sys, torch
torch.__version__ = "2.14.0+cpu"
sys.argv = ["hg3", "doctor"]
from hg3.cli.app import main
main()
"""


@pytest.mark.skipif(build_info() is None, reason="hg3 was installed with HG3_BUILD=none: no hg3._C")
def test_another_torch_is_a_sentence_at_import() -> None:
    done = subprocess.run([sys.executable, "-c", ANOTHER_TORCH], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "hg3: hg3's extension was compiled for torch 2.13.* and this is torch 2.14.0+cpu: install torch 2.13.* again, "
        "or hg3 anew against this torch\n"
    )


@pytest.fixture(scope="module")
def compiled_wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel with the extension, made by pip from the sdist on a machine without ninja."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "bin").mkdir()
    for tool in ("sh", "c++", "g++", "gcc", "cc", "as", "ld", "ar", "which"):
        (folder / "bin" / tool).symlink_to(which(tool) or pytest.skip(f"there is no {tool}"))
    pip = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(folder)]
    environment = {**os.environ, "PATH": str(folder / "bin"), "HG3_BUILD": "cpu"}
    done = subprocess.run([*pip, str(sdist)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("hg3-*.whl"))


@pytest.mark.slow
def test_a_wheel_brings_the_extension_and_needs_its_torch(compiled_wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(compiled_wheel) as archive:
        archive.extractall(tmp_path)
    (metadata_file,) = tmp_path.glob("hg3-*.dist-info/METADATA")
    assert "torch==2.13.*" in (message_from_bytes(metadata_file.read_bytes()).get_all("Requires-Dist") or [])
    assert len(list((tmp_path / "hg3").glob("_C.*.so"))) == 1 and "linux" in compiled_wheel.name
    script = "import hg3.cli.app, sys; sys.argv = ['hg3', 'doctor', '--json']; hg3.cli.app.main()"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", f"print(__import__('hg3').__file__); {script}"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    place, _, told = done.stdout.partition("\n")
    doctor = json.loads(told)
    assert Path(place).parents[1] == tmp_path
    assert doctor["reverse_step"] == "extension" and doctor["extension"]["torch"].startswith("2.13.")
