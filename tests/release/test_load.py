"""A release read back, on small fakes whose every cell is known; other tests of this folder use them too."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hg3
from hg3.disk import sha256_of, write_json, write_text
from hg3.errors import ReleaseError
from hg3.release.load import Arrays, load
from hg3.release.transitions import Transitions
from hg3.table.arrow import arrow_schema
from hg3.table.column import Column
from hg3.table.schema import RewardTerm, TableSchema, load_schema

DOCUMENT = Path(__file__).parents[2] / "docs" / "load.md"
SCHEMA = TableSchema(
    name="mini",
    title="A small cohort",
    source="Made up, CC0",
    patient="id",
    time="month",
    step="month",
    first_time=1,
    length=5,
    columns=(
        Column(name="VL", kind="real", unit="copies/mL", decimals=1, bounds=(0, 1e7), missing="modelled"),
        Column(name="Sex", kind="binary", static=True, categories=(2, 1), labels=("W", "M"), missing="modelled"),
        Column(name="Drug", kind="categorical", categories=("b", "a", "c"), role="action", missing="modelled"),
        Column(name="Dose", kind="ordinal", categories=(10, 5), role="action"),
    ),
    reward=(RewardTerm(column="VL", weight=-2.0, log=True), RewardTerm(column="VL", weight=0.5)),
)
# Patient 7 has a gap at month 3 and an unknown sex; patient 9 is shorter; patient 12, in part 2, has one row.
ROWS = [
    (7, 1, 100.0, None, "a", 5),
    (7, 2, 0.0, None, "b", 10),
    (7, 4, 50.0, None, None, 5),
    (7, 5, None, None, "c", 5),
    (9, 1, 8.5, 1, "c", 10),
    (9, 2, 4.0, 1, None, 5),
    (9, 3, 2.0, 1, "a", 5),
    (12, 1, 1.0, 2, "b", 10),
]


def table_of(rows: list[tuple[Any, ...]], schema: TableSchema) -> pa.Table:
    """Return rows as a table of the types of a release."""
    fields = arrow_schema(schema)
    columns = zip(*rows, strict=True) if rows else ((),) * len(fields)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, fields, strict=True)], schema=fields)


def make_release(folder: Path, tables: list[pa.Table], schema: TableSchema) -> Path:
    """Write a release folder of which every table is a part, as far as loading and exporting look at it."""
    (folder / "data").mkdir(parents=True)
    parts = []
    for number, table in enumerate(tables):
        name = f"data/part-{number:05d}.parquet"
        pq.write_table(table, folder / name, compression="zstd")
        patients = table[schema.patient].unique()
        first = patients[0].as_py() if len(patients) else 0
        entry = {"file": name, "sha256": sha256_of(folder / name), "rows": len(table), "moved": 0, "attempts": 0}
        parts.append({**entry, "patients": len(patients), "first_patient": first})
    write_json(folder / "manifest.json", manifest_of(schema, parts))
    write_text(folder / "schema.toml", schema.to_toml())
    return folder


def manifest_of(schema: TableSchema, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a manifest of the parts, whose sampler's rows are zeros."""
    sampler = {"solver": "dpm++", "steps": 20, "eta": None, "times": [*range(19, -1, -1)], "rows": [[0.0] * 7] * 20}
    return {
        **{"format": 1, "name": schema.name, "title": schema.title, "step": schema.step, "length": schema.length},
        "patients": sum(part["patients"] for part in parts),
        "rows": sum(part["rows"] for part in parts),
        **{"checkpoint": "c0ffee" * 10 + "cafe", "preset": "hg3", "seed": 11, "block": 256, "part_blocks": 8},
        **{"sampler": sampler, "where": {}, "balance": None},
        "versions": {"hg3": "0.1.0", "torch": "2.13.0"},
        "device": {"model": "cpu", "type": "cpu", "driver": None, "container": None},
        **{"precision": "float32", "implementation": "torch", "compile": "none"},
        "guardrail": {"moved": 1234, "nonfinite": 0, "attempts": sum(p["patients"] for p in parts), "rejected": 0},
        "mixed": [],
        "parts": parts,
    }


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return make_release(tmp_path / "release", [table_of(ROWS[:7], SCHEMA), table_of(ROWS[7:], SCHEMA)], SCHEMA)


def with_columns(schema: TableSchema, **changes: dict[str, Any]) -> TableSchema:
    """Return the schema with some fields of the named columns changed."""
    columns = tuple(c.model_copy(update=changes.get(c.name, {})) for c in schema.columns)
    return schema.model_copy(update={"columns": columns})


def test_codes_beyond_32_bits_stay_as_they_are(tmp_path: Path) -> None:
    codes = (2**62 + 1, 5_000_000_000, 2)
    wide = Column(name="Sex", kind="categorical", categories=codes, missing="modelled")
    columns = [wide if column.name == "Sex" else column for column in SCHEMA.columns]
    schema = SCHEMA.model_copy(update={"columns": tuple(columns)})
    rows = [(*row[:3], None if i == 1 else codes[i % 3], *row[4:]) for i, row in enumerate(ROWS)]
    release = make_release(tmp_path / "release", [table_of(rows, schema)], schema)
    sex = load(release)["Sex"]
    assert sex.dtype == "Int64"
    assert [None if pd.isna(code) else code for code in sex] == [row[3] for row in rows]
    assert load(release, "arrays").dynamic[0, :2, 1].tolist() == pytest.approx([0, np.nan], nan_ok=True)


def test_table_holds_every_row_in_order(release: Path) -> None:
    table = load(release)
    assert list(table) == ["id", "month", "VL", "Sex", "Drug", "Dose"]
    cells = table.astype(object).where(table.notna(), None)
    assert [tuple(row) for row in cells.itertuples(index=False)] == ROWS


def test_table_has_types_of_the_schema(release: Path) -> None:
    types = load(release).dtypes
    assert [str(types[name]) for name in ("id", "month", "VL", "Sex", "Dose")] == [
        *("int64", "int32", "float64", "Int32", "int32")
    ]
    assert isinstance(types["Drug"], pd.CategoricalDtype)
    assert list(types["Drug"].categories) == ["b", "a", "c"]


def test_arrays_static(release: Path) -> None:
    arrays = load(release, "arrays")
    assert isinstance(arrays, Arrays)
    assert arrays.patients.tolist() == [7, 9, 12]
    assert (arrays.static_names, arrays.dynamic_names) == (("Sex",), ("VL", "Drug", "Dose"))
    np.testing.assert_array_equal(arrays.static, [[np.nan], [1], [0]])  # categories = (2, 1)


def test_arrays_dynamic(release: Path) -> None:
    arrays, nan = load(release, "arrays"), np.nan
    np.testing.assert_array_equal(
        arrays.dynamic[0], [[100, 1, 1], [0, 0, 0], [nan, nan, nan], [50, nan, 1], [nan, 2, 1]]
    )
    np.testing.assert_array_equal(
        arrays.dynamic[1], [[8.5, 2, 0], [4, nan, 1], [2, 1, 1], [nan, nan, nan], [nan, nan, nan]]
    )
    np.testing.assert_array_equal(arrays.observed, ~np.isnan(arrays.dynamic))
    assert arrays.observed.sum() == 10 + 8 + 3


def test_arrays_masks_tell_gap_from_end(release: Path) -> None:
    arrays = load(release, "arrays")
    assert arrays.lengths.tolist() == [5, 3, 1]
    assert arrays.has_row.astype(int).tolist() == [[1, 1, 0, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]
    assert arrays.in_record.astype(int).tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]


def test_transitions_by_hand(release: Path) -> None:
    steps, nan = load(release, "transitions"), np.nan
    assert isinstance(steps, Transitions)
    assert (steps.state_names, steps.action_names) == (("VL", "Sex"), ("Drug", "Dose"))
    assert steps.patient.tolist() == [7, 7, 9, 9]
    assert steps.time.tolist() == [1, 4, 1, 2]
    np.testing.assert_array_equal(steps.s, [[100, nan], [50, nan], [8.5, 1], [4, 1]])
    np.testing.assert_array_equal(steps.s_next, [[0, nan], [nan, nan], [4, 1], [2, 1]])
    assert steps.a.dtype == np.int32
    assert steps.a.tolist() == [[1, 1], [-1, 1], [2, 0], [-1, 1]]
    assert steps.done.tolist() == [False, True, False, True]
    assert steps.skipped == 1
    # -2 log(VL at t + 1) + 0.5 VL at t + 1; 0 counts as 0.05 under the logarithm, and a missing VL leaves no reward
    rewards = [-2 * math.log(0.05), nan, -2 * math.log(4) + 2, -2 * math.log(2) + 1]
    np.testing.assert_allclose(steps.r, rewards, rtol=1e-15)


def test_own_reward_sees_states_and_actions(release: Path) -> None:
    steps = load(release, "transitions", reward=lambda s, a, s_next: s_next[:, 0] - s[:, 0] + 1000 * a[:, 1])
    np.testing.assert_array_equal(steps.r, [-100 + 1000, np.nan, -4.5, -2 + 1000])


def test_real_action_makes_actions_float(tmp_path: Path) -> None:
    schema = with_columns(SCHEMA, VL={"role": "action"})
    steps = load(make_release(tmp_path / "r", [table_of(ROWS, schema)], schema), "transitions")
    assert steps.action_names == ("VL", "Drug", "Dose")
    np.testing.assert_array_equal(steps.a, [[100, 1, 1], [50, np.nan, 1], [8.5, 2, 0], [4, np.nan, 1]])


def test_no_transition_at_all(tmp_path: Path) -> None:
    alone = [ROWS[0], ROWS[5], (12, 3, *ROWS[7][2:])]  # the times follow on, the patients do not
    steps = load(make_release(tmp_path / "r", [table_of(alone, SCHEMA)], SCHEMA), "transitions")
    assert (steps.s.shape, steps.a.shape, steps.r.shape, steps.done.shape) == ((0, 2), (0, 2), (0,), (0,))
    assert steps.skipped == 0


def test_reward_of_a_constant_column_is_finite(tmp_path: Path) -> None:
    schema = with_columns(SCHEMA, VL={"decimals": None})
    rows = [(pid, time, 0.0, *rest) for pid, time, _, *rest in ROWS]
    steps = load(make_release(tmp_path / "r", [table_of(rows, schema)], schema), "transitions")
    np.testing.assert_allclose(steps.r, -2 * math.log(0.5e-9))


def test_order_of_parts_is_the_manifests(tmp_path: Path) -> None:
    release = make_release(tmp_path / "r", [table_of(ROWS[:7], SCHEMA), table_of(ROWS[7:], SCHEMA)], SCHEMA)
    (release / "data/part-00001.parquet").rename(release / "data/part-00000000.parquet")  # sorts first
    manifest = json.loads((release / "manifest.json").read_text())
    manifest["parts"][1]["file"] = "data/part-00000000.parquet"
    write_json(release / "manifest.json", manifest)
    assert load(release)["id"].tolist() == [row[0] for row in ROWS]


def edit_manifest(release: Path, **changes: Any) -> None:
    manifest = json.loads((release / "manifest.json").read_text())
    write_json(release / "manifest.json", {**manifest, **changes})


def test_unknown_form(release: Path) -> None:
    with pytest.raises(ReleaseError, match="'frame' is unknown; choose one of table, arrays, transitions"):
        load(release, "frame")


def test_reward_for_a_table(release: Path) -> None:
    with pytest.raises(ReleaseError, match="only transitions have rewards"):
        load(release, "table", reward=lambda s, a, s_next: s[:, 0])


def test_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="is not a folder"):
        load(tmp_path / "nothing")


def test_folder_that_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"holds no manifest\.json"):
        load(tmp_path)


def test_incomplete_release(release: Path) -> None:
    (release / "incomplete").mkdir()
    with pytest.raises(ReleaseError, match="is not complete; call hg3 generate again"):
        load(release)


def test_newer_format(release: Path) -> None:
    edit_manifest(release, format=2)
    with pytest.raises(ReleaseError, match="format 2 and this hg3 reads up to 1; update hg3"):
        load(release)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format": "1"}', '{"format": 1, "parts": 3}'])
def test_manifest_that_is_none(release: Path, content: str) -> None:
    (release / "manifest.json").write_text(content)
    with pytest.raises(ReleaseError, match="altered"):
        load(release)


def test_missing_part(release: Path) -> None:
    (release / "data/part-00001.parquet").unlink()
    with pytest.raises(ReleaseError, match=r"lacks 1 of 2 parts, the first part-00001\.parquet"):
        load(release)


def test_truncated_part(release: Path) -> None:
    part = release / "data/part-00001.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(ReleaseError, match=r"part-00001\.parquet is not readable Parquet"):
        load(release)


def test_part_of_another_length(release: Path) -> None:
    pq.write_table(table_of(ROWS[4:7], SCHEMA), release / "data/part-00001.parquet")
    with pytest.raises(ReleaseError, match="do not hold as many rows"):
        load(release)


def test_part_of_another_schema(release: Path) -> None:
    pq.write_table(table_of(ROWS[7:], SCHEMA).drop(["VL"]), release / "data/part-00001.parquet")
    with pytest.raises(ReleaseError, match="other columns than the schema"):
        load(release)


@pytest.mark.parametrize("rows", [ROWS[4:] + ROWS[:4], [ROWS[1], ROWS[0]], [ROWS[0], ROWS[0]], [(7, 6, *ROWS[0][2:])]])
def test_rows_out_of_order_or_off_the_grid(tmp_path: Path, rows: list[tuple[Any, ...]]) -> None:
    release = make_release(tmp_path / "r", [table_of(rows, SCHEMA)], SCHEMA)
    for form in ("arrays", "transitions"):
        with pytest.raises(ReleaseError, match="unsorted or lie off"):
            load(release, form)


def test_code_that_the_schema_does_not_list(tmp_path: Path) -> None:
    release = make_release(tmp_path / "r", [table_of([*ROWS[:7], (*ROWS[7][:5], 77)], SCHEMA)], SCHEMA)
    with pytest.raises(ReleaseError, match="column 'Dose' has 1 codes that the schema does not list") as error:
        load(release, "arrays")
    assert "77" not in str(error.value).removeprefix(str(release))


def test_transitions_need_an_action(tmp_path: Path) -> None:
    schema = with_columns(SCHEMA, Drug={"role": "state"}, Dose={"role": "state"})
    release = make_release(tmp_path / "r", [table_of(ROWS, schema)], schema)
    with pytest.raises(ReleaseError, match=r'has no action, .* add `role = "action"`'):
        load(release, "transitions", reward=lambda s, a, s_next: s[:, 0])


def test_transitions_need_a_reward(tmp_path: Path) -> None:
    schema = SCHEMA.model_copy(update={"reward": ()})
    release = make_release(tmp_path / "r", [table_of(ROWS, schema)], schema)
    with pytest.raises(ReleaseError, match=r"has no reward; add \[\[reward\]\]"):
        load(release, "transitions")
    assert load(release, "transitions", reward=lambda s, a, s_next: a[:, 1]).r.tolist() == [1, 1, 0, 1]


def test_reward_of_a_wrong_shape(release: Path) -> None:
    with pytest.raises(ReleaseError, match=r"returned shape \(4, 2\), not one a transition, \(4,\)"):
        load(release, "transitions", reward=lambda s, a, s_next: s)


def art_release(folder: Path) -> Path:
    """Write a release of 4 patients and 60 months under the shipped schema."""
    schema, rng = load_schema("art-hiv-v2"), np.random.default_rng(0)
    months, rows = schema.length, 4 * schema.length
    columns: dict[str, Any] = {schema.patient: np.repeat(np.arange(4), months), schema.time: np.tile(range(months), 4)}
    for column in schema.columns:
        codes = rng.choice(column.categories or (1.5, 20.25), 4 if column.static else rows)
        columns[column.name] = np.repeat(codes, months) if column.static else codes
    fields = arrow_schema(schema)
    table = pa.table({name: pa.array(cells, fields.field(name).type) for name, cells in columns.items()})
    return make_release(folder, [table], schema)


def test_examples_of_the_document_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    art_release(tmp_path / "release")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hg3, "load", load, raising=False)
    examples = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) >= 4
    names: dict[str, Any] = {}
    for example in examples:
        exec(example, names)
    assert names["arrays"].dynamic.shape == (4, 60, 11)
    assert Path("release.csv.gz").is_file()
