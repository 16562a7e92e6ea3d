"""The main job end to end, as `make demo` runs it, in small."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import hg3
from hg3.errors import RunError
from tests import runs

one_thread = runs.one_thread
SMALL: dict[str, Any] = {"cohort_patients": 150, "release_patients": 12, "updates": 6}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("demo") / "demo"
    return out, hg3.demo(out, **SMALL)


def test_it_leaves_what_the_readme_lists(made: tuple[Path, dict[str, Any]]) -> None:
    out, summary = made
    names = {"cohort.parquet", "demo.json", "run", "release", "report"}
    assert {path.name for path in out.iterdir()} == names
    assert summary["patients"] == {"made": 12, "train": 90, "holdout": 38}
    assert {path.name for path in (out / "report").iterdir()} == {"report.html", "metrics.json", "figures"}
    measured = {(entry["measure"], entry["subject"]): entry for entry in summary["measures"]}
    assert {subject for name, subject in measured if name == "KS"} == {"VL", "CD4", "Rel CD4"}
    assert len([subject for name, subject in measured if name == "TV"]) == 10
    assert measured["static constancy", "Gender"]["score"] == 1.0 and measured["patients rejected", ""]["score"] == 0.0
    assert hg3.verify_release(out / "release").patients == 12


def test_called_again_it_shows_the_same(made: tuple[Path, dict[str, Any]]) -> None:
    out, summary = made
    before = runs.file_bytes(out / "release")
    assert hg3.demo(out, **SMALL) == summary
    assert runs.file_bytes(out / "release") == before


def test_a_report_that_is_gone_is_made_again(made: tuple[Path, dict[str, Any]]) -> None:
    out, summary = made
    shutil.rmtree(out / "report")
    again = hg3.demo(out, **SMALL)
    assert again["measures"] == summary["measures"] and (out / "report" / "report.html").is_file()


def test_other_settings_and_other_folders_are_refused(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    for out, changes in ((made[0], {**SMALL, "updates": 7}), (tmp_path, SMALL)):
        with pytest.raises(RunError, match="holds something else, or a demo of other settings"):
            hg3.demo(out, **changes)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
