"""Imports go one way: this is the order, and its documentation."""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import hg3
from hg3.evaluation.evaluate import STEPS
from tests.runs import run_python

PACKAGE = Path(hg3.__file__).parent

# Lowest first. A module may import what stands above its own line here, and its own part; parts that share a line
# know nothing of each other.
LAYERS = (
    ("errors",),
    ("disk", "extension", "layout", "philox"),
    ("table.column", "table.forbidden"),
    ("table.rules",),
    ("config", "table.schema"),
    ("table", "diffusion"),
    ("evaluation", "sampling", "training"),
    ("release",),
    ("cluster", "demonstration", "diagnosis"),
    ("cli",),
    ("__main__",),
)
# Parts that may know even less than what stands above them.
ONLY = {
    "config": {"errors"},
    "table.column": set(),
    "table.forbidden": set(),
    "table.rules": {"table.column", "table.forbidden"},
    "table.schema": {"errors", "table.column", "table.rules"},
    "diffusion": {"errors", "layout", "config"},  # channels, never a table
    "evaluation": {"errors", "disk", "table", "table.column", "table.schema"},  # tables and a schema, never a model
    "sampling": {"errors", "extension", "layout", "philox", "config", "diffusion"},  # any callable is a model
}
# Libraries that an installation may lack, and the one module that may import each.
DOOR = "evaluation/learners.py"  # and there by name, when they are needed
OPTIONAL = {
    "mlflow": "cluster/tracking.py",
    "opacus": "training/accountant.py",
    "submitit": "cluster/jobs.py",
    **dict.fromkeys(("sklearn", "lifelines", "d3rlpy", "threadpoolctl"), DOOR),
}


def modules() -> dict[str, Path]:
    """Return the files of the package by module name without `hg3.`; the package's own __init__ is ''."""
    names = {path: path.relative_to(PACKAGE).with_suffix("").parts for path in PACKAGE.rglob("*.py")}
    return {".".join(p for p in parts if p != "__init__"): path for path, parts in names.items()}


MODULES = modules()


def imported(path: Path) -> Iterator[str]:
    """Yield what a file imports, wherever in the file: full names of modules."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if inner.removeprefix("hg3.") in MODULES else module


def part_of(module: str) -> str:
    """Return the longest part of LAYERS that `module` belongs to."""
    parts = [part for line in LAYERS for part in line if module == part or module.startswith(part + ".")]
    assert parts, f"hg3.{module} stands in no layer; give it a place in LAYERS"
    return max(parts, key=len)


def line_of(part: str) -> int:
    return next(number for number, line in enumerate(LAYERS) if part in line)


def inner_imports(module: str) -> set[str]:
    """Return the parts of hg3 that a module imports, but for its own and for `hg3.__version__`."""
    names = (name for name in imported(MODULES[module]) if name.split(".")[0] == "hg3")
    return {part_of(name.removeprefix("hg3.")) for name in names if name != "hg3"} - {part_of(module)}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {""}))
def test_imports_go_one_way(module: str) -> None:
    part = part_of(module)
    seen = inner_imports(module)
    upward = {other for other in seen if line_of(other) >= line_of(part)}
    assert not upward, f"{module} imports {upward}, which may import it"
    assert seen <= ONLY.get(part, seen), f"{module} imports {seen - ONLY[part]}"


def test_every_layer_is_there() -> None:
    assert {part for line in LAYERS for part in line} == {part_of(module) for module in MODULES if module}


@pytest.mark.parametrize("library", OPTIONAL)
def test_optional_library_has_one_door(library: str) -> None:
    doors = {
        str(path.relative_to(PACKAGE))
        for path in MODULES.values()
        if library in {name.split(".")[0] for name in imported(path)}
    }
    assert doors <= {OPTIONAL[library]}


@pytest.mark.parametrize(("module", "light"), [("hg3", set()), ("hg3.cli.app", {"typer"})])
def test_import_is_light(module: str, light: set[str]) -> None:
    heavy = {"torch", "numpy", "pandas", "pyarrow", "scipy", "matplotlib", "pydantic", "typer", *OPTIONAL} - light
    loaded = run_python(f"import sys, {module}; print(sys.modules['hg3'].__version__, *sys.modules)").split()
    assert loaded[0] == hg3.__version__
    assert heavy & set(loaded) == set()


def test_every_name_is_its_function_however_often_it_is_asked_for() -> None:
    script = "import hg3\nfor name in 2 * hg3.__all__: print(name, type(getattr(hg3, name)).__name__)"
    kinds = [line.split() for line in run_python(script).splitlines()]
    assert {name for name, kind in kinds if kind != "function"} == {"__version__"}
    assert sorted(hg3.__all__) == hg3.__all__ == [name for name, _ in kinds][: len(kinds) // 2]


def test_unknown_name_is_told() -> None:
    with pytest.raises(AttributeError, match="'hg3' has no attribute 'lode'; it has __version__, certify_release, "):
        hg3.lode  # noqa: B018


WITHOUT_EXTENSION_OR_EXTRAS = """
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "hg3._C" else find_spec(name, package)
for name in ("hg3._C", "mlflow", "submitit", "sklearn", "sdmetrics", "lifelines", "opacus"):
    sys.modules[name] = None  # cannot be imported
import hg3, hg3.cli.app
for name in hg3.__all__:
    getattr(hg3, name)
import torch, hg3.sampling.ops, hg3.table.ops
from hg3.extension import build_info, implementation
assert build_info() is None
print(*{implementation(name, torch.device("cpu")) for name in ("reverse_step", "decode")})
"""


def test_works_without_the_extension_and_the_extras() -> None:
    assert run_python(WITHOUT_EXTENSION_OR_EXTRAS).strip() == "torch"


EVALUATION_WITHOUT_TORCH = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
from hg3.evaluation import learners
from hg3.evaluation.draws import Parts
from hg3.evaluation.evaluate import evaluate
from hg3.evaluation.gates import load_gates
from tests.evaluation.cases import panel, walks
learners.TREES, learners.FOLDS = 2, 2
found = evaluate(Parts(*(panel(walks(24, seed)) for seed in (1, 2, 3))), load_gates())
assert not [name for name in sys.modules if name.split(".")[0] == "torch"]
for section in found.sections:
    known = sorted({measured.name for measured in section.measures if measured.is_known})
    print(section.name, known, section.remarks, sep="; ")
"""


@pytest.mark.slow
def test_an_evaluation_runs_without_torch() -> None:
    said = {line.partition("; ")[0]: line for line in run_python(EVALUATION_WITHOUT_TORCH).splitlines()}
    assert list(said) == [step.name for step in STEPS]
    assert "'log-cluster'" in said["detection"] and "'two-sample AUC, gradient boosting'" in said["detection"]
    assert "GRU" not in said["detection"] and "they need torch, which is not installed" in said["detection"]
    assert "'TSTR MAE'" in said["prediction"] and "'membership AUC, density'" in said["attacks"]


def test_an_evaluation_imports_torch_in_one_place() -> None:
    """And that one is imported when a network is trained: to read a table and to count takes no torch."""
    takes = {name for name, path in MODULES.items() if "torch" in {one.split(".")[0] for one in imported(path)}}
    assert {name for name in takes if name.startswith("evaluation")} == {"evaluation.recurrent"}
    loaded = run_python("import sys, hg3.evaluation.evaluate, hg3.evaluation.report; print(*sys.modules)").split()
    assert "hg3.evaluation.evaluate" in loaded and "torch" not in loaded


def test_package_lies_where_its_tests_do() -> None:
    assert find_spec("hg3") is not None
    assert Path(__file__).parents[1] == PACKAGE.parent
