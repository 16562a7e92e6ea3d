"""The schema: read once, refused in a sentence, written back equal."""

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hg3.errors import SchemaError
from hg3.table.column import canonical_code, lattice_bounds
from hg3.table.schema import TableSchema, load_schema, parse_schema, shipped_schemas
from tests.table.cases import make_schema

REAL: dict[str, Any] = {"name": "x", "kind": "real"}
BINARY: dict[str, Any] = {"name": "b", "kind": "binary"}
CATEGORY: dict[str, Any] = {"name": "c", "kind": "categorical"}


def test_a_schema_comes_back_from_its_toml(tiny_schema: TableSchema) -> None:
    assert parse_schema(tiny_schema.to_toml(), "tiny") == tiny_schema
    open_ended = make_schema([REAL | {"bounds": (0.0, math.inf)}], reward=[{"column": "x", "weight": 1.0}])
    assert parse_schema(open_ended.to_toml(), "made") == open_ended


@pytest.mark.parametrize("name", shipped_schemas())
def test_a_shipped_schema_comes_back_from_its_toml(name: str) -> None:
    assert parse_schema(load_schema(name).to_toml(), name) == load_schema(name)


def test_the_shipped_art_schema() -> None:
    schema = load_schema("art-hiv-v2")
    assert len(schema.columns) == 13 and schema.length == 60
    assert [c.name for c in schema.columns if c.static] == ["Gender", "Ethnic"]
    assert not any(c.masks for c in schema.columns)
    assert [c.name for c in schema.columns if c.indicates] == ["VL (M)", "CD4 (M)", "Drug (M)"]


def test_a_binary_column_has_codes_0_and_1() -> None:
    assert make_schema([BINARY]).by_name["b"].categories == (0, 1)


def test_a_label_may_be_its_own_code() -> None:
    assert make_schema([BINARY | {"labels": ["0", "1"]}]).by_name["b"].labels == ("0", "1")


def test_a_copy_of_a_schema_knows_its_new_columns(tiny_schema: TableSchema) -> None:
    assert "VL" in tiny_schema.by_name
    copy = tiny_schema.model_copy(update={"columns": tiny_schema.columns[:1]})
    assert list(copy.by_name) == ["sex"]


COLUMN_FAULTS = [
    (REAL | {"categories": [1, 2]}, "is real, so it takes no categories, labels, indicates or masks"),
    (REAL | {"bounds": [2.0, 2.0]}, "has bounds that are not lowest < highest"),
    (REAL | {"bounds": [0.0, math.nan]}, "has bounds that are not lowest < highest"),
    (
        REAL | {"bounds": [-1.0, 2.0], "transform": "box-cox"},
        "negative lower bound, which box-cox cannot take",
    ),
    (REAL | {"bounds": [0.1, 0.4], "decimals": 0}, "has bounds with no number of 0 decimals between them"),
    (BINARY | {"transform": "log1p"}, "is binary, so it takes no transform, decimals or bounds"),
    (BINARY | {"decimals": 1}, "is binary, so it takes no transform, decimals or bounds"),
    (BINARY | {"categories": [0, 1, 2]}, "is binary and has 3 categories instead of 2"),
    (CATEGORY | {"categories": [1, "1"]}, "names a category twice"),
    (CATEGORY | {"categories": ["1", "1.0"]}, "names a category twice"),
    (CATEGORY | {"categories": []}, "has an empty list of categories"),
    (
        CATEGORY | {"categories": ["a", " "]},
        "has an empty text as a category; an empty cell is a missing one",
    ),
    (CATEGORY | {"categories": [2**63, 1]}, "has a category beyond 64 bits; write it in quotes"),
    (CATEGORY | {"kind": "ordinal"}, "is ordinal, so its categories must be listed in their order"),
    (CATEGORY | {"categories": [1, 2], "labels": ["one"]}, "has 1 labels for 2 categories"),
    (CATEGORY | {"categories": [1, 2, 3], "labels": ["a", "a", "b"]}, "has the same label for two categories"),
    (BINARY | {"labels": ["1", "0"]}, "has a label that is another category's code; choose another label"),
    (BINARY | {"masks": True}, "masks a partner, so it must be binary and name the partner in `indicates`"),
    (CATEGORY | {"masks": True, "indicates": "x"}, "masks a partner, so it must be binary"),
]


@pytest.mark.parametrize(("column", "sentence"), COLUMN_FAULTS)
def test_a_column_that_contradicts_itself(column: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make_schema([column])
    assert sentence in str(caught.value)


MASK = {"kind": "binary", "indicates": "x", "masks": True}
SCHEMA_FAULTS: list[tuple[list[dict[str, Any]], dict[str, Any], str]] = [
    ([REAL, REAL], {}, "names ['x'] more than once among patient, time, columns and ignore"),
    ([REAL], {"time": "x"}, "names ['x'] more than once"),
    ([REAL], {"ignore": ["id"]}, "names ['id'] more than once"),
    ([REAL], {"format": 99}, "has format 99 and this hg3 reads up to 1; update hg3"),
    (
        [BINARY],
        {"reward": [{"column": "b", "weight": 1}]},
        "has a reward on 'b', which is not one of its real",
    ),
    ([BINARY | {"indicates": "y"}], {}, "has column 'b' indicating the unknown column 'y'"),
    ([BINARY | {"indicates": "b"}], {}, "has column 'b' indicating itself"),
    (
        [REAL | {"static": True}, MASK | {"name": "m"}],
        {},
        "has 'm' masking 'x': one is static, the other is not",
    ),
    ([REAL, MASK | {"name": "m"}, MASK | {"name": "n"}], {}, "has two columns masking 'x'"),
    (
        [REAL, MASK | {"name": "m"}, MASK | {"name": "n", "indicates": "m"}],
        {},
        "has 'n' masking 'm', which masks a column itself",
    ),
    (
        [REAL | {"missing": "modelled"}, REAL | {"name": "x (observed)"}],
        {},
        "has columns ['x (observed)'], names that hg3 needs for itself; rename them",
    ),
    ([REAL | {"name": "(record goes on)"}], {}, "has columns ['(record goes on)'], names that hg3 needs"),
]


@pytest.mark.parametrize(("columns", "table", "sentence"), SCHEMA_FAULTS)
def test_a_schema_that_contradicts_itself(columns: list, table: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make_schema(columns, **table)
    assert sentence in str(caught.value)


OUTCOME: dict[str, Any] = {"name": "d", "kind": "categorical", "static": True, "categories": ["dead", "alive"]}
REAL_TARGET: dict[str, Any] = {"name": "t", "column": "x", "below": 1.0, "observe": 2}
CODE_TARGET: dict[str, Any] = {"name": "u", "column": "d", "codes": ["dead"], "observe": 6}
TARGET_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"above": 2.0}, "takes one of `codes`, `below` and `above`"),
    ({"below": None}, "takes one of `codes`, `below` and `above`"),
    ({"until": 2}, "has until = 2, which is not after observe = 2"),
    ({"observe": 0}, "greater than or equal to 1"),
    ({"name": ""}, "at least 1 character"),
    ({"column": "y"}, "has target 't' on the unknown columns ['y']"),
    ({"hide": ["y"]}, "has target 't' on the unknown columns ['y']"),
    ({"below": None, "codes": [1]}, "has target 't' on 'x' (real), which takes `below` or `above`"),
    ({"column": "d"}, "has target 't' on 'd' (categorical), which takes `codes`"),
    (CODE_TARGET | {"observe": 2, "until": 4, "below": None}, "has target 'u' with `until`, but 'd' is static"),
    (CODE_TARGET | {"observe": 7, "below": None}, "has target 'u' beyond the 6 times of a record"),
    ({"until": 7}, "has target 't' beyond the 6 times of a record"),
    ({"observe": 6}, "has target 't' that observes all times, and none is left for the outcome"),
    (CODE_TARGET | {"codes": ["lost"], "below": None}, "has target 'u' with codes ['lost'], which 'd' does not have"),
]


@pytest.mark.parametrize(("changes", "sentence"), TARGET_FAULTS)
def test_a_target_that_cannot_be_predicted(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make_schema([REAL, OUTCOME], targets=[REAL_TARGET | changes])
    assert sentence in str(caught.value)


def test_two_targets_of_one_name() -> None:
    with pytest.raises(ValidationError, match=r"names the targets \['t'\] more than once"):
        make_schema([REAL, OUTCOME], targets=[REAL_TARGET, CODE_TARGET | {"name": "t"}])


def test_targets_come_back_from_toml() -> None:
    schema = make_schema([REAL, OUTCOME], targets=[REAL_TARGET, CODE_TARGET], subgroups=[], quasi_identifiers=["d"])
    assert parse_schema(schema.to_toml(), "made") == schema
    assert [target.until for target in schema.targets] == [None, None]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"subgroups": ["x"]}, "has ['x'] among its subgroups, which takes static columns with codes"),
        ({"subgroups": ["height"]}, "has ['height'] among its subgroups, which takes static columns with codes"),
        ({"quasi_identifiers": ["d", "x"]}, "has ['x'] among its quasi_identifiers, which takes static columns"),
    ],
)
def test_groups_of_what_is_not_of_a_patient(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make_schema([REAL, OUTCOME, REAL | {"name": "height", "static": True}], **changes)
    assert sentence in str(caught.value)


def test_subgroups_and_quasi_identifiers_are_the_static_columns_unless_said() -> None:
    columns = [REAL, OUTCOME, REAL | {"name": "height", "static": True}]
    schema = make_schema(columns)
    assert [c.name for c in schema.known_subgroups()] == ["d"]
    assert [c.name for c in schema.known_quasi_identifiers()] == ["d", "height"]
    said = make_schema(columns, subgroups=[], quasi_identifiers=["height"])
    assert said.known_subgroups() == () and [c.name for c in said.known_quasi_identifiers()] == ["height"]


HEAD = 'name = "t"\npatient = "id"\ntime = "month"\nstep = "month"\nlength = 3\n'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name = ", "schema here is not TOML"),
        (HEAD, "schema here columns: Field required"),
        (
            HEAD + "[[columns]]\nname = 'a'\nkind = 'real'\ncolour = 'red'",
            "column 'a'.colour: Extra inputs are",
        ),
        (
            HEAD + "colour = 1\n[[columns]]\nname = 'a'\nkind = 'real'",
            "colour: Extra inputs are not permitted",
        ),
        (HEAD + "[[columns]]\nname = 'a'\nkind = 'number'", "column 'a'.kind: Input should be 'real', 'cat"),
        (HEAD + "[[columns]]\nname = 'a'\nkind = 'ordinal'", "column 'a': is ordinal, so its categories"),
        (HEAD + "[[columns]]\nkind = 'real'", "columns.0.name: Field required"),
        (HEAD + "columns = 3", "schema here columns: "),
        (
            HEAD.replace("3", "0") + "[[columns]]\nname = 'a'\nkind = 'real'",
            "length: Input should be greater",
        ),
        (HEAD.replace("id", "") + "[[columns]]\nname = 'a'\nkind = 'real'", "patient: String should have at"),
    ],
)
def test_a_schema_text_that_cannot_be_used(text: str, sentence: str) -> None:
    with pytest.raises(SchemaError) as caught:
        parse_schema(text, "here")
    assert sentence in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    text = HEAD + "x = 1\n[[columns]]\nname = 'a'\nkind = 'ordinal'\n[[columns]]\nname = 'b'\nkind = '?'"
    with pytest.raises(SchemaError) as caught:
        parse_schema(text, "here")
    assert all(part in str(caught.value) for part in ("x: Extra", "column 'a': is ordinal", "column 'b'.kind"))


@pytest.mark.parametrize("name", ["no-such-schema", "", "\0", "/"])
def test_a_schema_that_is_not_there(name: str) -> None:
    with pytest.raises(SchemaError, match=r"is neither a shipped schema \(art-hiv-v2.*\) nor a readable TOML"):
        load_schema(name)


def test_a_schema_from_a_file(tiny_schema: TableSchema, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(tiny_schema.to_toml(), encoding="utf-8")
    assert load_schema(tmp_path / "s.toml") == tiny_schema
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SchemaError, match="UnicodeDecodeError"):
        load_schema(tmp_path / "bytes.toml")


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        *((one, "1") for one in (1, 1.0, "1", "1.0", " 1 ", True, "True")),
        *((zero, "0") for zero in (0, -0.0, "FALSE", "-0")),
        *((text, text) for text in ("A b", "01", "1e2", "1.5", "-3", "yes")),
        *((number, str(number)) for number in (-3, 1.5, 2**70)),
        (1e15, "1000000000000000"),
        ("+3", "3"),
    ],
)
def test_one_code_has_one_text(cell: object, code: str) -> None:
    assert canonical_code(cell) == code


@pytest.mark.parametrize(
    ("bounds", "decimals", "inside"),
    [
        ((0.25, 0.95), 1, (0.3, 0.9)),
        ((0.1, 0.3), 1, (0.1, 0.3)),
        ((-149.0, 151.0), -2, (-100.0, 100.0)),
        ((-math.inf, math.inf), 3, (-math.inf, math.inf)),
        ((1e20, 1.5e300), 9, (1e20, 1.5e300)),
        ((0.1, 0.4), 0, (1.0, 0.0)),
    ],
)
def test_lattice_bounds_lie_inside(bounds: tuple, decimals: int, inside: tuple) -> None:
    assert lattice_bounds(bounds, decimals) == inside
