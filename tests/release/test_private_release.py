"""Releases of a private training: manifest and card say what was spent and what is outside, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hg3 import disk
from hg3.errors import ReleaseError
from hg3.release.card import card
from hg3.release.verify import verify_release
from hg3.release.writer import generate
from hg3.table.schema import load_schema
from hg3.training.checkpoint import best_checkpoint, read_state
from hg3.training.run import train
from tests import runs
from tests.runs import SIZES, Ended, make_release, make_run, manifest_of, options, seal
from tests.training.cases import make_private_inputs

one_thread, command = runs.one_thread, runs.command
PATIENTS = 40


@pytest.fixture(scope="module")
def run(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private run that was stopped after 6 of 9 updates, not to be changed."""
    pytest.importorskip("opacus")
    folder = tmp_path_factory.mktemp("private")
    inputs, made = make_private_inputs(folder), [0]

    def kill(entry: dict[str, Any]) -> None:
        made[0] = entry["update"]
        if made[0] == 7:  # an update is told before its checkpoint
            raise KeyboardInterrupt

    changes = {
        **runs.TINY,
        "encoding.scaling": "standard",
        "privacy.epsilon": "3",
        "privacy.clip": "0.5",
        "training.checkpoint_every": "3",
    }
    with pytest.raises(KeyboardInterrupt):
        train(inputs.table, folder / "run", inputs.schema, changes=changes, updates=9, report=kill)
    return folder / "run"


@pytest.fixture
def release(run: Path, tmp_path: Path) -> Path:
    return make_release(run, tmp_path / "release", PATIENTS)


def test_the_manifest_says_what_the_checkpoint_does(run: Path, release: Path) -> None:
    said = manifest_of(release)["privacy"]
    assert said == read_state(best_checkpoint(run))["privacy"]
    assert (said["asked"], said["made_updates"], said["updates"], said["clip"]) == (3.0, 6, 9, 0.5)
    assert 0 < said["epsilon"] < 3.0
    assert verify_release(release, 8, run).recomputed_equal == "bytes"


def test_the_card_tells_people(release: Path) -> None:
    text, said = (release / "CARD.md").read_text(), manifest_of(release)["privacy"]
    section = " ".join(text[text.index("## Differential privacy") : text.index("## Source")].split())
    shown = float(section.split("**epsilon ")[1].split(",")[0])
    assert 0 <= shown - said["epsilon"] <= 1e-3  # never rounded down
    for words in (
        "delta 0.0042**",
        "one training patient's whole record, there or not",
        "6 of 9 planned updates by DP-SGD",
        "24 training patients with probability 0.3333",
        f"length of 0.5 and adds Gaussian noise of {said['noise_multiplier']:.4g} times that",
        "Renyi differential privacy",
        "asked for was an epsilon of 3",
        *said["outside"],
    ):
        assert words in section, words


def test_the_command_line_tells_what_was_spent_and_no_loss(
    tmp_path: Path, command: Callable[..., Ended], run: Path
) -> None:
    inputs = make_private_inputs(tmp_path)
    changes = {**runs.TINY, "encoding.scaling": "standard", "privacy.epsilon": "3"}
    wish = (inputs.table, "--schema", inputs.schema, "--updates", 2, "--out", tmp_path / "run", *options(changes))
    ended = command("train", *wish)
    assert (ended.code, "spent an epsilon of 2.99" in ended.out) == (0, True), ended
    assert "losses are told nowhere" in ended.out and "loss " not in ended.err and "loss.png" not in ended.out
    again = command("train", inputs.table, "--out", tmp_path / "run", "--resume", "--updates", 3)
    assert (again.code, "noise was made for 2 updates and 3 were asked for" in again.err) == (2, True), again


def test_every_release_of_a_run_says_the_same(run: Path, release: Path, tmp_path: Path) -> None:
    other = make_release(run, tmp_path / "other", 20, seed=3, where={"sex": "f"})
    assert manifest_of(other)["privacy"] == manifest_of(release)["privacy"]
    assert verify_release(other).faults == []
    assert generate(run, release, PATIENTS, **SIZES)  # complete already, under the same plan


def test_the_usual_release_says_nothing_of_it(tmp_path: Path) -> None:
    usual = make_release(make_run(tmp_path), tmp_path / "release", PATIENTS)
    assert "privacy" not in manifest_of(usual) and "Differential" not in (usual / "CARD.md").read_text()
    assert verify_release(usual).faults == []


def test_a_claim_that_the_checkpoint_does_not_make_is_found(run: Path, release: Path, tmp_path: Path) -> None:
    said = manifest_of(release)["privacy"]
    for forged in ({**said, "epsilon": 0.1}, {**said, "outside": []}, None):
        seal(release, privacy=forged)
        assert verify_release(release).faults == []  # the texts agree with each other: only the run knows better
        with pytest.raises(ReleaseError, match=r"manifest\.json is not the plan of the checkpoint: privacy"):
            verify_release(release, 1, run)
    usual = make_run(tmp_path)
    made = make_release(usual, tmp_path / "usual", PATIENTS)
    seal(made, privacy=said)
    with pytest.raises(ReleaseError, match=r"manifest\.json is not the plan of the checkpoint: privacy"):
        verify_release(made, 1, usual)


@pytest.mark.parametrize(
    "change", [{"epsilon": 3.5}, {"made_updates": 10}, {"delta": 1.0}, {"epsilon": "3"}, {"noise_multiplier": 0.0}]
)
def test_a_claim_that_cannot_be_is_no_manifest(release: Path, change: dict[str, Any]) -> None:
    content = manifest_of(release)
    content["privacy"] |= change
    disk.write_json(release / "manifest.json", content)
    with pytest.raises(ReleaseError, match="altered: it is not a manifest of hg3"):
        verify_release(release)


def test_the_card_is_another_without_the_section(release: Path) -> None:
    manifest, schema = manifest_of(release), load_schema(release / "schema.toml")
    text = card(schema, manifest)
    del manifest["privacy"]
    without = card(schema, manifest)
    start, end = text.index("\n## Differential privacy"), text.index("\n## Source")
    assert text[:start] + text[end:] == without


def test_the_released_schema_holds_what_the_schema_said(release: Path, run: Path) -> None:
    released, own = load_schema(release / "schema.toml"), load_schema(run / "schema.toml")
    assert [c.categories for c in released.columns] == [c.categories for c in own.columns]
    assert [c.decimals for c in released.columns] == [c.decimals for c in own.columns]
    assert {c.name: c.transform for c in released.columns if c.is_real} == {
        "height": "none",
        "VL": "log1p",
        "CD4": "log1p",
    }
    assert json.loads((run / "encoder.json").read_text())["columns"][0]["occurring"] == ["F", "M"]
