"""SIGKILL at random moments: what is there is whole or absent, and the next call ends with the same bytes."""

import multiprocessing
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hg3 import disk
from hg3.cli.app import main
from hg3.errors import ReleaseError
from hg3.release.manifest import INCOMPLETE
from hg3.release.verify import verify_release
from hg3.training.checkpoint import checkpoints, read_recipe, read_state
from hg3.training.run import read_split
from hg3.training.trainer import Trainer
from tests import runs
from tests.runs import file_bytes, options
from tests.training.cases import weight_hashes

one_thread = runs.one_thread
pytestmark = pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])


def call(*arguments: object) -> None:
    torch.set_num_threads(1)
    sys.argv = ["hg3", *map(str, arguments)]
    main()


def started(*arguments: object) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=call, args=arguments)
    process.start()
    return process


def survives(
    kills: int,
    arguments: Callable[[Path], tuple[object, ...]],
    folder: Path,
    look: Callable[[Path], object],
    state: Callable[[Path], object],
    went_on: Callable[[Path, object], bool] | None = None,
) -> None:
    """Kill a verb at random moments, call it again to its end, compare with one never killed.

    Parameters
    ----------
    look : checks that all that is there after a kill is whole; returns the work that need not be done again, if any.
    went_on : whether the second call did not do that work again; some kill must leave some.
    """
    begun = time.perf_counter()
    whole = started(*arguments(folder / "whole"))
    whole.join()
    assert whole.exitcode == 0
    seconds = time.perf_counter() - begun
    chance, kept = random.Random(0), 0
    for number in range(kills):
        place = folder / str(number)
        process = started(*arguments(place))
        time.sleep((number + chance.random()) / kills * seconds)  # one in each of equal parts of the whole
        process.kill()
        process.join()
        done = look(place)
        again = started(*arguments(place))
        again.join()
        assert again.exitcode == 0, number
        if went_on is not None and done:
            assert went_on(place, done), number
            kept += 1
        assert state(place) == state(folder / "whole"), number
        assert not list(folder.rglob(f"{disk.TEMPORARY_PREFIX}*")), number
    assert went_on is None or kept


def test_train(kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, made, step = runs.write_cohort(tmp_path), tmp_path / "made", Trainer.step

    def recorded(trainer: Trainer) -> dict[str, float]:
        entry = step(trainer)
        with made.open("a") as file:
            file.write(f"{trainer.progress.update}\n")
        return entry

    monkeypatch.setattr(Trainer, "step", recorded)
    fixed = ("--set", "training.validate_every=4", "--set", "training.checkpoint_every=3")

    def arguments(out: Path) -> tuple[object, ...]:
        resume = (
            ("--resume",)
            if (out / "config.toml").is_file()
            else ("--schema", tmp_path / "schema.toml", *options(), *fixed)
        )
        return ("train", table, "--out", out, "--updates", 30, *resume)

    def look(out: Path) -> int:
        made.write_text("")
        if not out.exists():
            return 0
        read_recipe(out)
        assert len(read_split(out)["patients"]) == 3
        return max((read_state(whole)["update"] for whole in checkpoints(out)), default=0)  # verifies every hash

    def went_on(_: Path, done: object) -> bool:
        return [int(update) for update in made.read_text().split()] == list(range(int(str(done)) + 1, 31))

    def weights_and_metrics(out: Path) -> dict[str, str]:
        return {**weight_hashes(out / "checkpoints" / "step-000030"), "metrics": (out / "metrics.jsonl").read_text()}

    survives(kills, arguments, tmp_path, look, weights_and_metrics, went_on)


def test_generate(kills: int, tmp_path: Path) -> None:
    run = runs.make_run(tmp_path)
    wanted = ("--patients", 5000, "--steps", 3)

    def parts(out: Path) -> dict[str, int]:
        return {part.name: part.stat().st_mtime_ns for part in out.glob("data/part-*")}

    def look(out: Path) -> dict[str, int]:
        if not out.exists() or not any(out.iterdir()):
            return {}
        if (out / INCOMPLETE).exists():
            with pytest.raises(ReleaseError):
                verify_release(out)
        else:
            verify_release(out)
        return parts(out)

    def went_on(out: Path, done: object) -> bool:
        assert isinstance(done, dict)
        return done.items() <= parts(out).items()

    survives(kills, lambda out: ("generate", run, *wanted, "--out", out), tmp_path, look, file_bytes, went_on)


def test_export(kills: int, tmp_path: Path) -> None:
    release = runs.make_release(runs.make_run(tmp_path), tmp_path / "r", 3000)

    def csv(out: Path) -> Path:
        return out.with_suffix(".csv.gz")

    def whole_or_absent(out: Path) -> None:
        assert not csv(out).exists() or csv(out).read_bytes() == csv(tmp_path / "whole").read_bytes()

    survives(
        kills,
        lambda out: ("release", "export", release, "--csv", csv(out), "--force"),
        tmp_path,
        whole_or_absent,
        lambda out: csv(out).read_bytes(),
    )
