"""The benchmark programs run, and what they write can be read."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import real_table
from hg3.table.schema import load_schema
from tests.runs import options, write_cohort

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
