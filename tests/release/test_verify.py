"""A release verifies as it was made, and no otherwise."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hg3 import disk
from hg3.errors import ConfigError, ReleaseError
from hg3.release import plan as plan_module
from hg3.release.recompute import agreeing_share
from hg3.release.verify import verify_release
from hg3.release.writer import generate
from hg3.training.run import train
from tests import runs
from tests.runs import SIZES, TINY, make_release, make_run, manifest_of, seal, sum_anew
from tests.table.cases import make_schema

one_thread, command = runs.one_thread, runs.command
PATIENTS = 75  # parts of 32, 32 and 11; blocks of 16
PART_0, PART_1, PART_2 = (f"data/part-0000{i}.parquet" for i in range(3))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    runs.write_cohort(folder)
    # A cohort may be clipped, its release may not: VL shows the difference.
    schema = (folder / "schema.toml").read_text().replace('name = "VL"', 'name = "VL"\nout_of_bounds = "clip"')
    (folder / "schema.toml").write_text(schema)
    out = folder / "run"
    runs.train(folder / "table.parquet", out, folder / "schema.toml", changes=runs.TINY, updates=runs.ENOUGH)
    return out


@pytest.fixture(scope="module")
def made(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(run, tmp_path_factory.mktemp("made") / "release", PATIENTS)


@pytest.fixture
def release(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(made, tmp_path / "release"))


def rewrite(release: Path, part: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change a part's rows and keep its blocks as row groups."""
    with pq.ParquetFile(release / part) as file:
        blocks = [file.read_row_group(i) for i in range(file.num_row_groups)]
    with pq.ParquetWriter(release / part, blocks[0].schema, compression="zstd") as writer:
        for block in [change(blocks[0]), *blocks[1:]]:
            writer.write_table(block)


def replaced(table: pa.Table, name: str, rows: list[int], value: Any) -> pa.Table:
    """Return the table with a column's cells at `rows` replaced."""
    cells = table[name].to_pylist()
    for row in rows:
        cells[row] = value
    kind = table.schema.field(name).type
    array = pa.array(cells, kind.value_type if pa.types.is_dictionary(kind) else kind)
    array = array.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else array
    return table.set_column(table.schema.get_field_index(name), name, array)


def test_good_release_verifies(release: Path, run: Path) -> None:
    found = verify_release(release, recompute=PATIENTS, run=run)
    assert (found.files, found.patients, found.recomputed_patients) == (8, PATIENTS, PATIENTS)
    assert found.rows == manifest_of(release)["rows"]
    assert found.recomputed_equal == "bytes"


def test_few_patients_recompute_whole_blocks(release: Path, run: Path) -> None:
    assert verify_release(release, recompute=1, run=run).recomputed_patients in (16, 11)


def test_release_of_one_patient_verifies(run: Path, tmp_path: Path) -> None:
    release = make_release(run, tmp_path / "r", 1)
    assert verify_release(release, recompute=1, run=run).patients == 1


def test_part_may_lack_a_column_that_can_be_missing(release: Path) -> None:
    """The last part may be of one patient, whose height nobody measured."""

    def without(table: pa.Table) -> pa.Table:
        everyone = list(range(len(table)))
        for name in ("height", "VL", "CD4"):
            table = replaced(table, name, everyone, None)
        return replaced(table, "CD4 (M)", everyone, 0)

    rewrite(release, PART_2, without)
    seal(release)
    assert verify_release(release).patients == PATIENTS


def test_folder_name_that_looks_like_a_partition(made: Path, tmp_path: Path, run: Path) -> None:
    release = shutil.copytree(made, tmp_path / "seed=7")
    assert verify_release(release, recompute=3, run=run).patients == PATIENTS


def test_a_report_has_no_sums_and_is_all_that_may_be_beside_the_release(release: Path) -> None:
    (release / "report" / "figures").mkdir(parents=True)
    for name in ("report.html", "metrics.json", "figures/trend-cd4.svg"):
        (release / "report" / name).write_text("report")
    verify_release(release)
    names = ("notes.txt", "figures/table.csv", "figures/more/trend-cd4.svg", "more/report.html", "metrics.json.bak")
    for name in names:
        path = release / "report" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        with pytest.raises(ReleaseError, match=rf"verify: report/{name} is not a file of this release$"):
            verify_release(release)
        path.unlink()


def test_provenance_may_vary_between_makings_and_is_sealed(release: Path) -> None:
    path = release / "provenance.json"
    content = json.loads(path.read_text())
    disk.write_sealed(path, {**content, "host": "another"})
    verify_release(release)
    for altered in ("{}", "nonsense", path.read_text().replace("another", "a third"), path.read_text() + " "):
        path.write_text(altered)
        with pytest.raises(ReleaseError, match=r"verify: provenance\.json is missing or altered: its seal is not that"):
            verify_release(release)
    path.unlink()
    with pytest.raises(ReleaseError, match=r"verify: provenance\.json is missing or altered"):
        verify_release(release)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs the program sha256sum")
def test_sha256sum_accepts_it_and_what_it_accepts_is_everything(release: Path) -> None:
    check = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
    done = subprocess.run(check, cwd=release, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    files = {str(path.relative_to(release)) for path in release.rglob("*") if path.is_file()}
    assert {line.removesuffix(": OK") for line in done.stdout.splitlines()} == files - {"SHA256SUMS", "provenance.json"}
    (release / "CARD.md").write_text("another card")
    assert subprocess.run(check, cwd=release, capture_output=True, check=False).returncode == 1


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def edit(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace("e", "E", 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "harm", "fault"),
    [
        (PART_1, flip, f"{PART_1} is altered: its SHA-256 is not the recorded one"),
        (PART_1, cut, f"{PART_1} is altered"),
        (PART_1, Path.unlink, f"{PART_1} is missing"),
        ("manifest.json", lambda path: path.write_text(path.read_text() + " "), "manifest.json is altered: its SHA"),
        ("schema.toml", edit, "schema.toml is altered"),
        ("schema.toml", Path.unlink, "schema.toml is missing"),
        ("CARD.md", edit, "CARD.md is altered"),
        ("dictionary.csv", edit, "dictionary.csv is altered"),
        ("croissant.json", Path.unlink, "croissant.json is missing"),
        ("SHA256SUMS", Path.unlink, "SHA256SUMS is missing or altered"),
        ("SHA256SUMS", lambda path: path.write_bytes(b"\xff"), "SHA256SUMS is missing or altered"),
        ("SHA256SUMS", lambda path: path.write_text("nonsense"), "SHA256SUMS is missing or altered"),
        ("data/part-00003.parquet", lambda path: path.write_text("x"), "part-00003.parquet is not a file of this rel"),
        ("notes.txt", lambda path: path.write_text("x"), "notes.txt is not a file of this release"),
    ],
)
def test_harm_is_found_and_named(release: Path, name: str, harm: Callable[[Path], Any], fault: str) -> None:
    harm(release / name)
    with pytest.raises(ReleaseError) as error:
        verify_release(release)
    assert str(error.value).startswith(f"{release} does not verify: ")
    assert fault in str(error.value)
    assert str(error.value).count(name) == 1


def test_every_finding_is_told(release: Path) -> None:
    flip(release / PART_0)
    cut(release / PART_2)
    (release / "extra").write_text("x")
    with pytest.raises(ReleaseError, match=rf"{PART_0} is altered.*{PART_2} is altered.*extra is not a file"):
        verify_release(release)


def drop_sum(release: Path, name: str) -> None:
    lines = (release / "SHA256SUMS").read_text().splitlines(keepends=True)
    (release / "SHA256SUMS").write_text("".join(line for line in lines if name not in line))


def test_file_without_a_sum(release: Path) -> None:
    edit(release / "CARD.md")
    drop_sum(release, "CARD.md")
    with pytest.raises(ReleaseError, match=r"CARD\.md is not listed in SHA256SUMS"):
        verify_release(release)


def test_surplus_part_with_a_sum(release: Path) -> None:
    shutil.copy(release / PART_0, release / "data" / "part-00003.parquet")
    seal(release)
    with pytest.raises(ReleaseError, match=r"part-00003\.parquet is not a file of this release"):
        verify_release(release)


def test_sums_that_agree_with_an_altered_part(release: Path) -> None:
    rewrite(release, PART_1, another_stage)
    manifest = (release / "manifest.json").read_bytes()
    seal(release)
    (release / "manifest.json").write_bytes(manifest)
    sum_anew(release)
    with pytest.raises(ReleaseError, match=f"{PART_1}: it is not the part that the manifest names"):
        verify_release(release)


def another_stage(table: pa.Table) -> pa.Table:
    """Change one cell to another code of the schema, which nothing but a sum or computing anew can tell."""
    return replaced(table, "stage", [0], "NA" if table["stage"][0].as_py() == "mild" else "mild")


def of_patient(table: pa.Table, number: int) -> list[int]:
    """Return the rows of the block's patient `number` in order of appearance."""
    ids = table["id"].to_numpy()
    return [int(row) for row in np.flatnonzero(ids == np.unique(ids)[number])]


def long_patient(table: pa.Table) -> list[int]:
    """Return the rows of the first patient of at least 3 rows."""
    candidates = (of_patient(table, number) for number in range(16))
    return next(rows for rows in candidates if len(rows) > 2)


def changing_static(table: pa.Table) -> pa.Table:
    row = long_patient(table)[1]
    other = "M" if table["sex"][row].as_py() == "F" else "F"
    return replaced(table, "sex", [row], other)


def static_with_a_hole(table: pa.Table) -> pa.Table:
    rows = long_patient(table)
    return replaced(replaced(table, "height", rows, 170.0), "height", rows[1:2], None)


def masked_value(table: pa.Table) -> pa.Table:
    return replaced(replaced(table, "CD4 (M)", [0], 0), "CD4", [0], 5.0)


def repeated_pair(table: pa.Table) -> pa.Table:
    first, second = long_patient(table)[:2]
    return replaced(table, "month", [second], table["month"][first].as_py())


def swapped_rows(table: pa.Table) -> pa.Table:
    first, second = long_patient(table)[:2]
    order = list(range(len(table)))
    order[first], order[second] = second, first
    return table.take(order)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: replaced(t, "VL", [0], 2e7), "column 'VL' has 1 cells outside its bounds 0 to 1e+07 (row 1)"),
        (lambda t: replaced(t, "VL", [0], -0.01), "column 'VL' has 1 cells outside its bounds"),
        (lambda t: replaced(t, "height", long_patient(t), float("inf")), "column 'height' has"),
        (lambda t: replaced(t, "drug", [2], 7), "column 'drug' has 1 cells with codes that are not in the schema"),
        (lambda t: replaced(t, "stage", [2], "bad"), "column 'stage' has 1 cells with codes that are not in the sc"),
        (lambda t: replaced(t, "drug", [2], None), "column 'drug' has 1 missing cells"),
        (changing_static, "column 'sex' is static and changes within 1 patients"),
        (static_with_a_hole, "column 'height' is static and has a value on some rows of a patient only"),
        (repeated_pair, "rows repeat a pair (id, month)"),
        (swapped_rows, "it is not sorted by patient and time"),
        (lambda t: replaced(t, "month", [0], None), "it has rows without a patient or a time"),
        (lambda t: replaced(t, "month", of_patient(t, 0)[-1:], 6), "times outside the grid 0 to 5"),
        (lambda t: replaced(t, "id", of_patient(t, 15), 99), "its patients or rows are not those of the manifest"),
        (lambda t: t.slice(1), "its patients or rows are not those of the manifest"),
        (masked_value, "column 'CD4' has 1 values that its indicator masks"),
    ],
)
def test_content_is_checked_where_all_sums_agree(
    release: Path, change: Callable[[pa.Table], pa.Table], fault: str
) -> None:
    rewrite(release, PART_1, change)
    seal(release)
    with pytest.raises(ReleaseError) as error:
        verify_release(release)
    assert fault in str(error.value)
    assert f"{PART_1}: " in str(error.value)
    assert PART_0 not in str(error.value)
    assert PART_2 not in str(error.value)


def test_columns_of_another_type(release: Path) -> None:
    table = pq.read_table(release / PART_1)
    pq.write_table(table.set_column(5, "CD4", table["CD4"].cast(pa.float32())), release / PART_1)
    seal(release)
    with pytest.raises(ReleaseError, match=f"{PART_1}: its columns or their types are not those of the schema"):
        verify_release(release)


def test_part_that_is_no_parquet(release: Path) -> None:
    (release / PART_1).write_text("nonsense")
    seal(release)
    with pytest.raises(ReleaseError, match=f"{PART_1}: it is not readable Parquet"):
        verify_release(release)


def test_blocks_joined_into_one_row_group(release: Path) -> None:
    pq.write_table(pq.read_table(release / PART_1), release / PART_1, compression="zstd")
    seal(release)
    with pytest.raises(ReleaseError, match=f"{PART_1}: its row groups are not the blocks of the manifest"):
        verify_release(release)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"rows": 5}, "do not add up to the rows of the manifest"),
        ({"patients": 76}, "names other parts than its patients and blocks make"),
        ({"part_blocks": 1}, "names other parts"),
        ({"patients": 2**40, "block": 1, "part_blocks": 1}, "names other parts"),
    ],
)
def test_manifest_that_contradicts_the_parts(release: Path, changes: dict[str, Any], fault: str) -> None:
    seal(release, **changes)
    with pytest.raises(ReleaseError, match=fault):
        verify_release(release)


OTHER_VALUES = r"column '{}' has other values on \d+ rows than the conditions in manifest\.json give them"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"where": {"sex": "F"}}, OTHER_VALUES.format("sex")),
        ({"where": {"sex": "X"}}, OTHER_VALUES.format("sex")),
        ({"where": {"height": 170.0}}, OTHER_VALUES.format("height")),
        ({"where": {"height": "tall"}}, OTHER_VALUES.format("height")),
        ({"where": {"height": 10**400}}, OTHER_VALUES.format("height")),
        ({"balance": "sex"}, OTHER_VALUES.format("sex")),
        ({"where": {"CD4": 5}}, "has conditions on columns that are not static"),
        ({"where": {"gender": "F"}}, "has conditions on columns that are not static"),
        ({"balance": "height"}, "balances one without codes"),
        ({"balance": ""}, "balances one without codes"),
    ],
)
def test_conditions_that_the_rows_contradict(release: Path, changes: dict[str, Any], fault: str) -> None:
    seal(release, **changes)
    with pytest.raises(ReleaseError, match=fault):
        verify_release(release)


@pytest.mark.parametrize("condition", [{"where": {"sex": "M", "height": 171.5}}, {"balance": "sex"}])
def test_one_patient_without_what_all_were_given(condition: dict[str, Any], run: Path, tmp_path: Path) -> None:
    release = make_release(run, tmp_path / "r", PATIENTS, **condition)
    verify_release(release)
    other = {"F": "M", "M": "F"}

    def forge(table: pa.Table) -> pa.Table:
        rows = of_patient(table, 3)
        return replaced(table, "sex", rows, other[table["sex"][rows[0]].as_py()])

    rewrite(release, PART_1, forge)
    seal(release)
    with pytest.raises(ReleaseError, match=f"{PART_1}: {OTHER_VALUES.format('sex')}"):
        verify_release(release)


def test_recompute_finds_a_forged_block(release: Path, run: Path) -> None:
    rewrite(release, PART_1, another_stage)
    seal(release)
    verify_release(release)  # sums, manifest and content agree
    with pytest.raises(ReleaseError, match="block 2 computed anew differs from the released one"):
        verify_release(release, recompute=PATIENTS, run=run)


def test_recompute_finds_a_part_of_another_seed(release: Path, run: Path, tmp_path: Path) -> None:
    other = make_release(run, tmp_path / "other", PATIENTS, seed=9)
    shutil.copy(other / PART_2, release / PART_2)
    parts = manifest_of(release)["parts"]
    parts[2] = manifest_of(other)["parts"][2]
    seal(release, parts=parts, rows=sum(part["rows"] for part in parts))
    with pytest.raises(ReleaseError, match="block 4 computed anew differs"):
        verify_release(release, recompute=PATIENTS, run=run)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine than the release was made on."""
    here = plan_module.environment
    for module in ("hg3.release.plan", "hg3.release.recompute"):
        monkeypatch.setattr(f"{module}.environment", lambda source: {**here(source), "implementation": "abacus"})


@pytest.mark.usefixtures("elsewhere")
def test_recompute_elsewhere_compares_within_the_tolerance(release: Path, run: Path) -> None:
    assert verify_release(release, PATIENTS, run).recomputed_equal == "98% of cells within tolerance"
    rewrite(release, PART_1, lambda table: replaced(table, "height", long_patient(table), None))
    rewrite(release, PART_1, lambda table: replaced(table, "drug", list(range(len(table))), 3))
    seal(release)
    with pytest.raises(ReleaseError, match=r"block 2 computed anew agrees in \d\d\.\d% of its cells; 98% are wanted"):
        verify_release(release, PATIENTS, run)


def test_cells_agree_column_by_column_whatever_their_names() -> None:
    keys = {"id": [0, 0, 1], "month": [0, 1, 0]}
    table = pd.DataFrame({**keys, "x": [1, 2, 3], "x again": ["a", "b", None], "_merge": [0.0, 100.0, None]})
    assert agreeing_share(table, table) == 1.0
    assert agreeing_share(table, table.iloc[:2]) == pytest.approx(6 / 9)
    assert agreeing_share(table, table.assign(_merge=[1.0, 100.0, 1.0], x=[1, 2, 4])) == pytest.approx(7 / 9)


@pytest.mark.usefixtures("elsewhere")
def test_missing_rows_do_not_agree_elsewhere(release: Path, run: Path) -> None:
    """A row that one of the two lacks counts against the share in all its cells."""

    def without_ends(table: pa.Table) -> pa.Table:
        records = [of_patient(table, number) for number in range(16)]
        ends = [rows[-1] for rows in records if len(rows) > 1]
        return table.take([row for row in range(len(table)) if row not in ends])

    rewrite(release, PART_1, without_ends)
    parts = manifest_of(release)["parts"]
    parts[1]["rows"] = pq.read_metadata(release / PART_1).num_rows
    seal(release, parts=parts, rows=sum(part["rows"] for part in parts))
    with pytest.raises(ReleaseError, match=r"block 2 computed anew agrees in [678]\d"):
        verify_release(release, PATIENTS, run)


def test_recompute_with_another_run(release: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path, updates=2, seed=4)
    with pytest.raises(ReleaseError, match=r"the best checkpoint of .* is not the one that made this release"):
        verify_release(release, recompute=1, run=other)


def test_recompute_with_another_sampler_table(release: Path, run: Path) -> None:
    sampler = manifest_of(release)["sampler"]
    sampler["rows"][0][2] += 1e-3
    seal(release, sampler=sampler)
    with pytest.raises(ReleaseError, match=r"manifest.json is not the plan of the checkpoint: sampler"):
        verify_release(release, recompute=1, run=run)


def test_recompute_with_a_forged_schema(release: Path, run: Path) -> None:
    text = (release / "schema.toml").read_text()
    assert "5000.0" in text
    (release / "schema.toml").write_text(text.replace("5000.0", "9000.0"))
    seal(release)
    verify_release(release)
    with pytest.raises(ReleaseError, match=r"schema\.toml is not the one that the checkpoint"):
        verify_release(release, recompute=1, run=run)


def test_recompute_needs_a_run(release: Path) -> None:
    with pytest.raises(ConfigError, match=r"recomputing needs the run .*; give --run"):
        verify_release(release, recompute=1)


def test_newer_format(release: Path) -> None:
    seal(release, format=2)
    with pytest.raises(ReleaseError, match="has format 2 and this hg3 reads up to 1; update hg3"):
        verify_release(release)


def test_incomplete_release(run: Path, tmp_path: Path) -> None:
    generate(run, tmp_path / "r", PATIENTS, shard=(1, 2), **SIZES)
    with pytest.raises(ReleaseError, match="is not complete; call hg3 generate again"):
        verify_release(tmp_path / "r")


@pytest.mark.parametrize("name", ["", "nothing", "file"])
def test_what_is_no_release(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ReleaseError, match="is not a release of hg3"):
        verify_release(tmp_path / name)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 1}', "null"])
def test_manifest_that_is_none(release: Path, content: str) -> None:
    (release / "manifest.json").write_text(content)
    with pytest.raises(ReleaseError, match=r"manifest\.json is (truncated or )?altered"):
        verify_release(release)


@pytest.mark.parametrize(
    "key", ["parts", "patients", "rows", "block", "part_blocks", "seed", "sampler", "mixed", "precision", "checkpoint"]
)
def test_manifest_with_a_nonsensical_entry(release: Path, key: str) -> None:
    manifest = manifest_of(release)
    without = {name: entry for name, entry in manifest.items() if name != key}
    for nonsense in (without, {**manifest, key: ("x",) if key == "parts" else 0.5}):
        disk.write_json(release / "manifest.json", nonsense)
        with pytest.raises(ReleaseError, match=r"manifest\.json is altered: it is not a manifest of hg3"):
            verify_release(release)


HALF = "\ud800"  # of a surrogate pair, which JSON can name and no file can hold


def spoil(release: Path, place: tuple[str | int, ...], value: Any) -> None:
    """Set one entry of the manifest to anything that JSON text can say, and its sum."""
    manifest: Any = manifest_of(release)
    entry = manifest
    for key in place[:-1]:
        entry = entry[key]
    entry[place[-1]] = value
    (release / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True))
    sum_anew(release)


@pytest.mark.parametrize(
    "place, value",
    [
        (("preset",), HALF),
        (("checkpoint",), HALF),
        (("balance",), HALF),
        (("sampler", "solver"), HALF),
        (("parts", 0, "sha256"), HALF),
        (("where",), {HALF: 1}),
        (("where",), {"sex": HALF}),
    ],
)
def test_text_that_is_not_unicode(
    release: Path, place: tuple[str | int, ...], value: Any, command: Callable[..., Any]
) -> None:
    spoil(release, place, value)
    ended = command("release", "verify", release)
    assert ended.code == 2 and "manifest.json is altered: it holds text that is not Unicode; restore it" in ended.err
    assert ended.err.count("\n") == 1 and "Traceback" not in ended.err


@pytest.mark.parametrize(
    "place, value",
    [
        (("name",), []),
        (("title",), None),
        (("step",), 1),
        (("length",), 6.0),
        (("length",), "6"),
        (("format",), -1),
        (("format",), 0),
        (("format",), True),
        (("sampler", "rows"), []),
        (("sampler", "times"), []),
        (("sampler", "rows", 0), [0.5] * 6),
        (("sampler", "rows", 0), [0.5] * 8),
        (("sampler", "times", 0), -1),
        (("sampler", "times", 0), 0),
        (("sampler", "steps"), 1),
        (("sampler", "eta"), -0.5),
        (("sampler", "eta"), 1.5),
        (("sampler", "solver"), ""),
    ],
)
def test_an_entry_of_another_kind(release: Path, place: tuple[str | int, ...], value: Any) -> None:
    spoil(release, place, value)
    with pytest.raises(ReleaseError, match=r"manifest\.json is altered: it is not a manifest of hg3; get the release"):
        verify_release(release)


@pytest.mark.parametrize(
    "place", [("length",), ("sampler", "eta"), ("sampler", "rows", 0, 2), ("where",), ("name",), ("format",)]
)
@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_not_finite(release: Path, place: tuple[str | int, ...], number: str) -> None:
    spoil(release, place, {"height": "HERE"} if place == ("where",) else "HERE")
    path = release / "manifest.json"
    path.write_text(path.read_text().replace('"HERE"', number))
    sum_anew(release)
    with pytest.raises(ReleaseError, match=r"manifest\.json is (truncated or )?altered"):
        verify_release(release)


@pytest.mark.parametrize(
    "key, value",
    [("name", "forged"), ("name", ""), ("title", "Forged"), ("step", "day"), ("length", 7), ("length", -1)],
)
def test_an_entry_that_the_schema_contradicts(release: Path, key: str, value: Any) -> None:
    seal(release, **{key: value})
    with pytest.raises(ReleaseError, match=rf"manifest\.json has another {key} than schema\.toml"):
        verify_release(release)


def test_no_value_is_told(release: Path) -> None:
    rewrite(release, PART_1, lambda table: replaced(table, "VL", [0], 31415926.5))
    seal(release)
    with pytest.raises(ReleaseError) as error:
        verify_release(release)
    assert "31415926" not in str(error.value)


@pytest.mark.parametrize("name", ["CARD.md", "dictionary.csv", "croissant.json"])
def test_a_text_that_was_rewritten_with_its_sum_is_found(release: Path, name: str) -> None:
    text = (release / name).read_text(encoding="utf-8")
    (release / name).write_text(text.replace("e", "E", 1), encoding="utf-8")
    sum_anew(release)
    with pytest.raises(ReleaseError, match=f"{name} is not what the schema and the manifest make"):
        verify_release(release)


def test_a_manifest_of_another_preset_is_found_by_recomputing(release: Path, run: Path) -> None:
    seal(release, preset="forged")
    verify_release(release)
    with pytest.raises(ReleaseError, match=r"manifest.json is not the plan of the checkpoint: preset"):
        verify_release(release, recompute=1, run=run)


@pytest.mark.parametrize(
    "guardrail, sentence",
    [
        ({"nonfinite": 7, "rejected": -7}, "manifest.json' is altered|is altered"),
        ({"nonfinite": 7}, "counts values that were not finite"),
        ({"rejected": 3}, "other attempts than its patients"),
        ({"moved": 123456}, "counts moved otherwise than its parts do"),
    ],
)
def test_forged_guardrail_counts(guardrail: dict[str, int], sentence: str, release: Path) -> None:
    seal(release, guardrail={**manifest_of(release)["guardrail"], **guardrail})
    with pytest.raises(ReleaseError, match=sentence):
        verify_release(release)


def test_counts_forged_in_the_parts_too_are_found_by_computing_all_anew(release: Path, run: Path) -> None:
    manifest = manifest_of(release)
    for entry in manifest["parts"]:
        entry["moved"] += 1
    total = sum(entry["moved"] for entry in manifest["parts"])
    seal(release, parts=manifest["parts"], guardrail={**manifest["guardrail"], "moved": total})
    verify_release(release)
    with pytest.raises(ReleaseError, match=r"the manifest's counts are not what comes out again: \['moved'\]"):
        verify_release(release, recompute=manifest["patients"], run=run)


def test_times_below_zero_verify(tmp_path: Path) -> None:
    """A grid may start before 0; rows are in order all the same."""
    schema = make_schema([{"name": "x", "kind": "real"}], first_time=-3, length=6)
    table = pd.DataFrame({"id": np.repeat(np.arange(40), 6), "month": np.tile(np.arange(-3, 3), 40)})
    table["x"] = np.random.default_rng(0).normal(size=len(table))
    table.to_parquet(tmp_path / "t.parquet")
    (tmp_path / "s.toml").write_text(schema.to_toml())
    train(tmp_path / "t.parquet", tmp_path / "run", tmp_path / "s.toml", changes=TINY, updates=2)
    release = make_release(tmp_path / "run", tmp_path / "r", 20)
    assert verify_release(release, recompute=1, run=tmp_path / "run").patients == 20
