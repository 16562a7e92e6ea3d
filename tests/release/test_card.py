"""The dictionary, the card and the Croissant description."""

import csv
import io
import json
import re
from typing import Any

import pytest

from hg3.release.card import card, dictionary_rows
from hg3.release.croissant import croissant
from hg3.table.column import Column
from hg3.table.schema import TableSchema, load_schema
from tests.release.test_load import SCHEMA, manifest_of

PARTS = [
    {"file": "data/part-00000.parquet", "sha256": "1" * 64, "rows": 70_000, "patients": 2048, "first_patient": 0},
    {"file": "data/part-00001.parquet", "sha256": "2" * 64, "rows": 3, "patients": 1, "first_patient": 2048},
]
MANIFEST = manifest_of(SCHEMA, PARTS)


def rows_of(schema: TableSchema) -> dict[str, dict[str, str]]:
    return {row["name"]: row for row in csv.DictReader(io.StringIO(dictionary_rows(schema)))}


def schema_of(*columns: Column, **changes: Any) -> TableSchema:
    return SCHEMA.model_copy(update={"columns": columns, "reward": (), **changes})


def test_dictionary_is_exactly_this() -> None:
    assert dictionary_rows(SCHEMA) == (
        "name,kind,static,unit,description,categories,lower_bound,upper_bound,decimals,missing,role\n"
        "id,patient,yes,,Number of a synthetic patient; it stands for nobody,,,,,never,\n"
        "month,time,no,month,Time in whole steps of one month,,1,5,0,never,\n"
        "VL,real,no,copies/mL,,,0,10000000,1,modelled,state\n"
        "Sex,binary,yes,,,2=W; 1=M,,,,modelled,state\n"
        "Drug,categorical,no,,,b; a; c,,,,modelled,action\n"
        "Dose,ordinal,no,,,10; 5,,,,never,action\n"
    )


def test_dictionary_survives_commas_and_quotes() -> None:
    column = Column(name='VL, "plasma"', kind="real", description="a,\nb", bounds=(-0.5, float("inf")))
    row = rows_of(schema_of(column))['VL, "plasma"']
    assert (row["description"], row["lower_bound"], row["upper_bound"], row["decimals"]) == ("a,\nb", "-0.5", "", "")


def test_dictionary_says_what_masks() -> None:
    flag = Column(name="VL (M)", kind="binary", indicates="VL", masks=True)
    never, modelled = (Column(name="VL", kind="real", missing=missing) for missing in ("never", "modelled"))
    assert rows_of(schema_of(never, flag))["VL"]["missing"] == "masked by VL (M)"
    assert rows_of(schema_of(modelled, flag))["VL"]["missing"] == "modelled; masked by VL (M)"
    assert rows_of(schema_of(never, flag))["VL (M)"]["missing"] == "never"


@pytest.mark.parametrize(
    "said",
    [
        "# A small cohort: synthetic release",
        "**Every row is synthetic.** 2,049 patients (70,003 rows)",
        "No row is a real patient",
        "preset `hg3` of hg3 0.1.0",
        f"SHA-256 `{'c0ffee' * 10}cafe`",
        "`dpm++`, 20 steps, seed 11",
        "1,234 intermediate values were moved back into the sampling bounds; 0 were not finite",
        "2 Parquet files in long format, one row a patient and month",
        "`month` lies in 1 to 5",
        "| VL | real | copies/mL | 0 to 10000000 | modelled |  |",
        "| Sex | binary, static |  | 2=W; 1=M | modelled |  |",
        "| Dose | ordinal, action |  | 10; 5 | never |  |",
        'hg3.load("RELEASE")',
        "pandas.read_parquet",
        "sha256sum -c SHA256SUMS",
        "hg3 release verify",
        "Not for clinical decisions",
        "holds none unless `report/` is here",
        "Synthetic is not the same as anonymous",
        "Made up, CC0. hg3 adds no licence",
    ],
)
def test_card_says(said: str) -> None:
    assert said in card(SCHEMA, MANIFEST)


def test_card_of_one_part_and_no_source() -> None:
    text = card(SCHEMA.model_copy(update={"source": " ", "title": ""}), manifest_of(SCHEMA, PARTS[:1]))
    assert "# mini: synthetic release" in text
    assert "1 Parquet file in" in text
    assert "names neither source nor licence" in text


def test_card_table_survives_pipes_braces_and_lines() -> None:
    text = card(schema_of(Column(name="a|b", kind="real", description="x\ny {z}", bounds=(1, float("inf")))), MANIFEST)
    assert "| a\\|b | real |  | at least 1 | never | x y {z} |" in text


def test_card_cuts_long_lists_of_codes() -> None:
    text = card(schema_of(Column(name="ICD", kind="categorical", categories=tuple(range(900)))), MANIFEST)
    assert "| 0; 1; 2; 3; 4; 5; 6; 7; … (900 codes) |" in text


def test_descriptions_depend_on_schema_and_manifest_alone() -> None:
    art, moved = load_schema("art-hiv-v2"), {**MANIFEST, "guardrail": {**MANIFEST["guardrail"], "moved": 5}}
    texts = [card(art, m) + json.dumps(croissant(art, m)) + dictionary_rows(art) for m in (MANIFEST, MANIFEST, moved)]
    assert texts[0] == texts[1] != texts[2]
    assert not re.search(r"20[2-9]\d-\d\d-\d\d", texts[0])


def test_croissant_names_files_with_their_sums() -> None:
    content = croissant(SCHEMA, MANIFEST)
    assert content["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert content["@context"]["cr"] == "http://mlcommons.org/croissant/"
    file_set, *files = content["distribution"]
    assert (file_set["@type"], file_set["includes"]) == ("cr:FileSet", "data/part-*.parquet")
    assert [(f["@type"], f["contentUrl"], f["sha256"]) for f in files] == [
        ("cr:FileObject", part["file"], part["sha256"]) for part in PARTS
    ]


def test_croissant_has_a_field_a_column() -> None:
    (record_set,) = croissant(SCHEMA, MANIFEST)["recordSet"]
    assert [(f["name"], f["dataType"]) for f in record_set["field"]] == [
        *(("id", "sc:Integer"), ("month", "sc:Integer"), ("VL", "sc:Float")),
        *(("Sex", "sc:Integer"), ("Drug", "sc:Text"), ("Dose", "sc:Integer")),
    ]
    assert [f["source"] for f in record_set["field"]] == [
        {"fileSet": {"@id": "parts"}, "extract": {"column": f["name"]}} for f in record_set["field"]
    ]
    assert record_set["key"] == [{"@id": "rows/id"}, {"@id": "rows/month"}]


def test_croissant_identifiers_are_plain_and_different() -> None:
    names = ("Rel CD4", "Rel-CD4", "Rel (CD4)", "Rel-CD4-4", "äöü", "id-5")
    fields = croissant(schema_of(*(Column(name=n, kind="real") for n in names)), MANIFEST)["recordSet"][0]["field"]
    identifiers = [field["@id"] for field in fields]
    assert len(set(identifiers)) == len(names) + 2
    assert all(re.fullmatch(r"rows/[0-9A-Za-z_-]+", identifier) for identifier in identifiers)
    assert [field["name"] for field in fields[2:]] == list(names)
