"""Evaluate, certify, verify: from a release to a sealed certificate, and what spoils it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hg3 import disk
from hg3.evaluation.cohorts import given_cohorts
from hg3.evaluation.evaluate import STEPS
from hg3.release.evaluate import evaluate_release
from tests import runs
from tests.runs import Ended, make_release, make_run
from tests.table.cases import make_schema, make_table

one_thread, command = runs.one_thread, runs.command
Command = Callable[..., Ended]
EASY = '[[gates]]\nname = "sex"\nquestion = "fidelity"\nmeasures = ["TV"]\nlimit = 1.0\n'
HARD = '[[gates]]\nname = "sex"\nquestion = "fidelity"\nmeasures = ["TV"]\nlimit = -1.0\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, a release and its report."""
    folder = tmp_path_factory.mktemp("certify")
    run = make_run(folder, updates=runs.ENOUGH)
    release = make_release(run, folder / "release", 40)
    evaluate_release(release, folder / "report", run=run)
    (folder / "misspelt.toml").write_text(EASY.replace("TV", "slope sings"))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil, with gates that the release passes and gates that it fails."""
    for name in ("release", "report"):
        shutil.copytree(made / name, tmp_path / name)
    (tmp_path / "easy.toml").write_text(EASY)
    (tmp_path / "hard.toml").write_text(HARD)
    return tmp_path


def metrics(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8")))


def test_the_report_has_every_section_and_a_ceiling_for_every_score(made: Path) -> None:
    content = metrics(made)
    assert {entry["section"] for entry in content["measures"]} == {"making", *(step.name for step in STEPS)}
    assert content["about"]["manifest_sha256"] == disk.sha256_of(made / "release" / "manifest.json")
    assert content["patients"]["made"] == 40 and content["patients_in_a_draw"] <= 20
    assert all(len(entry["draws"]["score"]) == len(entry["draws"]["ceiling"]) for entry in content["measures"])
    assert {verdict["name"] for verdict in content["verdicts"]} >= {"shares of categories", "no patient rejected"}


def test_evaluating_again_gives_the_same_numbers(made: Path, tmp_path: Path) -> None:
    evaluate_release(made / "release", tmp_path / "report", run=made / "run")
    timing = {"seconds": 0, "seal": ""}
    assert {**metrics(made), **timing} == {**metrics(tmp_path), **timing}


def test_a_release_that_passes(folder: Path, command: Command) -> None:
    release = folder / "release"
    ended = command("release", "certify", release, "--report", folder / "report", "--gates", folder / "easy.toml")
    assert ended.code == 0 and "passes" in ended.out
    certificate = json.loads((release / "certificate.json").read_text())
    assert certificate["passed"] and certificate["thresholds"]["gates"][0]["limit"] == 1.0
    assert certificate["metrics_sha256"] == disk.sha256_of(folder / "report" / "metrics.json")
    assert certificate["about"]["real"] == "the run's split" and certificate["about"]["seed"] == 0
    assert "certificate: passed" in command("release", "verify", release).out


def test_a_release_that_fails_has_a_certificate_that_says_so(folder: Path, command: Command) -> None:
    release = folder / "release"
    ended = command("release", "certify", release, "--report", folder / "report", "--gates", folder / "hard.toml")
    assert ended.code == 3 and "FAILS" in ended.out
    assert json.loads((release / "certificate.json").read_text())["passed"] is False
    verified = command("release", "verify", release)
    assert verified.code == 0 and "certificate: FAILED (sex)" in verified.out


def test_nothing_is_replaced_silently(folder: Path, command: Command) -> None:
    arguments = ("release", "certify", folder / "release", "--report", folder / "report", "--gates")
    assert command(*arguments, folder / "hard.toml").code == 3
    before = (folder / "release" / "certificate.json").read_bytes()
    refused = command(*arguments, folder / "easy.toml")
    assert refused.code == 2 and "has a certificate already" in refused.err
    assert (folder / "release" / "certificate.json").read_bytes() == before
    assert command(*arguments, folder / "easy.toml", "--force").code == 0


def test_gates_without_a_number_are_named(folder: Path, command: Command) -> None:
    with (folder / "easy.toml").open("a") as file:
        file.write('[[gates]]\nname = "ghosts"\nquestion = "privacy"\nmeasures = ["policy value"]\nlimit = 0\n')
    ended = command(
        "release", "certify", folder / "release", "--report", folder / "report", "--gates", folder / "easy.toml"
    )
    assert ended.code == 0 and "not judged" in ended.out and "ghosts" in ended.out
    assert json.loads((folder / "release" / "certificate.json").read_text())["not_judged"] == ["ghosts"]


def spoil_text(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_certificate_that_was_altered_does_not_verify(folder: Path, command: Command) -> None:
    release = folder / "release"
    command("release", "certify", release, "--report", folder / "report", "--gates", folder / "hard.toml")
    spoil_text(release / "certificate.json", '"passed": false', '"passed": true')
    ended = command("release", "verify", release)
    assert ended.code == 2 and "its seal is not that of its content" in ended.err


def test_a_certificate_of_another_release_does_not_verify(folder: Path, made: Path, command: Command) -> None:
    other = make_release(made / "run", folder / "other", 40, seed=1)
    command("release", "certify", folder / "release", "--report", folder / "report", "--gates", folder / "easy.toml")
    shutil.copy(folder / "release" / "certificate.json", other)
    ended = command("release", "verify", other)
    assert ended.code == 2 and "certifies another release" in ended.err
    (other / "certificate.json").unlink()
    ended = command("release", "certify", other, "--report", folder / "report")
    assert ended.code == 2 and "is of another release" in ended.err and not (other / "certificate.json").exists()


def reseal(path: Path) -> None:
    """Take the measures away and seal what is left, as another version might write it."""
    content = {key: value for key, value in disk.read_json(path, "").items() if key not in ("seal", "measures")}
    disk.write_json(path, {**content, "seal": disk.seal_of(content)})


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (lambda folder: (folder / "report" / "metrics.json").unlink(), "holds no metrics.json"),
        (lambda folder: (folder / "report" / "metrics.json").write_text("{"), "truncated or altered"),
        (lambda folder: (folder / "report" / "metrics.json").write_text("[]"), "its seal is not"),
        (lambda folder: spoil_text(folder / "report" / "metrics.json", '"made": 40', '"made": 99'), "its seal is not"),
        (lambda folder: reseal(folder / "report" / "metrics.json"), "not as hg3 evaluate writes it"),
        (lambda folder: spoil_text(folder / "release" / "CARD.md", "patient", "person"), "does not verify"),
    ],
)
def test_what_cannot_be_certified(harm: Callable[[Path], Any], what: str, folder: Path, command: Command) -> None:
    harm(folder)
    ended = command("release", "certify", folder / "release", "--report", folder / "report")
    assert ended.code == 2 and what in ended.err and ended.err.count("\n") == 1
    assert not (folder / "release" / "certificate.json").exists()


def test_any_table_is_evaluated_beside_two_others(made: Path, tmp_path: Path, command: Command) -> None:
    for name, seed in (("made", 1), ("train", 2), ("holdout", 3)):
        table = make_table(24, seed=seed)
        table.assign(id=table["id"] + 1000 * seed).to_csv(tmp_path / f"{name}.csv", index=False)
    real = ("--train", tmp_path / "train.csv", "--holdout", tmp_path / "holdout.csv")
    out = tmp_path / "report"
    ended = command("evaluate", tmp_path / "made.csv", *real, "--schema", made / "schema.toml", "--out", out)
    assert ended.code == 0, ended.err
    content = metrics(tmp_path)
    assert content["patients"] == {"made": 24, "train": 24, "holdout": 24} and content["patients_in_a_draw"] == 12
    assert "manifest_sha256" not in content["about"]
    of_release = command("evaluate", made / "release", *real, "--out", out)  # a report is replaced by the next
    assert of_release.code == 0 and "what the release must reach" in of_release.out


def test_codes_that_a_schema_leaves_open_are_those_of_any_table() -> None:
    schema = make_schema([{"name": "drug", "kind": "categorical"}])
    tables = [pd.DataFrame({"id": [1, 2], "month": 0, "drug": codes}) for codes in (["a", "b"], ["b", "c"], ["c", "d"])]
    compared = given_cohorts(tables, schema)
    assert compared.synthetic.categories == compared.holdout.categories == {"drug": ("a", "b", "c", "d")}
    assert compared.holdout.schema.by_name["drug"].categories is None  # so that no rare one is called by its name


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ([], "takes --run, or --train and --holdout"),
        (["--train", "table.parquet"], "takes --run, or --train and --holdout"),
        (["--run", "run", "--train", "table.parquet", "--holdout", "table.parquet"], "give one of the two"),
        (["--run", "run", "--gates", "absent.toml"], "cannot be read as gates"),
        (["--run", "run", "--gates", "misspelt.toml"], "no measure 'slope sings' (nearest: 'slope signs')"),
        (["--run", "nowhere"], "is not a run of hg3"),
        (
            ["--train", "table.parquet", "--holdout", "table.parquet"],
            "are among the training patients and the held-out",
        ),
    ],
)
def test_arguments_that_do_not_go_together(given: list[str], what: str, made: Path, command: Command) -> None:
    paths = [word if word.startswith("--") else str(made / word) for word in given]
    ended = command("evaluate", made / "release", *paths, "--out", made / "refused")
    assert ended.code == 2 and what in ended.err and not (made / "refused").exists()


def test_another_run_did_not_make_the_release(made: Path, tmp_path: Path, command: Command) -> None:
    other = make_run(tmp_path, seed=1)
    ended = command("evaluate", made / "release", "--run", other, "--out", tmp_path / "report")
    assert ended.code == 2 and "is not the run that made" in ended.err and not (tmp_path / "report").exists()


def test_fewer_than_ten_real_patients_are_not_told_of(made: Path, tmp_path: Path, command: Command) -> None:
    for name, n, first in (("made", 24, 0), ("train", 24, 1000), ("holdout", 9, 2000)):
        table = make_table(n, seed=first)
        table.assign(id=table["id"] + first).to_csv(tmp_path / f"{name}.csv", index=False)
    real = ("--train", tmp_path / "train.csv", "--holdout", tmp_path / "holdout.csv")
    schema = ("--schema", made / "schema.toml")
    ended = command("evaluate", tmp_path / "made.csv", *real, *schema, "--out", tmp_path / "report")
    assert ended.code == 2 and "there are 9 held-out patients" in ended.err and not (tmp_path / "report").exists()


def test_a_thesis_beside_a_report_is_left_alone(made: Path, folder: Path, command: Command) -> None:
    (folder / "report" / "thesis.txt").write_text("years of work")
    ended = command("evaluate", made / "release", "--run", made / "run", "--out", folder / "report")
    assert ended.code == 2 and "is not a report" in ended.err
    assert (folder / "report" / "thesis.txt").read_text() == "years of work"


def test_what_cannot_be_estimated_does_not_pass_unless_it_may(folder: Path, command: Command) -> None:
    gate = '[[gates]]\nname = "few"\nquestion = "privacy"\nmeasures = ["membership TPR at 1% FPR, distance"]\n'
    arguments = ("release", "certify", folder / "release", "--report", folder / "report", "--force", "--gates")
    for optional, code in (("false", 3), ("true", 0)):
        (folder / "gates.toml").write_text(f"{gate}margin = 0.0\noptional = {optional}\n")
        assert command(*arguments, folder / "gates.toml").code == code
    assert "by other gates than hg3's own" in command("release", "verify", folder / "release").out


def test_a_folder_that_is_no_report_is_left_alone(made: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    ended = command("evaluate", made / "release", "--run", made / "run", "--out", tmp_path)
    assert ended.code == 2 and "is not a report" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
