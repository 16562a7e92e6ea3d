"""Releases of a preset that rejects patients outside the training range: as pure a function as any other."""

from pathlib import Path

import pytest

from hg3.release.verify import verify_release
from hg3.release.writer import generate
from hg3.training.run import train
from tests import runs
from tests.runs import TINY, file_bytes, make_release, manifest_of

one_thread = runs.one_thread

FILTER = {"sampling.range_filter": "true", "sampling.clamp": "false", "sampling.solver": "ancestral-beta"}
PATIENTS = 40


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filter")
    table = runs.write_cohort(folder)
    train(table, folder / "run", folder / "schema.toml", changes={**TINY, **FILTER}, updates=40, seed=0)
    return folder / "run"


@pytest.fixture(scope="module")
def whole(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(run, tmp_path_factory.mktemp("whole") / "r", PATIENTS)


def test_some_are_rejected_and_the_card_says_how_many_were_not(whole: Path) -> None:
    guardrail = manifest_of(whole)["guardrail"]
    assert 0 < guardrail["rejected"] == guardrail["attempts"] - PATIENTS
    share = PATIENTS / guardrail["attempts"]
    said = f"- Range filter: 40 of {guardrail['attempts']:,} sampled patients were accepted ({share:.1%})\n"
    assert said in (whole / "CARD.md").read_text(encoding="utf-8")


def test_rejections_are_the_same_for_any_shards(run: Path, whole: Path, tmp_path: Path) -> None:
    for shard in (3, 1, 2):
        generate(run, tmp_path / "r", PATIENTS, shard=(shard, 3), **runs.SIZES)
    assert file_bytes(tmp_path / "r") == file_bytes(whole)


def test_blocks_of_rejected_patients_are_made_again_byte_by_byte(run: Path, whole: Path) -> None:
    assert verify_release(whole, recompute=3, run=run).recomputed_equal == "bytes"
