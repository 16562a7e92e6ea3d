"""Rules in a schema: read and written, and refused where they do not fit it or each other."""

from typing import Any

import pytest

from hg3.errors import SchemaError
from hg3.table.schema import TableSchema, parse_schema
from tests.table.cases import make_schema, tiny_columns
from tests.table.ruled import COLUMNS, RULES, ruled_schema


def test_rules_survive_toml_and_say_what_they_mean() -> None:
    schema = ruled_schema([*RULES, {"kind": "order", "columns": ["low", "high"], "on_table": "error"}])
    assert parse_schema(schema.to_toml(), "again") == schema
    assert [rule.sentence for rule in schema.rules] == [
        "low <= mid <= high",
        "first <= last",
        "never sex = M with lab = a",
        "never drug = 3 with lab = b",
        "dose never falls",
        "stage never rises",
        "state stays ill",
        "no row after state = dead",
        "low <= high",
    ]
    assert [rule.on_table for rule in schema.rules] == ["warn"] * 8 + ["error"]


def test_rules_are_read_from_toml() -> None:
    text = ruled_schema([]).to_toml() + '[[rules]]\nkind = "forbidden"\ncodes = { sex = "M", drug = 3 }\n'
    (rule,) = parse_schema(text, "made").rules
    assert rule.columns == ("sex", "drug")


def order(*columns: str) -> dict[str, Any]:
    return {"kind": "order", "columns": columns}


def forbidden(**codes: Any) -> dict[str, Any]:
    return {"kind": "forbidden", "codes": codes}


REFUSED: list[tuple[list[dict[str, Any]], str]] = [
    ([order("low")], "at least 2 items"),
    ([order("low", "hihg")], "which names ['hihg'], not among its columns"),
    ([order("low", "mid", "low")], "which names a column twice"),
    ([order("low", "stage")], "which orders columns that are not all real"),
    ([order("first", "low")], "which orders static columns with others"),
    ([order("high", "low")], "whose columns have bounds that do not rise along it"),
    ([order("low", "mid"), order("low", "mid")], "has the rule 'low <= mid' twice"),
    ([order("first", "last"), order("last", "first")], "order rules that go in a circle: "),
    ([forbidden(sex="M")], "at least 2 items"),
    ([forbidden(sex="M", lab="z")], "whose code 'z' is not among the categories of 'lab'"),
    ([forbidden(lab="a", sex="M")], "whose last column gives way and is static while others are not"),
    ([forbidden(sex="M", learned="x")], "whose column 'learned' lists no `categories`"),
    ([forbidden(sex="M", flag=1)], "which would change 'flag', and that says whether another column counts"),
    ([forbidden(sex="M", state="ill"), {"kind": "absorbing", "column": "state", "code": "ill"}], "may not, for its pa"),
    (
        [forbidden(sex="M", stage="I"), {"kind": "monotone", "column": "stage", "direction": "increasing"}],
        "name another column last",
    ),
    (
        [forbidden(sex="M", lab=code) for code in "abc"],
        "has forbidden rules that leave no codes for lab with sex = M; name other columns last",
    ),
    (
        [{"kind": "forbidden", "codes": codes} for codes in ({"drug": 0, "vent": 1}, {"vent": 1, "sex": "F"})],
        "name another one last",
    ),
    (
        [forbidden(drug=3, lab="a"), forbidden(sex="M", lab="b"), forbidden(stage="I", lab="c")],
        "leave no codes for lab with drug = 3 and sex = M and stage = I; name other columns last, or forbid",
    ),
    (
        [forbidden(drug=0, state="well"), forbidden(state="ill", drug=3), forbidden(drug=0, state="ill")]
        + [forbidden(state="dead", drug=0), forbidden(state="dead", drug=3), forbidden(state="well", drug=3)]
        + [forbidden(state=code, drug=7) for code in ("well", "ill", "dead")],
        "leave no codes for drug, state; name other columns last",
    ),
    ([{"kind": "monotone", "column": "lab", "direction": "increasing"}], "whose column is neither real nor ordinal"),
    ([{"kind": "monotone", "column": "last", "direction": "increasing"}], "whose column is static"),
    ([{"kind": "monotone", "column": "dose", "direction": "up"}], "'increasing' or 'decreasing'"),
    (
        [{"kind": "monotone", "column": "dose", "direction": f"{way}creasing"} for way in ("in", "de")],
        "has column 'dose' both rising and falling",
    ),
    ([{"kind": "absorbing", "column": "state", "code": "gone"}], "whose code 'gone' is not among the categories"),
    ([{"kind": "absorbing", "column": "dose", "code": 1}], "whose column 'dose' lists no `categories`"),
    ([{"kind": "absorbing", "column": "flag", "code": 1}], "which would change 'flag'"),
    ([{"kind": "ends", "column": "sex", "code": "M"}], "whose column is static"),
    ([{"kind": "ends", "column": "sate", "code": "M"}], "which names ['sate']"),
    ([{"kind": "sorted", "column": "dose"}], "'order', 'forbidden', 'monotone', 'absorbing', 'ends'"),
    ([{"kind": "ends", "column": "state", "code": "dead", "on_table": "ignore"}], "'warn' or 'error'"),
]
MORE: list[dict[str, Any]] = [
    {"name": "learned", "kind": "categorical"},
    {"name": "flag", "kind": "binary", "indicates": "dose", "masks": True},
]


@pytest.mark.parametrize(("rules", "fault"), REFUSED)
def test_rules_that_cannot_be_kept_are_refused(rules: list[dict[str, Any]], fault: str) -> None:
    plain = make_schema([*COLUMNS, *MORE]).model_dump(exclude_defaults=True, exclude_none=True)
    with pytest.raises(ValueError) as error:
        TableSchema.model_validate({**plain, "rules": rules})
    assert fault in str(error.value)


def test_forbidding_all_codes_but_one_is_fine() -> None:
    assert len(ruled_schema([forbidden(sex="M", lab="a"), forbidden(sex="M", lab="b")]).rules) == 2
    assert len(ruled_schema([forbidden(sex=s, lab=c) for s, c in (("M", "a"), ("M", "b"), ("F", "c"))]).rules) == 3


def test_codes_are_the_same_however_they_are_written() -> None:
    schema = make_schema(tiny_columns(), rules=[{"kind": "ends", "column": "drug", "code": "3"}])
    assert schema.by_name["drug"].position("3") == 2 == schema.by_name["drug"].position(3)
    assert schema.by_name["drug"].position(4) == -1 == schema.by_name["VL"].position(0)


def test_a_fault_is_told_as_one_of_the_schema() -> None:
    text = ruled_schema([]).to_toml() + '[[rules]]\nkind = "ends"\ncolumn = "sate"\ncode = 1\n'
    with pytest.raises(
        SchemaError, match=r"schema s.toml has the rule 'no row after sate = 1', which names \['sate'\]"
    ):
        parse_schema(text, "s.toml")
