"""A release described in Croissant 1.0, the JSON-LD vocabulary that data search engines read."""

import re
from typing import Any

from hg3.release.card import PATIENT, SYNTHETIC, coded, step, time_sentence
from hg3.table.column import Column
from hg3.table.schema import TableSchema

SPECIFICATION = "http://mlcommons.org/croissant/1.0"
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
PARQUET = "application/x-parquet"  # the name that mlcroissant reads
PARTS, ROWS = "parts", "rows"  # the identifiers of the file set and of the record set


def croissant(schema: TableSchema, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the Croissant 1.0 description of a release: its files, and a field a column.

    Licence, address, creator and date are for whoever publishes the release to add: hg3 does not know them.
    """
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": schema.name,
        "description": _description(schema, manifest),
        "conformsTo": SPECIFICATION,
        "isLiveDataset": False,
        "keywords": ["synthetic data", "longitudinal health data"],
        "distribution": [_file_set(), *(_file_object(part) for part in manifest["parts"])],
        "recordSet": [_record_set(schema)],
    }


def _description(schema: TableSchema, manifest: dict[str, Any]) -> str:
    lead = f"{schema.title}. " if schema.title else ""
    size = f"{manifest['patients']} patients, {manifest['rows']} rows, one row a patient and {step(schema)}."
    source = f" Source: {schema.source}" if schema.source else ""
    return f"{lead}{SYNTHETIC} {size}{source}"


def _file_set() -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": PARTS,
        "name": PARTS,
        "description": "The Parquet files, in the order of their names, sorted by patient and time.",
        "encodingFormat": PARQUET,
        "includes": "data/part-*.parquet",
    }


def _file_object(part: dict[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": part["file"],
        "name": part["file"],
        "contentUrl": part["file"],
        "encodingFormat": PARQUET,
        "sha256": part["sha256"],
    }


def _record_set(schema: TableSchema) -> dict[str, Any]:
    columns = [
        (schema.patient, PATIENT, "sc:Integer"),
        (schema.time, time_sentence(schema), "sc:Integer"),
        *((column.name, _meaning(column), _data_type(column)) for column in schema.columns),
    ]
    identifiers = _identifiers([name for name, _, _ in columns])
    fields = [_field(*column, identifier) for column, identifier in zip(columns, identifiers, strict=True)]
    return {
        "@type": "cr:RecordSet",
        "@id": ROWS,
        "name": ROWS,
        "description": f"One row a patient and {step(schema)}.",
        "key": [{"@id": field["@id"]} for field in fields[:2]],
        "field": fields,
    }


def _identifiers(names: list[str]) -> list[str]:
    """Return different identifiers without the spaces that readers of Croissant refuse."""
    taken: list[str] = []
    for position, name in enumerate(names):
        plain = re.sub(r"[^0-9A-Za-z_-]+", "-", name).strip("-") or f"column-{position}"
        while plain in taken:
            plain += f"-{position}"
        taken.append(plain)
    return taken


def _field(name: str, description: str, data_type: str, identifier: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{ROWS}/{identifier}",
        "name": name,
        "description": description,
        "dataType": data_type,
        "source": {"fileSet": {"@id": PARTS}, "extract": {"column": name}},
    }


def _data_type(column: Column) -> str:
    if column.is_real:
        return "sc:Float"
    return "sc:Integer" if all(isinstance(code, int) for code in column.categories or ()) else "sc:Text"


def _meaning(column: Column) -> str:
    """Return the description with unit, or with codes and labels."""
    lead = column.description or column.name
    if not column.is_real:
        return f"{lead} ({'; '.join(coded(column))})" if column.categories else lead
    return f"{lead} ({column.unit})" if column.unit else lead
