"""Checkpoints: whole or absent, no pickle, any damage found, enough to decode alone."""

import ast
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hg3
from hg3 import disk
from hg3.errors import Hg3Error, RunError
from hg3.table.checks import check_table
from hg3.table.decoding import decode
from hg3.training import checkpoint as module
from hg3.training.checkpoint import (
    FORMAT,
    TENSOR_FILES,
    TEXT_FILES,
    best_checkpoint,
    checkpoints,
    read_recipe,
    read_state,
    read_tensors,
    save_checkpoint,
)
from hg3.training.loop import prune
from hg3.training.run import train
from hg3.training.trainer import Trainer
from tests.training.cases import Inputs, make_run_folder, make_tiny_trainer, tiny_train

FILES = (*TENSOR_FILES, *TEXT_FILES, "state.json")


@pytest.fixture(scope="module")
def trainer(one_thread: None) -> Trainer:
    """A trainer of two updates, of which every test may save checkpoints."""
    made = make_tiny_trainer()
    made.step(), made.step()
    return made


@pytest.fixture
def checkpoint(trainer: Trainer, tmp_path: Path) -> Path:
    return trainer.save(tmp_path)


def test_files(checkpoint: Path) -> None:
    assert checkpoint.name == "step-000002"
    assert sorted(path.name for path in checkpoint.iterdir()) == sorted(FILES)
    state = json.loads((checkpoint / "state.json").read_text())
    assert state["format"] == FORMAT and state["threads"] == 1 and state["torch"] == torch.__version__
    assert state["files"] == {name: disk.sha256_of(checkpoint / name) for name in FILES if name != "state.json"}


PICKLERS = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def pickling(tree: ast.AST) -> Iterator[str]:
    """Yield what in a module reads or writes pickles."""
    for node in ast.walk(tree):
        modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from {name.split(".")[0] for name in modules} & PICKLERS
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if f"{owner}.{node.attr}" in ("torch.save", "torch.load") or node.attr in ("to_pickle", "read_pickle"):
                yield f"{owner}.{node.attr}"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield "allow_pickle"


def test_no_pickle_anywhere() -> None:
    example = "from pickle import load\nimport joblib.x\ntorch.load(f)\nnp.load(f, allow_pickle=True)"
    assert sorted(pickling(ast.parse(example))) == ["allow_pickle", "joblib", "pickle", "torch.load"]
    sources = sorted(Path(hg3.__file__).parent.rglob("*.py"))
    assert len(sources) > 20
    assert {str(p): found for p in sources if (found := list(pickling(ast.parse(p.read_text()))))} == {}


def test_it_decodes_alone(finished: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copytree(checkpoints(finished)[-1], tmp_path / "alone"))
    recipe = read_recipe(alone)
    network = recipe.build_network()
    network.load_state_dict(read_tensors(alone / "ema.safetensors"))
    layout = recipe.encoder.layout
    with torch.inference_mode():
        x_static, x_dynamic = network(
            torch.randn(5, layout.n_static),
            torch.randn(5, layout.n_dynamic, layout.length),
            torch.full((5,), 19),
            torch.zeros(5, len(layout.static), dtype=torch.bool),
        )
    table = decode(x_static.numpy(), x_dynamic.numpy(), np.arange(5), recipe.encoder).to_pandas()
    _, found = check_table(table, recipe.encoder.released_schema())
    assert [error for error in found.errors if "no usable cell" not in error] == []
    assert read_recipe(alone) == read_recipe(finished)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, empty, flip_one_bit, Path.unlink], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", FILES)
def test_any_damage_is_found_and_named(name: str, damage: Callable[[Path], Any], checkpoint: Path) -> None:
    read_state(checkpoint)
    damage(checkpoint / name)
    with pytest.raises(RunError, match=name):
        read_state(checkpoint)
    with pytest.raises(RunError, match=name):
        make_tiny_trainer().restore(checkpoint)


def test_one_bit_anywhere_in_the_state_is_found(checkpoint: Path) -> None:
    path = checkpoint / "state.json"
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(RunError, match=r"state\.json"):
            read_state(checkpoint)


@pytest.mark.parametrize("name", ["config.toml", "schema.toml", "encoder.json"])
def test_a_recipe_that_is_damaged_is_refused(name: str, checkpoint: Path) -> None:
    for damage in (truncate, Path.unlink):
        damage(checkpoint / name)
        with pytest.raises(Hg3Error, match=name):
            read_recipe(checkpoint)


def test_an_encoder_of_another_schema_is_refused(checkpoint: Path) -> None:
    content = json.loads((checkpoint / "encoder.json").read_text())
    content["columns"][0]["name"] = "another"
    disk.write_json(checkpoint / "encoder.json", content)
    with pytest.raises(RunError, match="does not fit its schema"):
        read_recipe(checkpoint)


def test_a_newer_format_is_refused(checkpoint: Path) -> None:
    content = json.loads((checkpoint / "state.json").read_text())
    disk.write_json(checkpoint / "state.json", {**content, "format": FORMAT + 1, "seal": "of another kind"})
    with pytest.raises(RunError, match=rf"has format {FORMAT + 1} and this hg3 reads up to {FORMAT}; update hg3"):
        read_state(checkpoint)


def test_weights_of_another_network_are_refused(checkpoint: Path) -> None:
    with pytest.raises(RunError, match="weights of another network"):
        make_tiny_trainer({"network.width": "16"}).restore(checkpoint)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("not tensors")
    for name in ("model.safetensors", "absent.safetensors"):
        with pytest.raises(RunError, match=name):
            read_tensors(tmp_path / name)


def validated(
    trainer: Trainer, folder: Path, losses: dict[int, float], attacks: dict[int, float] | None = None
) -> Path:
    """Save checkpoints of these updates with these validations below `folder`; return the run."""
    checkpoint_folder = make_run_folder(trainer, folder / "run")
    for update, loss in losses.items():
        state = {"update": update, "validation": loss, "best_validation": min(losses.values())}
        state |= {"attack": attacks[update], "attack_limit": 0.55} if attacks else {}
        save_checkpoint(checkpoint_folder, trainer.recipe, {}, {}, {}, state)
    return folder / "run"


NEVER = float("inf")


@pytest.mark.parametrize(
    ("losses", "best", "kept"),
    [
        ({10: 3.0, 20: 1.0, 30: 2.0}, 20, [20, 30]),
        ({10: 3.0, 20: 2.0, 30: 1.0}, 30, [30]),
        ({10: 1.0, 20: 1.0, 23: 1.0}, 10, [10, 23]),  # stopped at 23: its loss is that of the validation before it
        ({3: NEVER, 10: 5.0}, 10, [10]),
        ({3: NEVER, 4: NEVER}, 3, [3, 4]),
        ({999_990: 2.0, 1_000_000: 3.0}, 999_990, [999_990, 1_000_000]),
    ],
)
def test_the_best_and_the_last_are_kept(
    losses: dict[int, float], best: int, kept: list[int], trainer: Trainer, tmp_path: Path
) -> None:
    run = validated(trainer, tmp_path, losses)
    assert [path.name for path in checkpoints(run)] == [f"step-{update:06d}" for update in losses]
    assert best_checkpoint(run).name == f"step-{best:06d}"
    prune(run)
    assert [path.name for path in checkpoints(run)] == [f"step-{update:06d}" for update in kept]
    assert best_checkpoint(run).name == f"step-{best:06d}"


def test_no_run_and_no_checkpoint_are_told_apart(trainer: Trainer, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not a run of hg3: it holds no config\.toml"):
        best_checkpoint(tmp_path)
    make_run_folder(trainer, tmp_path / "run")
    with pytest.raises(RunError, match="has no checkpoint yet; train it first"):
        best_checkpoint(tmp_path / "run")


def test_a_checkpoint_that_fails_to_be_written_leaves_nothing(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save", full)
    with pytest.raises(OSError, match="No space"):
        trainer.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_renamed_once_it_is_whole(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    rename = disk.replace_folder

    def look(new: Path, path: Path) -> None:
        seen.append(sorted(p.name for p in new.iterdir()))
        read_state(new)
        assert new.parent == path.parent and not path.exists()
        rename(new, path)

    monkeypatch.setattr(disk, "replace_folder", look)
    trainer.save(tmp_path)
    assert seen == [sorted(FILES)]
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]


def test_an_equal_checkpoint_stays_and_another_replaces_it(trainer: Trainer, tmp_path: Path) -> None:
    before = trainer.save(tmp_path).stat().st_ino
    assert trainer.save(tmp_path).stat().st_ino == before
    trainer.progress.total = 77
    try:
        again = trainer.save(tmp_path)
    finally:
        trainer.progress.total = None
    assert again.stat().st_ino != before and read_state(again)["total"] == 77
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]


def test_a_resume_removes_what_a_killed_writer_left(inputs: Inputs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    tiny_train(inputs, run, updates=3)
    left = run / "checkpoints" / ".hg3-tmp-killed"
    left.mkdir()
    for path in (left / "config.toml", left / ".hg3-tmp-inner.json", run / ".hg3-tmp-killed.png"):
        path.write_text("half")
    assert train(inputs.table, run, resume=True)
    assert not list(run.rglob(".hg3-tmp-*"))
    assert [path.name for path in checkpoints(run)] == ["step-000003"]


def test_a_run_is_private_and_its_files_as_the_umask_says(inputs: Inputs, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        tiny_train(inputs, tmp_path / "run", updates=1)
    finally:
        os.umask(before)
    run = tmp_path / "run"
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in run.rglob("*") if p.is_file()}
    assert len(modes) > len(FILES)
    assert {mode for mode in modes.values()} == {0o640}


def test_a_kill_while_old_checkpoints_go_leaves_no_half_one(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    folder = make_run_folder(trainer, run)
    for update, loss in ((1, 3.0), (2, 2.0), (3, 1.0)):
        trainer.progress.update, trainer.progress.validation = update, loss
        trainer.save(folder)

    def killed(path: Path, *_: Any) -> None:
        next(iter(path.iterdir())).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("hg3.training.loop.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        prune(run)
    for path in checkpoints(run):
        read_state(path)
    assert best_checkpoint(run).name == "step-000003"


@pytest.mark.parametrize(
    ("attacks", "best"),
    [
        ({10: 0.45, 20: 0.55, 30: 0.56}, 20),  # at most 0.55: no matter how much less
        ({10: 0.50, 20: 0.57, 30: 0.60}, 10),
        ({10: 0.50, 20: 0.57, 30: 0.54}, 30),
    ],
)
def test_the_best_does_not_give_its_patients_away(
    attacks: dict[int, float], best: int, trainer: Trainer, tmp_path: Path
) -> None:
    run = validated(trainer, tmp_path, {10: 3.0, 20: 2.0, 30: 1.0}, attacks)
    assert best_checkpoint(run).name == f"step-{best:06d}"
