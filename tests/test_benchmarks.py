"""The benchmark programs run, and what they write can be read."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import conditions, presets, real_table, reverse_step, solvers
from benchmarks.machine import last_cache
from hg3.sampling.solvers import SOLVERS
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.schema import load_schema
from hg3.table.write import write_table
from tests.runs import TINY, make_run, options, write_cohort

SCHEMAS = sorted((Path(real_table.__file__).parent / "schemas").glob("*.toml"))


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_schemas_of_real_tables_are_whole(path: Path) -> None:
    schema = load_schema(path)
    assert schema.name == path.stem
    assert any(column.missing == "modelled" for column in schema.columns)


def test_real_table_writes_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = write_cohort(tmp_path), tmp_path / "result.json"
    given = [str(table), "--schema", str(tmp_path / "schema.toml"), *options(), "--updates", "20", "--patients", "30"]
    monkeypatch.setattr(sys, "argv", ["real_table", *given, "--work", str(tmp_path / "work"), "--json", str(out)])
    real_table.main()
    result, said = json.loads(out.read_text(encoding="utf-8")), capsys.readouterr().out
    assert result["patients"] == 30
    assert set(result["ks"]) == {"height", "VL", "CD4"}
    for measure in ("tv", "ks"):
        for column, distance in result[measure].items():
            assert f"{column:<18}{measure:<9}{distance:>10.4f}" in said
    assert result["data"]["file"] == "table.parquet" and str(tmp_path) not in json.dumps(result["data"])


def test_presets_are_measured_alike(tmp_path: Path) -> None:
    write_table(simulate(60, seed=0), tmp_path / "cohort.parquet")
    monthly, static = presets.schemas(tmp_path).values()
    assert [load_schema(path).by_name["Gender"].static for path in (monthly, static)] == [False, True]
    result = presets.measure("hg3", tmp_path / "cohort.parquet", static, 2, 5, tmp_path, TINY)
    assert (
        result["updates"] == 2 and result["acceptance"] == 1.0 and result["changing"] == {"Gender": 0.0, "Ethnic": 0.0}
    )
    assert result["tv"].keys() == {"Gender", "Ethnic", "Base Drug Combo", "Extra PI", "Extra pk-En"}
    presets.print_table([result])


def test_patients_who_change_are_counted() -> None:
    schema = load_schema("art-hiv-v3-demo")
    table = pd.DataFrame({"PatientID": [0, 0, 1, 1], "Gender": [1, 2, 1, 1], "Ethnic": [1, 1, 4, 4]})
    assert presets.changing(table, schema) == {"Gender": 0.5, "Ethnic": 0.0}


def test_solvers_are_measured_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, out, figure = make_run(tmp_path, updates=10), tmp_path / "solvers.json", tmp_path / "solvers.png"
    monkeypatch.setattr(solvers, "STEPS", (3, 5))
    given = ["--patients", "8", "--work", str(tmp_path / "work"), "--json", str(out), "--figure", str(figure)]
    monkeypatch.setattr(sys, "argv", ["solvers", str(run), *given])
    solvers.main()
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [(row["solver"], row["steps"]) for row in rows] == [(name, steps) for name in SOLVERS for steps in (3, 5)]
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_conditions_are_measured_beside_their_subgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = make_run(tmp_path, updates=10), tmp_path / "conditions.json"
    monkeypatch.setattr(conditions, "CONDITIONS", {"everybody": {}, "women": {"where": {"sex": "F"}}})
    given = ["--patients", "8", "--work", str(tmp_path / "work"), "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["conditions", str(run), *given])
    conditions.main()
    results, said = json.loads(out.read_text(encoding="utf-8"))["results"], capsys.readouterr().out
    assert results["women"]["holdout_patients"] < results["everybody"]["holdout_patients"]
    for name, result in results.items():
        assert f"{name}: 8 patients beside {result['holdout_patients']} held out" in said


def test_reverse_step_is_set_beside_the_chain_and_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "reverse_step.json"
    monkeypatch.setattr(reverse_step, "last_cache", lambda device: 2**16)
    given = ["--patients", "3", "--repeats", "2", "--threads", "1", "--device", "cpu", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["reverse_step", *given])
    reverse_step.main()
    result, said = json.loads(out.read_text(encoding="utf-8")), capsys.readouterr().out
    assert result["shape"] == [3, 22, 64] and result["machine"]["threads"] == 1
    assert [row["noise"] for row in result["chain"]] == [True] * 3 + [False] * 6
    assert {row["solver"] for row in result["copy"]} == {"ddim", "dpm++"}  # the rows without noise
    for row in result["chain"] + result["copy"]:
        assert {"first_ms", "min_ms", "median_ms"} == row["sides"]["fused"].keys()
        assert f"{row['ratio']:.2f}, target" in said or not row["noise"]
    for row in result["copy"]:
        assert row["megabytes"] * 1e6 >= 4 * 2**16
        tensors = 5 if row["solver"] == "dpm++" else 3
        wide = tensors - (0.5 if row["raw"] == "bfloat16" else 0)
        assert row["megabytes"] * 1e6 == wide * 4 * 22 * 64 * row["patients"]


def test_the_two_sides_of_a_reverse_step_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for case in (("ancestral", *reverse_step.RAW[0]), ("dpm++", *reverse_step.RAW[2])):
        reverse_step.check_agreement(case, cpu)
    monkeypatch.setattr(reverse_step, "operator", lambda state, step: lambda: state.x.add_(1))
    with pytest.raises(AssertionError):
        reverse_step.check_agreement(("ddim", *reverse_step.RAW[0]), cpu)


def test_the_last_cache_is_read_from_the_machine() -> None:
    size = last_cache(torch.device("cpu"))
    assert size is None or 2**20 <= size < 2**34
