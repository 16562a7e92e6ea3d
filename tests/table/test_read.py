"""Reading tables: what is written comes in, what cannot be read is told in a sentence without a cell."""

import gzip
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from hg3.errors import TableError
from hg3.table.checks import check_table, checked_cohort
from hg3.table.cohort import Cohort
from hg3.table.read import read_table
from hg3.table.schema import TableSchema
from tests.table.cases import make_schema

CANARY = "ZZCANARY"


def assert_same(one: Cohort, other: Cohort) -> None:
    assert one.patients.tolist() == other.patients.tolist() and one.categories == other.categories
    for name, values in one.values.items():
        np.testing.assert_array_equal(values, other.values[name])


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_every_format_gives_the_same_cohort(
    name: str, tiny_schema: TableSchema, tiny_table: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / name
    tiny_table.to_parquet(path) if name.endswith("parquet") else tiny_table.to_csv(path, index=False)
    expected, _ = checked_cohort(tiny_table, tiny_schema)
    assert_same(checked_cohort(read_table(path, tiny_schema), tiny_schema)[0], expected)
    assert_same(checked_cohort(read_table(str(path), tiny_schema), tiny_schema)[0], expected)


@pytest.mark.parametrize("dtype_backend", ["numpy_nullable", "pyarrow"])
def test_extension_types_give_the_same_cohort(
    dtype_backend: Literal["numpy_nullable", "pyarrow"], tiny_schema: TableSchema, tiny_table: pd.DataFrame
) -> None:
    expected, _ = checked_cohort(tiny_table, tiny_schema)
    converted = tiny_table.convert_dtypes(dtype_backend=dtype_backend)
    assert_same(checked_cohort(converted, tiny_schema)[0], expected)
    categories = tiny_table.astype({name: "category" for name in tiny_table.columns})
    assert_same(checked_cohort(categories, tiny_schema)[0], expected)


def test_a_missing_mark_that_is_a_code_stays_a_code(tmp_path: Path) -> None:
    plain: dict[str, Any] = {"kind": "categorical", "missing": "modelled"}
    columns = [plain | {"name": "listed", "categories": ["NA", "Y"]}, plain | {"name": "open"}]
    path = tmp_path / "t.csv"
    path.write_text("id,month,listed,open\n1,0,NA,NA\n1,1,Y,Y\n1,2,,\n2,0,NULL,nan\n")
    frame = read_table(path, make_schema(columns))
    assert frame["listed"].isna().tolist() == [False, False, True, True]
    assert frame["open"].isna().tolist() == [True, False, True, True]


def test_codes_and_ids_stay_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,month,c,b\n01,0,01,True\n1,0,1,False\n01,1,1,True\n")
    codes = {"name": "c", "kind": "categorical", "categories": ["01", "1"]}
    schema = make_schema([codes, {"name": "b", "kind": "binary"}])
    cohort, _ = checked_cohort(read_table(path, schema), schema)
    assert cohort.patients.tolist() == ["01", "1"]
    assert cohort.values["c"].tolist() == [0, 1, 1] and cohort.values["b"].tolist() == [1, 0, 1]


def test_a_parquet_index_is_a_column(tiny_schema: TableSchema, tiny_table: pd.DataFrame, tmp_path: Path) -> None:
    tiny_table.set_index(["id", "month"]).to_parquet(tmp_path / "t.parquet")
    cohort, found = check_table(read_table(tmp_path / "t.parquet", tiny_schema), tiny_schema)
    assert cohort is not None, found.errors


def test_a_column_that_is_there_twice_is_found_in_a_csv(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,month,x,x\n1,0,3,4\n")
    schema = make_schema([{"name": "x", "kind": "real"}])
    _, found = check_table(read_table(tmp_path / "t.csv", schema), schema)
    assert found.errors == ["the table has column 'x' 2 times; keep one"]


def unreadable_files(folder: Path, table: pd.DataFrame) -> list[Path]:
    """Write files that cannot be read, each with the canary in it."""
    table = table.assign(stage=CANARY)
    whole = gzip.compress(table.to_csv(index=False).encode())
    table.to_parquet(folder / "whole.parquet")
    contents = {
        "truncated.csv.gz": whole[: len(whole) // 2],
        "altered.csv.gz": whole[:60] + bytes(20) + whole[80:],
        "plain.csv.gz": CANARY.encode(),
        "bad.csv.zip": CANARY.encode(),
        "bad.csv.xz": CANARY.encode(),
        "bad.csv.bz2": CANARY.encode(),
        "bad.csv.tar": CANARY.encode(),
        "latin.csv": f"id,month\n\xe9{CANARY},1\n".encode("latin-1"),
        "ragged.csv": f"id,month\n1,2\n1,2,{CANARY}\n".encode(),
        "truncated.parquet": (folder / "whole.parquet").read_bytes()[:200],
        "text.parquet": f"id,month\n{CANARY},1".encode(),
        "parquet.csv": (folder / "whole.parquet").read_bytes(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder.csv").mkdir()
    return [folder / name for name in (*contents, "folder.csv")]


def test_unreadable_files_are_refused_without_a_cell(
    tiny_schema: TableSchema, tiny_table: pd.DataFrame, tmp_path: Path
) -> None:
    for path in unreadable_files(tmp_path, tiny_table):
        with pytest.raises(TableError) as caught:
            read_table(path, tiny_schema)
        message = str(caught.value)
        assert ("cannot be read as" in message or "is a folder" in message) and "in long format" in message, path
        assert CANARY not in message
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_absent_and_empty_files(name: str, tiny_schema: TableSchema, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(TableError, match=r"there is no table at .*; give the path of a CSV"):
        read_table(path, tiny_schema)
    empty = pd.DataFrame({"id": [], "month": []})
    empty.to_parquet(path) if name.endswith("parquet") else empty.to_csv(path, index=False)
    with pytest.raises(TableError, match="holds no rows; a table needs at least one row a patient"):
        read_table(path, tiny_schema)


def test_a_file_of_no_bytes(tiny_schema: TableSchema, tmp_path: Path) -> None:
    (tmp_path / "t.csv").touch()
    with pytest.raises(TableError, match="holds no rows"):
        read_table(tmp_path / "t.csv", tiny_schema)


def test_rows_with_more_cells_than_names(tiny_schema: TableSchema, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"id,month\n{CANARY},1,0\n{CANARY},1,1\n")
    with pytest.raises(TableError, match="has rows of more cells than its header has names") as caught:
        read_table(tmp_path / "t.csv", tiny_schema)
    assert CANARY not in str(caught.value)


def test_without_a_schema_the_cells_of_a_csv_are_texts(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,code,x\n007,01,1.50\n008,NA,\n")
    read = read_table(tmp_path / "t.csv", None)
    assert read.to_dict("list") == {"id": ["007", "008"], "code": ["01", np.nan], "x": ["1.50", np.nan]}
