"""What an installation gets: data files, entry point, one version; and what setup.py says."""

import json
import os
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


def run_setup(folder: Path, build: str) -> subprocess.CompletedProcess[str]:
    """Run this project's setup.py in `folder`, which need not hold anything else."""
    return subprocess.run(
        [sys.executable, str(ROOT / "setup.py"), "--version"],
        cwd=folder,
        env={**os.environ, "HG3_BUILD": build},
        capture_output=True,
        text=True,
        check=False,
    )


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
    assert not [need for need in needs if need.startswith(("mlflow", "submitit")) and "extra ==" not in need]


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
    assert set(metadata("hg3").get_all("Provides-Extra") or []) >= {"tracking", "cluster", "evaluation", "dev"}


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


# setup.py and the extension.


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        ("garbage", "hg3: HG3_BUILD='garbage' is not one of auto, cpu, cuda, none."),
        pytest.param(
            "cuda",
            "hg3: HG3_BUILD=cuda needs the CUDA toolkit and a torch built for CUDA: ",
            marks=pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is built for CUDA"),
        ),
    ],
)
def test_setup_refuses_in_a_sentence(tmp_path: Path, build: str, sentence: str) -> None:
    done = run_setup(tmp_path, build)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1


def test_setup_without_torch_says_how(tmp_path: Path) -> None:
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc" / "x.cpp").touch()
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    script = "import runpy, sys; sys.path.insert(0, '.'); runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", script, str(ROOT / "setup.py"), "--version"],
        cwd=tmp_path,
        env={**os.environ, "HG3_BUILD": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "hg3: the extension is compiled against torch, which cannot be imported (no torch here)" in done.stderr
    assert "--no-build-isolation" in done.stderr
