"""A table of irregular visits that breaks its rules in, a release that keeps them out, counted on the way."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hg3
from benchmarks.compare import compare_release
from hg3.errors import ConfigError, ReleaseError
from hg3.release.card import dictionary_rows
from hg3.release.conditions import check_balance, resolve_where
from hg3.release.verify import verify_release
from hg3.release.writer import generate
from hg3.table.checks import checked_cohort
from hg3.table.cohort import cells_of
from hg3.table.encoding import fit_encoder
from hg3.table.enforcement import RuleCount
from hg3.table.schema import TableSchema, load_schema
from hg3.table.violations import violations
from tests import runs
from tests.release.test_verify import PART_1, replaced, rewrite
from tests.runs import SIZES, TINY, manifest_of, seal
from tests.table.cases import make_schema
from tests.table.ruled import ruled_schema, ruled_table

one_thread = runs.one_thread
PATIENTS = 75


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on visits at times like 3.2 weeks, of which some share a bin of two weeks."""
    folder = tmp_path_factory.mktemp("ruled")
    schema = ruled_schema(name="ruled", step="week", bin=2, within="later")
    (folder / "schema.toml").write_text(schema.to_toml(), encoding="utf-8")
    table = ruled_table(40, length=12)
    table["month"] = np.round(table["month"] + np.random.default_rng(1).uniform(0, 0.9, len(table)), 3)
    table.to_csv(folder / "table.csv", index=False)
    hg3.train(folder / "table.csv", folder / "run", folder / "schema.toml", changes=TINY, updates=60)
    return folder / "run"


@pytest.fixture(scope="module")
def made(run: Path) -> Path:
    assert generate(run, run.parent / "release", PATIENTS, **SIZES)
    return run.parent / "release"


@pytest.fixture
def release(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(made, tmp_path / "release"))


@pytest.fixture(scope="module")
def schema(made: Path) -> TableSchema:
    return load_schema(made / "schema.toml")


def test_the_release_verifies_and_recomputes(made: Path, run: Path) -> None:
    found = verify_release(made, recompute=PATIENTS, run=run)
    assert (found.patients, found.recomputed_equal) == (PATIENTS, "bytes")


def test_the_release_keeps_every_rule(made: Path, schema: TableSchema) -> None:
    cohort, warnings = checked_cohort(hg3.load(made), schema)
    assert not [warning for warning in warnings if "rule" in warning]
    assert len(schema.rules) == 8
    for rule in schema.rules:
        assert not violations(rule, cells_of(cohort, rule.columns), schema.by_name)[0].any()


def test_the_manifest_counts_each_rule(made: Path, schema: TableSchema) -> None:
    manifest = manifest_of(made)
    counts = manifest["guardrail"]["rules"]
    assert [count["rule"] for count in counts] == [rule.sentence for rule in schema.rules]
    for count in counts:
        ends = count["rule"].startswith("no row")
        assert count["eligible"] >= count["violations_before"] and count["violations_after"] == 0
        if count["violations_before"]:
            assert (count["rows_dropped"] > 0, count["cells_changed"] > 0) == (ends, not ends)
    assert sum(count["violations_before"] > 0 for count in counts) > 5
    for number, count in enumerate(counts):
        for key in asdict(RuleCount()):
            assert count[key] == sum(part["rules"][number][key] for part in manifest["parts"])


def test_the_card_says_how_often_each_rule_was_broken(made: Path) -> None:
    text, counts = (made / "CARD.md").read_text(encoding="utf-8"), manifest_of(made)["guardrail"]["rules"]
    kinds = ["rows", "patients", "rows", "rows", "values", "values", "values", "rows"]
    for count, of in zip(counts, kinds, strict=True):
        share = count["violations_before"] / count["eligible"]
        assert (
            f"- Rule `{count['rule']}`: broken by {share:.2%} of {count['eligible']:,} {of} as sampled, by 0.00% here; "
            f"{count['cells_changed']:,} cells changed, {count['rows_dropped']:,} rows dropped\n"
        ) in text


def test_texts_tell_how_to_get_the_time_back(made: Path, schema: TableSchema) -> None:
    formula = "Time in whole bins of 2 weeks; the time in weeks is month x 2 + later"
    assert f"{formula}.\n" in (made / "CARD.md").read_text(encoding="utf-8")
    assert "one row a patient and bin of 2 weeks, sorted" in (made / "CARD.md").read_text(encoding="utf-8")
    assert f"month,time,no,bin of 2 weeks,{formula}," in dictionary_rows(schema)
    described = json.dumps(json.loads((made / "croissant.json").read_text(encoding="utf-8")))
    assert formula in described and "one row a patient and bin of 2 weeks" in described


def test_bins_and_offsets_are_released(made: Path, schema: TableSchema) -> None:
    table = hg3.load(made)
    assert list(table.columns[:3]) == ["id", "month", "later"]
    assert table["month"].between(0, 5).all() and table["later"].between(0, 1.999).all()
    assert table["later"].nunique() > 20
    arrays = hg3.load(made, "arrays")
    assert arrays.dynamic_names[0] == "later" and schema.bin == 2


def test_a_column_of_one_code_is_that_code_or_nothing(made: Path) -> None:
    table = hg3.load(made)
    assert str(table["vent"].dtype) == "Int32" and set(table["vent"].dropna()) == {1}
    assert 0.2 < table["vent"].isna().mean() < 0.8


def test_fewer_patients_in_other_parts_are_the_same(made: Path, run: Path, tmp_path: Path) -> None:
    assert generate(run, tmp_path / "fewer", 20, **{**SIZES, "part_blocks": 1})
    assert generate(run, tmp_path / "all", PATIENTS, **{**SIZES, "part_blocks": 1})
    assert manifest_of(tmp_path / "all")["guardrail"] == manifest_of(made)["guardrail"]
    few, all_ = hg3.load(tmp_path / "fewer"), hg3.load(made)
    pd.testing.assert_frame_equal(few, all_[all_["id"] < 20].reset_index(drop=True))


def test_an_export_is_a_table_again(made: Path, tmp_path: Path) -> None:
    hg3.export_csv(made, tmp_path / "table.csv")
    found = hg3.check(tmp_path / "table.csv", made / "schema.toml")
    assert found.errors == found.warnings == []
    assert hg3.train(tmp_path / "table.csv", tmp_path / "run", made / "schema.toml", changes=TINY, updates=1)


def test_a_release_is_compared_with_the_visits(made: Path, run: Path, tmp_path: Path) -> None:
    assert "later" in compare_release(made, run)["ks"]


# Forged releases.


def rows_with(table: pa.Table, **wanted: Any) -> list[int]:
    frame = table.to_pandas()
    return [int(row) for row in np.flatnonzero(np.all([frame[k] == v for k, v in wanted.items()], axis=0))]


def combined(table: pa.Table) -> pa.Table:
    row = rows_with(table, sex="M")[0]
    return replaced(table, "lab", [row], "a")


def falling(table: pa.Table) -> pa.Table:
    frame = table.to_pandas()
    last = frame.groupby("id").tail(1).index[frame.groupby("id").size() > 1][0]
    return replaced(table, "dose", [int(last)], 0.0)


def reviving(table: pa.Table) -> pa.Table:
    frame = table.to_pandas()
    first = frame.groupby("id").head(1).index[frame.groupby("id").size() > 1][0]
    return replaced(table, "state", [int(first)], "dead")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (combined, "it breaks the rule 'never sex = M with lab = a' 1 times and the manifest says 0"),
        (falling, "it breaks the rule 'dose never falls' 1 times"),
        (reviving, "it breaks the rule 'no row after state = dead'"),
    ],
)
def test_a_broken_rule_is_found_where_all_sums_agree(
    release: Path, change: Callable[[pa.Table], pa.Table], fault: str
) -> None:
    rewrite(release, PART_1, change)
    seal(release)
    with pytest.raises(ReleaseError) as error:
        verify_release(release)
    assert f"{PART_1}: {fault}" in str(error.value)


def guardrail_with(release: Path, number: int, **changes: Any) -> dict[str, Any]:
    guardrail: dict[str, Any] = manifest_of(release)["guardrail"]
    guardrail["rules"][number] |= changes
    return guardrail


def test_counts_that_do_not_add_up_are_found(release: Path) -> None:
    seal(release, guardrail=guardrail_with(release, 4, cells_changed=1))
    with pytest.raises(ReleaseError, match=r"manifest\.json counts the rule 'dose never falls' otherwise than"):
        verify_release(release)


@pytest.mark.parametrize("rules", [[], [{"rule": "dose never rises"}]])
def test_counts_of_other_rules_are_found(release: Path, rules: list[dict[str, Any]]) -> None:
    guardrail = manifest_of(release)["guardrail"]
    guardrail["rules"] = [counted | changed for counted, changed in zip(guardrail["rules"], rules, strict=False)]
    seal(release, guardrail=guardrail)
    with pytest.raises(ReleaseError, match=r"manifest\.json counts other rules than the schema has"):
        verify_release(release)


def test_counts_of_parts_that_are_gone_are_found(release: Path) -> None:
    parts = manifest_of(release)["parts"]
    del parts[0]["rules"]
    seal(release, parts=parts)
    with pytest.raises(ReleaseError, match=r"manifest\.json counts other rules than the schema has"):
        verify_release(release)


def test_a_rule_that_the_manifest_says_is_broken_may_be(release: Path) -> None:
    """Rules that contradict each other leave violations, which are counted; then as many must be there."""
    strict = load_schema(release / "schema.toml").to_toml().replace("[[rules]]", '[[rules]]\non_table = "error"')
    (release / "schema.toml").write_text(strict, encoding="utf-8")
    rewrite(release, PART_1, combined)
    manifest = manifest_of(release)
    manifest["guardrail"]["rules"][2]["violations_after"] = manifest["parts"][1]["rules"][2]["violations_after"] = 1
    seal(release, **manifest)
    assert verify_release(release).faults == []


def test_a_release_without_rules_counts_none(tmp_path: Path) -> None:
    made = runs.make_release(runs.make_run(tmp_path), tmp_path / "release", 4)
    manifest = manifest_of(made)
    assert manifest["guardrail"]["rules"] == [] == manifest["parts"][0]["rules"]
    assert "Rule" not in (made / "CARD.md").read_text(encoding="utf-8")
    del manifest["guardrail"]["rules"], manifest["parts"][0]["rules"]  # as an earlier hg3 wrote it
    seal(made, **manifest)
    assert verify_release(made).faults == []
    assert pq.read_table(made / "data").num_rows == manifest["rows"]


def test_counts_that_do_not_come_out_again_are_found(release: Path, run: Path) -> None:
    manifest = manifest_of(release)
    for counts in (manifest["guardrail"]["rules"][4], manifest["parts"][1]["rules"][4]):
        counts["cells_changed"] += 1
    seal(release, **manifest)
    assert verify_release(release).faults == []
    sentence = r"part-00001.parquet: the manifest's counts .* comes out again: \['rules'\]"
    with pytest.raises(ReleaseError, match=sentence):
        verify_release(release, recompute=PATIENTS, run=run)


# Conditions.


@pytest.mark.parametrize("name", ["first", "last"])
def test_what_a_rule_may_change_cannot_be_given(run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"--where names {name}, which may have to give way under the rule 'first <="):
        generate(run, tmp_path / "release", 4, where={name: 40})


def test_only_the_column_that_gives_way_cannot_be_given() -> None:
    columns = [{"name": name, "kind": "binary", "static": True} for name in "ab"] + [{"name": "x", "kind": "real"}]
    rules = [{"kind": "forbidden", "codes": {"a": 1, "b": 1}}]
    table = pd.DataFrame({"id": np.arange(12).repeat(2), "month": np.tile([0, 1], 12), "x": np.arange(24.0)})
    table["a"], table["b"] = table["id"] % 2, table["id"] // 2 % 2
    cohort, _ = checked_cohort(table, make_schema(columns, length=2, rules=rules))
    encoder, _ = fit_encoder(cohort, np.ones(12, bool))
    assert resolve_where({"a": 1}, encoder) == {"a": 1}
    check_balance("a", {}, encoder)
    with pytest.raises(ConfigError, match="--where names b, which may have to give way under the rule 'never a = 1 wi"):
        resolve_where({"b": 1}, encoder)
    with pytest.raises(ConfigError, match="--balance names b, which may have to give way"):
        check_balance("b", {}, encoder)
