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
from tests import runs
from tests.runs import file_bytes, options
from tests.training.cases import weight_hashes

one_thread = runs.one_thread
KILLS = 20
pytestmark = pytest.mark.slow


def call(*arguments: object) -> None:
    torch.set_num_threads(1)
    sys.argv = ["hg3", *map(str, arguments)]
    main()


def started(*arguments: object) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=call, args=arguments)
    process.start()
    return process


def survives(
    arguments: Callable[[Path], tuple[object, ...]],
    folder: Path,
    whole_or_absent: Callable[[Path], None],
    state: Callable[[Path], object],
) -> None:
    """Kill a verb at 20 moments, look at what is there, call it again to its end, compare with one never killed."""
    begun = time.perf_counter()
    whole = started(*arguments(folder / "whole"))
    whole.join()
    assert whole.exitcode == 0
    seconds = time.perf_counter() - begun
    chance = random.Random(0)
    for number in range(KILLS):
        place = folder / str(number)
        process = started(*arguments(place))
        time.sleep(chance.random() * seconds)
        process.kill()
        process.join()
        whole_or_absent(place)
        again = started(*arguments(place))
        again.join()
        assert again.exitcode == 0, number
        assert state(place) == state(folder / "whole"), number
        assert not list(folder.rglob(f"{disk.TEMPORARY_PREFIX}*")), number


def test_train(tmp_path: Path) -> None:
    table = runs.write_cohort(tmp_path)
    fixed = ("--set", "training.validate_every=4", "--set", "training.checkpoint_every=3")

    def arguments(out: Path) -> tuple[object, ...]:
        resume = (
            ("--resume",)
            if (out / "config.toml").is_file()
            else ("--schema", tmp_path / "schema.toml", *options(), *fixed)
        )
        return ("train", table, "--out", out, "--updates", 30, *resume)

    def whole_or_absent(out: Path) -> None:
        if out.exists():
            read_recipe(out)
            assert len(read_split(out)["patients"]) == 3
            for checkpoint in checkpoints(out):
                read_state(checkpoint)  # verifies every hash

    survives(arguments, tmp_path, whole_or_absent, lambda out: weight_hashes(out / "checkpoints" / "step-000030"))


def test_generate(tmp_path: Path) -> None:
    run = runs.make_run(tmp_path)
    wanted = ("--patients", 5000, "--steps", 3)

    def whole_or_marked(out: Path) -> None:
        if not out.exists() or not any(out.iterdir()):
            return
        if (out / INCOMPLETE).exists():
            with pytest.raises(ReleaseError):
                verify_release(out)
        else:
            verify_release(out)

    survives(lambda out: ("generate", run, *wanted, "--out", out), tmp_path, whole_or_marked, file_bytes)


def test_export(tmp_path: Path) -> None:
    release = runs.make_release(runs.make_run(tmp_path), tmp_path / "r", 3000)

    def csv(out: Path) -> Path:
        return out.with_suffix(".csv.gz")

    def whole_or_absent(out: Path) -> None:
        assert not csv(out).exists() or csv(out).read_bytes() == csv(tmp_path / "whole").read_bytes()

    survives(
        lambda out: ("release", "export", release, "--csv", csv(out), "--force"),
        tmp_path,
        whole_or_absent,
        lambda out: csv(out).read_bytes(),
    )
