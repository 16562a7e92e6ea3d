"""SIGKILL at random moments: what is there is whole or absent, and the next call ends with the same bytes."""

import multiprocessing
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hg3.cli.app import main
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


def survives(arguments: Callable[[Path], tuple[object, ...]], folder: Path, state: Callable[[Path], object]) -> None:
    """Kill a verb at 20 moments, each time call it again to its end, and compare with one that was never killed."""
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
        again = started(*arguments(place))
        again.join()
        assert again.exitcode == 0, number
        assert state(place) == state(folder / "whole"), number


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

    survives(arguments, tmp_path, lambda out: weight_hashes(out / "checkpoints" / "step-000030"))


def test_generate(tmp_path: Path) -> None:
    run = runs.make_run(tmp_path)
    wanted = ("--patients", 5000, "--steps", 3)
    survives(lambda out: ("generate", run, *wanted, "--out", out), tmp_path, file_bytes)


def test_export(tmp_path: Path) -> None:
    release = runs.make_release(runs.make_run(tmp_path), tmp_path / "r", 3000)

    def whole_or_absent(out: Path) -> bytes:
        left = [path.name for path in out.parent.iterdir() if path.name == out.name]
        assert left == [out.name]
        return out.read_bytes()

    survives(
        lambda out: ("release", "export", release, "--csv", out.with_suffix(".csv"), "--force"),
        tmp_path,
        lambda out: whole_or_absent(out.with_suffix(".csv")),
    )
