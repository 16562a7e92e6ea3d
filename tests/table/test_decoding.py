"""Decoding: whatever the tensors hold, the table keeps the rules of its schema."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hg3.table.arrow import arrow_schema
from hg3.table.checks import check_table, checked_cohort
from hg3.table.decoding import decode, record_length
from hg3.table.encoding import Encoder, encode, fit_encoder
from hg3.table.schema import TableSchema
from tests.table.cases import make_schema, train_mask
from tests.table.strategies import Case, cases
from tests.table.test_encoding import fitted, rejecting_unfit_draws

N_SAMPLES = 9


def decode_random(encoder: Encoder, rng: np.random.Generator, scale: float, signs: bool) -> pa.Table:
    """Decode normal noise of `scale`, or plus and minus `scale`."""
    layout = encoder.layout
    shapes = ((N_SAMPLES, layout.n_static), (N_SAMPLES, layout.n_dynamic, layout.length))
    x_static, x_dynamic = (scale * rng.normal(size=shape) for shape in shapes)
    if signs:
        x_static, x_dynamic = scale * np.sign(x_static), scale * np.sign(x_dynamic)
    ids = np.arange(500, 500 + N_SAMPLES)
    return decode(x_static.astype(np.float32), x_dynamic.astype(np.float32), ids, encoder)


@pytest.mark.parametrize(("scale", "signs"), [(3.0, False), (1e6, True)])
@given(cases(), st.integers(0, 2**32))
def test_any_tensor_decodes_to_a_table_that_fits(scale: float, signs: bool, case: Case, seed: int) -> None:
    with rejecting_unfit_draws():
        _, encoder = fitted(case.schema, case.table, case.train)
    released = encoder.released_schema()
    made = decode_random(encoder, np.random.default_rng(seed), scale, signs)
    assert made.schema == arrow_schema(released)
    table = made.to_pandas()
    _, found = check_table(table, released)
    assert [error for error in found.errors if "has no usable cell" not in error] == []
    assert table["id"].nunique() == N_SAMPLES
    assert table.sort_values(["id", "month"]).index.equals(table.index)
    for fit in encoder.columns:
        cells = table[fit.column.name].dropna()
        if fit.column.is_real:
            assert np.isfinite(cells).all() and cells.between(*fit.column.bounds).all()
        else:
            assert cells.isin(list(fit.categories) + [str(code) for code in fit.categories]).all()
        if fit.column.static:
            assert (table.groupby("id")[fit.column.name].nunique(dropna=False) == 1).all()


def test_decoding_writes_ids_times_and_types(tiny_schema: TableSchema, tiny_table: pd.DataFrame) -> None:
    schema = tiny_schema.model_copy(update={"first_time": 3})
    cohort, encoder = fitted(schema, tiny_table.assign(month=tiny_table["month"] + 3), train_mask(16))
    encoded = encode(cohort, encoder)
    table = decode(encoded.x_static, encoded.x_dynamic, np.arange(16) + 10**12, encoder)
    assert table.column_names == ["id", "month", *(column.name for column in schema.columns)]
    assert table["id"].to_pylist()[0] == 10**12 and min(table["month"].to_pylist()) == 3
    types = {field.name: field.type for field in table.schema}
    assert types["drug"] == pa.int32() and types["VL"] == pa.float64()
    assert types["sex"] == pa.dictionary(pa.int32(), pa.string())
    assert set(table["stage"].to_pylist()) == {"mild", "quite bad", "NA"}


def test_reals_have_no_negative_zero(tiny_schema: TableSchema, tiny_table: pd.DataFrame) -> None:
    _, encoder = fitted(tiny_schema, tiny_table, train_mask(16))
    table = decode_random(encoder, np.random.default_rng(0), 1e6, signs=True).to_pandas()
    assert (table["CD4"] == 0).any() and not np.signbit(table["CD4"].dropna()).any()


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_record_length_is_the_most_probable_one(seed: int, length: int) -> None:
    p = np.random.default_rng(seed).uniform(0.001, 0.999, (4, length))
    block = np.stack([1 - 2 * p, 2 * p - 1], axis=1)
    expected = [
        max(range(1, length + 1), key=lambda k, row=row: np.log(row[:k]).sum() + np.log(1 - row[k:]).sum())  # type: ignore[misc]
        for row in p
    ]
    assert record_length(block).tolist() == expected


def test_record_length_is_at_least_one_whatever_the_block() -> None:
    for signs in itertools.product((-1.0, 1.0), repeat=3):
        block = np.array([[[-s for s in signs], signs]]) * 1e6
        assert 1 <= record_length(block)[0] <= 3
    assert record_length(np.array([[[1.0, 1.0], [-1.0, -1.0]]])) == [1]
    assert record_length(np.array([[[-1.0, -1.0], [1.0, 1.0]]])) == [2]


def test_a_partner_is_missing_where_its_indicator_is() -> None:
    columns: list[dict[str, Any]] = [
        {"name": "x", "kind": "real"},
        {"name": "measured", "kind": "binary", "indicates": "x", "masks": True, "missing": "modelled"},
    ]
    n = 12
    table = pd.DataFrame({"id": np.arange(n).repeat(6), "month": np.tile(np.arange(6), n)})
    table["x"] = np.arange(6 * n) * 0.5
    table["measured"] = np.resize([1, 0, None, 1], 6 * n)
    cohort, _ = checked_cohort(table, make_schema(columns))
    encoder, _ = fit_encoder(cohort, train_mask(n))
    made = decode_random(encoder, np.random.default_rng(1), 3.0, signs=False).to_pandas()
    assert made["measured"].isna().any()
    assert (made["x"].notna() == (made["measured"] == 1)).all()
