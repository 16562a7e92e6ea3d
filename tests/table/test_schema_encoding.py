"""An encoder of the schema alone: exact there and back, the same for any table, and told what it cannot know."""

import math
from typing import Any

import numpy as np
import pytest

from hg3.errors import SchemaError, TableError
from hg3.table.checks import checked_cohort
from hg3.table.cohorts.from_schema import simulate_schema
from hg3.table.column import Column
from hg3.table.decoding import decode
from hg3.table.encoding import Encoder, encode
from hg3.table.schema import CONTINUES, PRESENT, TableSchema, load_schema, shipped_schemas
from hg3.table.schema_encoding import check_complete, encoder_of_schema, even_values, transform_of
from tests.table.cases import make_schema, make_table, tiny_columns

REAL: dict[str, Any] = {"name": "x", "kind": "real", "decimals": 1, "bounds": [0.0, 10.0]}


def private_schema(*changed: dict[str, Any]) -> TableSchema:
    """Return the tiny schema with bounds of the height, and with `changed` columns."""
    columns = {c["name"]: c for c in (*tiny_columns(), *changed)}
    columns["height"] = {"bounds": [100.0, 220.0], **columns["height"]}
    return make_schema(list(columns.values()), name="tiny")


@pytest.mark.parametrize("name", [*shipped_schemas(), "tiny"])
def test_there_and_back(name: str) -> None:
    schema = private_schema() if name == "tiny" else load_schema(name)
    table = make_table(16) if name == "tiny" else simulate_schema(schema, 12, seed=0, complete=False)
    cohort, _ = checked_cohort(table, schema)
    encoder, _ = encoder_of_schema(schema)
    assert Encoder.from_dict(encoder.to_dict(), schema) == encoder
    encoded = encode(cohort, encoder)
    back = decode(encoded.x_static, encoded.x_dynamic, np.arange(cohort.n_patients), encoder).to_pandas()
    again, _ = checked_cohort(back, encoder.released_schema(), to_learn_from=False)
    assert np.array_equal(again.time_index, cohort.time_index)
    for column in schema.columns:
        one, other = cohort.values[column.name], again.values[column.name]
        if column.is_real:
            half = np.maximum(0.5 * 10.0 ** -(column.decimals or 0), 2e-6 * np.abs(one))
            masked = schema.masked_by(column.name)
            counts = np.ones(len(one), bool) if masked is None else cohort.values[masked] == 1
            assert (np.isnan(one[counts]) == np.isnan(other[counts])).all(), column.name
            assert (np.abs(one - other) <= half * 1.0001)[counts & ~np.isnan(one)].all(), column.name
        else:
            assert np.array_equal(one, other), column.name


@pytest.mark.parametrize(("kind", "forward"), [("none", lambda v: v), ("log1p", math.log1p)])
def test_even_values_have_mean_0_and_sd_1(kind: str, forward: Any) -> None:
    low, high = 3.0, 4000.0
    encoder, warnings = encoder_of_schema(make_schema([{**REAL, "bounds": [low, high], "transform": kind}]))
    assert warnings == []
    (codec,) = (fitted.codec for fitted in encoder.columns)
    assert codec is not None
    middle, width = (forward(low) + forward(high)) / 2, forward(high) - forward(low)
    for value in (low, 77.5, 1234.5, high):
        wanted = (forward(value) - middle) / (width / math.sqrt(12))
        assert float(codec.encode(np.array([value]))[0]) == pytest.approx(wanted, abs=5e-3)  # of 1,001 rounded values
    block = encoder.layout.dynamic[0]
    assert (block.low, block.high) == pytest.approx((-math.sqrt(3), math.sqrt(3)), abs=5e-3)
    values = even_values(Column(**{**REAL, "bounds": (low, high), "transform": kind}))
    assert (values[0], values[-1]) == pytest.approx((low, high))


def test_a_scaling_of_the_range_is_that_of_the_bounds() -> None:
    encoder, _ = encoder_of_schema(make_schema([REAL]), "range")
    (codec,) = (fitted.codec for fitted in encoder.columns)
    assert codec is not None
    assert codec.encode(np.array([0.0, 5.0, 10.0])).tolist() == pytest.approx([-1.0, 0.0, 1.0], abs=1e-6)


@pytest.mark.parametrize(
    ("transform", "bounds", "wanted"),
    [
        (None, (0.0, 99.0), "log1p"),
        (None, (0.0, 98.0), "none"),
        (None, (10.0, 700.0), "none"),
        (None, (-1.0, 1e6), "none"),
        ("box-cox", (0.0, 1e7), "log1p"),
        ("box-cox", (10.0, 250.0), "none"),
        ("yeo-johnson", (-60.0, 60.0), "none"),
        ("log1p", (0.0, 2.0), "log1p"),
        ("none", (0.0, 1e7), "none"),
    ],
)
def test_the_transform_is_the_schemas_or_follows_from_the_bounds(
    transform: Any, bounds: tuple[float, float], wanted: str
) -> None:
    assert transform_of(Column(**{**REAL, "transform": transform, "bounds": bounds})) == wanted


def test_every_code_occurs_and_no_column_is_a_constant() -> None:
    schema = private_schema({"name": "drug", "kind": "categorical", "categories": [7, 8, 9]})
    encoder, _ = encoder_of_schema(schema)
    assert encoder.fitted("drug").occurring == encoder.fitted("drug").categories == (7, 8, 9)
    assert [fitted.constant for fitted in encoder.columns] == [None] * len(encoder.columns)
    assert {CONTINUES, PRESENT} <= {block.name for block in encoder.layout.dynamic}


def test_one_code_or_one_number_is_a_constant_whatever_the_table() -> None:
    one = [
        {"name": "c", "kind": "categorical", "categories": ["a"]},
        {**REAL, "bounds": [0.96, 1.04]},
        {**REAL, "name": "y"},
    ]
    encoder, _ = encoder_of_schema(make_schema(one))
    assert [fitted.constant for fitted in encoder.columns] == ["a", 1.0, None]
    assert [block.name for block in encoder.layout.dynamic] == ["y", CONTINUES, PRESENT]


def test_a_record_that_is_known_to_be_complete_needs_no_blocks_of_its_shape() -> None:
    encoder, _ = encoder_of_schema(private_schema(), complete=True)
    assert not {CONTINUES, PRESENT} & {block.name for block in encoder.layout.dynamic}
    for month in (2, 5):  # a gap, an early end
        table, schema = make_table(1), private_schema()
        check_complete(checked_cohort(table, schema, to_learn_from=False)[0])
        with pytest.raises(TableError, match=r"has a row at each of the 6 times, and the table has others; leave it"):
            check_complete(checked_cohort(table[table["month"] != month], schema, to_learn_from=False)[0])


def test_a_record_of_one_time_has_no_blocks_of_its_shape() -> None:
    encoder, _ = encoder_of_schema(make_schema([REAL], length=1))
    assert [block.name for block in encoder.layout.dynamic] == ["x"]


@pytest.mark.parametrize(
    ("change", "lack"),
    [
        ({"bounds": [0.0, math.inf]}, "has no finite bounds"),
        ({"bounds": [-math.inf, 5.0]}, "has no finite bounds"),
        ({"decimals": None}, "has no decimals"),
        ({"transform": "quantile"}, "has the transform quantile, which is fitted"),
        ({"kind": "categorical", "decimals": None, "bounds": [-math.inf, math.inf]}, "lists no categories"),
    ],
)
def test_what_the_schema_leaves_to_the_data_is_refused(change: dict[str, Any], lack: str) -> None:
    columns = [{k: v for k, v in (REAL | change).items() if v is not None}, {**REAL, "name": "fine"}]
    with pytest.raises(SchemaError, match=f"learns .* from the schema alone, and in 'made' column 'x' {lack}; state"):
        encoder_of_schema(make_schema(columns))


def test_normal_scores_are_refused() -> None:
    with pytest.raises(SchemaError, match=r"encoding\.scaling is normal, which is fitted; set it to standard"):
        encoder_of_schema(make_schema([REAL]), "normal")


def test_all_that_is_lacking_is_named_at_once() -> None:
    columns = [{"name": "x", "kind": "real"}, {"name": "ward", "kind": "categorical"}]
    with pytest.raises(
        SchemaError, match="'x' has no finite bounds; column 'x' has no decimals; column 'ward' lists no"
    ):
        encoder_of_schema(make_schema(columns))
