"""The types of a release's columns."""

import pyarrow as pa

from hg3.table.column import Code
from hg3.table.schema import TableSchema


def arrow_schema(schema: TableSchema) -> pa.Schema:
    """Return the types of a release's columns: float64 for reals, integers or dictionary text for codes.

    Not float32, which holds no 0.1: a rounded value would be on no decimal, and could lie outside its bounds.
    """
    fields = [pa.field(schema.patient, pa.int64()), pa.field(schema.time, pa.int32())]
    for column in schema.columns:
        kind = pa.float64() if column.is_real else code_type(column.categories)
        fields.append(pa.field(column.name, kind))
    return pa.schema(fields)


def code_type(codes: tuple[Code, ...] | None) -> pa.DataType:
    """Return the type of a column of codes: text where one of them is, else integers wide enough."""
    whole = [code for code in codes or () if isinstance(code, int)]
    if len(whole) < len(codes or ()):
        return pa.dictionary(pa.int32(), pa.string())
    return pa.int32() if all(abs(code) < 2**31 for code in whole) else pa.int64()
