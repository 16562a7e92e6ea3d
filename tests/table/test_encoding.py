"""Encoding: there and back, and nothing learned from those who do not train."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from hg3.disk import read_json, write_json
from hg3.errors import Hg3Error, SchemaError, TableError
from hg3.table.checks import check_table, checked_cohort
from hg3.table.codecs import RELATIVE_TOLERANCE, round_inward
from hg3.table.cohort import Cohort, counting_cells, missing_cells, record_shape
from hg3.table.decoding import decode
from hg3.table.encoding import Encoder, FittedColumn, encode, fill_between, fit_encoder
from hg3.table.schema import CONTINUES, OBSERVED_SUFFIX, PRESENT, TableSchema, parse_schema
from tests.table.cases import make_schema, make_table, tiny_columns, train_mask
from tests.table.strategies import Case, cases

CANNOT_FIT = ("that hide each other", "among the training patients", "no usable cell", "no column")


@contextmanager
def rejecting_unfit_draws() -> Iterator[None]:
    """Leave out draws in which chance gave the training patients nothing to learn from."""
    try:
        yield
    except Hg3Error as error:
        if not any(sentence in str(error) for sentence in CANNOT_FIT):
            raise
        reject()


def fitted(
    schema: TableSchema, table: pd.DataFrame, train: np.ndarray, scaling: str = "standard"
) -> tuple[Cohort, Encoder]:
    cohort, _ = checked_cohort(table, schema)
    return cohort, fit_encoder(cohort, train, scaling)[0]


def there_and_back(cohort: Cohort, encoder: Encoder) -> Cohort:
    """Return the cohort that the decoded encoding is, checked against the released schema."""
    encoded = encode(cohort, encoder)
    table = decode(encoded.x_static, encoded.x_dynamic, np.arange(cohort.n_patients), encoder).to_pandas()
    back, found = check_table(table, encoder.released_schema())
    assert back is not None, found.errors
    return back


def on_grid(cohort: Cohort, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a column's values and where they count, (N, L); a static value stands at all times."""
    values, schema = cohort.values[name], cohort.schema
    seen = counting_cells(name, cohort.values, schema) & ~missing_cells(values)
    shape = (cohort.n_patients, schema.length)
    grid, there = np.zeros(shape), np.zeros(shape, bool)
    for patient, time, value in zip(cohort.patient_index[seen], cohort.time_index[seen], values[seen], strict=True):
        where = slice(None) if schema.by_name[name].static else time
        grid[patient, where], there[patient, where] = value, True
    return grid, there


def assert_real_came_back(given_: np.ndarray, back: np.ndarray, fit: FittedColumn) -> None:
    if fit.codec is None:
        assert (back == fit.constant).all()
        return
    unit, bounds = 10.0**-fit.codec.decimals, fit.codec.bounds
    allowed = np.maximum(0.5 * unit * (1 + 1e-6), RELATIVE_TOLERANCE * np.abs(given_))
    inward = back == round_inward(given_, fit.codec.decimals, bounds)
    assert (inward | (np.abs(back - given_) <= allowed)).all()


@given(cases(), st.sampled_from(("standard", "normal")))
def test_decoding_gives_back_what_was_encoded(case: Case, scaling: str) -> None:
    with rejecting_unfit_draws():
        cohort, encoder = fitted(case.schema, case.table, case.train, scaling)
        back = there_and_back(cohort, encoder)
    for shape, shape_back in zip(record_shape(cohort), record_shape(back), strict=True):
        assert (shape == shape_back).all()
    for fit in encoder.columns:
        indicator = case.schema.masked_by(fit.column.name)
        constants = {one.column.name for one in encoder.columns if one.constant is not None}
        kept = case.train if constants & {fit.column.name, indicator} else np.ones(cohort.n_patients, bool)
        values, seen = (part[kept] for part in on_grid(cohort, fit.column.name))
        values_back, seen_back = (part[kept] for part in on_grid(back, fit.column.name))
        assert (seen == seen_back).all()
        if fit.column.is_real:
            assert_real_came_back(values[seen], values_back[seen], fit)
        else:
            assert (values[seen] == values_back[seen]).all()


@given(cases(), st.integers(0, 2**32))
def test_fitting_sees_only_training_patients(case: Case, seed: int) -> None:
    with rejecting_unfit_draws():
        _, encoder = fitted(case.schema, case.table, case.train)
    rng = np.random.default_rng(seed)
    patient = case.table["id"].to_numpy()
    trains = case.train[patient]
    donor_row = rng.choice(np.flatnonzero(trains), len(case.train))[patient]  # one for all rows of a patient
    names = [column.name for column in case.schema.columns]
    other = case.table[names].iloc[np.where(trains, np.arange(len(trains)), donor_row)].reset_index(drop=True)
    other["id"], other["month"] = patient, case.table["month"].to_numpy()
    keep = trains | (rng.random(len(other)) < 0.7) | ~other["id"].duplicated().to_numpy()
    _, again = fitted(case.schema, other[keep], case.train)
    assert [c.to_dict() for c in encoder.columns] == [c.to_dict() for c in again.columns]
    fitted_blocks = [
        [(b.name, b.width, b.low, b.high) for b in part if b.name not in (CONTINUES, PRESENT)]
        for e in (encoder, again)
        for part in (e.layout.static, e.layout.dynamic)
    ]
    assert fitted_blocks[:2] == fitted_blocks[2:]


@given(cases())
def test_an_encoder_comes_back_from_json(case: Case) -> None:
    with rejecting_unfit_draws():
        _, encoder = fitted(case.schema, case.table, case.train)
    text = json.dumps(encoder.to_dict(), allow_nan=False)
    assert Encoder.from_dict(json.loads(text), case.schema) == encoder


def test_an_encoder_comes_back_from_its_file(
    tiny_schema: TableSchema, tiny_table: pd.DataFrame, tmp_path: Path
) -> None:
    _, encoder = fitted(tiny_schema, tiny_table, train_mask(16))
    write_json(tmp_path / "encoder.json", encoder.to_dict())
    assert Encoder.from_dict(read_json(tmp_path / "encoder.json", "an encoder"), tiny_schema) == encoder


def test_the_tiny_table_has_the_expected_blocks(tiny_schema: TableSchema, tiny_table: pd.DataFrame) -> None:
    cohort, encoder = fitted(tiny_schema, tiny_table, train_mask(16))
    static = [(b.name, b.kind, b.start, b.width) for b in encoder.layout.static]
    assert static == [
        ("sex", "category", 0, 2),
        ("height", "real", 2, 1),
        ("height" + OBSERVED_SUFFIX, "category", 3, 2),
    ]
    names = ["VL", "VL" + OBSERVED_SUFFIX, "CD4", "CD4 (M)", "drug", "stage", CONTINUES, PRESENT]
    assert [b.name for b in encoder.layout.dynamic] == names
    encoded = encode(cohort, encoder)
    assert encoded.x_static.shape == (16, 5) and encoded.observed_static.shape == (16, 3)
    assert encoded.x_dynamic.shape == (16, 16, 6) and encoded.observed_dynamic.shape == (16, 8, 6)
    assert encoded.x_static.dtype == encoded.x_dynamic.dtype == np.float32


def test_who_has_no_value_of_a_column_holds_the_fill(tiny_schema: TableSchema, tiny_table: pd.DataFrame) -> None:
    never = tiny_table.assign(VL=tiny_table["VL"].where(tiny_table["id"] > 103))
    cohort, encoder = fitted(tiny_schema, never, train_mask(16))
    encoded = encode(cohort, encoder)
    held = encoded.x_dynamic[:, encoder.layout.dynamic[0].channels]
    assert (held[:4] == encoder.layout.dynamic[0].fill).all() and not encoded.observed_dynamic[:4, 0].any()
    assert (held[4:] != encoder.layout.dynamic[0].fill).all()


SEEN = np.array([[0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1]], bool)


def test_a_cell_holds_the_nearest_value_and_of_two_the_earlier() -> None:
    x = np.array([[9, 1, 9, 9, 4, 9], [9] * 6, [9, 9, 9, 9, 9, 5], [1, 2, 3, 4, 5, 6]], np.float32)[:, None]
    fill_between(x, SEEN)
    np.testing.assert_array_equal(x[:, 0], [[1, 1, 1, 4, 4, 4], [9] * 6, [5] * 6, [1, 2, 3, 4, 5, 6]])


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_the_nearest_value_cell_by_cell(share: float) -> None:
    random = np.random.default_rng(0)
    x, seen = random.normal(size=(30, 3, 25)).astype(np.float32), random.random((30, 25)) < share
    filled = x.copy()
    fill_between(filled, seen)
    for patient in range(30):
        at = np.flatnonzero(seen[patient])
        nearest = [at[np.abs(at - time).argmin()] if len(at) else time for time in range(25)]
        np.testing.assert_array_equal(filled[patient], x[patient][:, nearest])


def test_a_flag_counts_where_it_could_say_either(tiny_schema: TableSchema, tiny_table: pd.DataFrame) -> None:
    """A column's flag where there is a row, a gap's inside the record, the record's end at every time."""
    cohort, encoder = fitted(tiny_schema, tiny_table, train_mask(16))
    encoded, (lengths, present) = encode(cohort, encoder), record_shape(cohort)
    inside = np.arange(6) < lengths[:, None]
    assert not inside.all() and (inside & ~present).any()
    number = {b.name: i for i, b in enumerate(encoder.layout.dynamic)}
    expected = {"VL" + OBSERVED_SUFFIX: present, PRESENT: inside, CONTINUES: np.ones_like(inside)}
    for flag, counts in expected.items():
        assert np.array_equal(encoded.observed_dynamic[:, number[flag]], counts)
    assert encoded.observed_static[:, 2].all()


def test_the_flag_of_a_masked_column_counts_where_its_indicator_is_the_second_code() -> None:
    columns = [{**c, "missing": "modelled"} if c["name"] == "CD4" else c for c in tiny_columns()]
    table = make_table()
    table.loc[table.index[::3], "CD4"] = np.nan
    cohort, encoder = fitted(make_schema(columns), table, train_mask(16))
    encoded = encode(cohort, encoder)
    number = {b.name: i for i, b in enumerate(encoder.layout.dynamic)}
    counts = np.zeros((16, 6), bool)
    counts[cohort.patient_index, cohort.time_index] = cohort.values["CD4 (M)"] == 1
    assert 0 < counts.sum() < counts.size
    assert np.array_equal(encoded.observed_dynamic[:, number["CD4" + OBSERVED_SUFFIX]], counts)


def test_a_masked_value_counts_only_where_its_indicator_is_the_second_code() -> None:
    table = make_table()
    table.loc[table["CD4 (M)"] == 0, "CD4"] = 4999.0
    shown, encoder = fitted(make_schema(tiny_columns()), table, train_mask(16))
    table.loc[table["CD4 (M)"] == 0, "CD4"] = np.nan
    hidden, again = fitted(make_schema(tiny_columns()), table, train_mask(16))
    assert encoder.to_dict() == again.to_dict()
    np.testing.assert_array_equal(encode(shown, encoder).x_dynamic, encode(hidden, encoder).x_dynamic)
    back = there_and_back(shown, encoder)
    assert (np.isnan(back.values["CD4"]) == (back.values["CD4 (M)"] == 0)).all()


def test_an_indicator_that_masks_nothing_leaves_its_partner_alone() -> None:
    columns = tiny_columns()
    columns[4]["masks"] = False
    cohort, encoder = fitted(make_schema(columns), make_table(), train_mask(16))
    assert not np.isnan(there_and_back(cohort, encoder).values["CD4"]).any()


def one_column(column: dict, cells: list, **table: object) -> tuple[Cohort, Encoder, list[str]]:
    """Fit 20 patients of two months with column `x` of `cells` (repeated) beside a plain binary column."""
    schema = make_schema([{"name": "x", **column}, {"name": "b", "kind": "binary"}], length=2, **table)
    frame = pd.DataFrame({"id": np.repeat(np.arange(20), 2), "month": np.tile([0, 1], 20)})
    frame["x"] = (cells * 40)[:40]
    frame["b"] = np.arange(40) // 3 % 2
    cohort, _ = checked_cohort(frame, schema)
    encoder, warnings = fit_encoder(cohort, np.ones(20, bool))
    return cohort, encoder, warnings


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ({"kind": "real", "decimals": 1}, [7.25]),
        ({"kind": "categorical", "categories": ["A b", "c"]}, ["A b"]),
    ],
)
def test_a_constant_column_needs_no_channel_and_comes_back(column: dict, cells: list) -> None:
    cohort, encoder, _ = one_column(column, cells)
    assert [b.name for b in encoder.layout.dynamic] == ["b"]
    back = there_and_back(cohort, encoder)
    assert len(np.unique(back.values["x"])) == 1
    assert encoder.columns[0].constant in (7.2, "A b")


def test_a_constant_column_that_may_be_missing_is_its_flag() -> None:
    cohort, encoder, _ = one_column({"kind": "real", "missing": "modelled"}, [3.0, np.nan, 3.0])
    assert [b.name for b in encoder.layout.dynamic] == ["x" + OBSERVED_SUFFIX, "b"]
    np.testing.assert_array_equal(there_and_back(cohort, encoder).values["x"], cohort.values["x"])


def test_a_column_finer_than_its_decimals_is_a_constant_with_a_warning() -> None:
    _, encoder, warnings = one_column({"kind": "real", "decimals": 0}, [1.1, 1.2, 1.3])
    assert encoder.columns[0].constant == 1.0
    assert "column 'x' varies by less than its 0 decimals show" in warnings[0]


def test_tiny_magnitudes_are_told_and_not_lost_in_silence() -> None:
    _, _, warnings = one_column({"kind": "real"}, [1e-12, 2e-12, 5e-12])
    assert "give it more decimals or another unit" in warnings[0]


def test_a_constant_in_training_only_is_told(tiny_schema: TableSchema, tiny_table: pd.DataFrame) -> None:
    tiny_table.loc[tiny_table["id"] < 110, "drug"] = 3
    cohort, _ = checked_cohort(tiny_table, tiny_schema)
    _, warnings = fit_encoder(cohort, train_mask(16))
    assert warnings == ["column 'drug' has one value only among the training patients; it is kept as a constant"]


def test_a_flag_block_is_there_though_no_training_cell_is_missing() -> None:
    """A patient who does not train may have missing cells, and they must come back."""
    table = make_table()
    table.loc[table["id"] < 110, "VL"] = 5.0 + table["CD4"]
    cohort, encoder = fitted(make_schema(tiny_columns()), table, train_mask(16))
    back = there_and_back(cohort, encoder)
    assert np.isnan(back.values["VL"]).sum() == table["VL"].isna().sum() > 0


def test_no_training_value(tiny_schema: TableSchema, tiny_table: pd.DataFrame) -> None:
    tiny_table.loc[tiny_table["id"] < 110, "VL"] = np.nan
    cohort, _ = checked_cohort(tiny_table, tiny_schema)
    with pytest.raises(TableError, match="column 'VL' has no value among the training patients; take it out"):
        fit_encoder(cohort, train_mask(16))


def test_no_dynamic_column() -> None:
    schema = make_schema([tiny_columns()[0]])
    table = pd.DataFrame({"id": np.arange(12).repeat(6), "month": np.tile(np.arange(6), 12)})
    table["sex"] = np.where(table["id"] % 2, "F", "M")
    cohort, _ = checked_cohort(table, schema)
    with pytest.raises(SchemaError, match="schema 'made' has no column that varies over time; hg3 models"):
        fit_encoder(cohort, train_mask(12))


@pytest.mark.parametrize(("drop", "block"), [(3, PRESENT), (5, CONTINUES)])
def test_a_single_record_of_the_hold_out_may_end_early_or_have_a_gap(drop: int, block: str) -> None:
    schema = make_schema([{"name": "b", "kind": "binary"}])
    table = pd.DataFrame({"id": np.arange(12).repeat(6), "month": np.tile(np.arange(6), 12)})
    table["b"] = table["month"] % 2
    cohort, _ = checked_cohort(table[(table["id"] < 11) | (table["month"] != drop)], schema)
    encoder, _ = fit_encoder(cohort, train_mask(12))
    assert [b.name for b in encoder.layout.dynamic] == ["b", block]
    back = there_and_back(cohort, encoder)
    assert np.array_equal(back.time_index, cohort.time_index)


def test_learned_categories_come_back_and_rare_ones_are_missing() -> None:
    codes = ["A"] * 19 + ["B"] * 19 + ["rare", "B"]
    cohort, encoder, _ = one_column({"kind": "categorical", "missing": "modelled"}, codes)
    assert encoder.columns[0].categories == ("A", "B")
    assert encoder.released_schema().by_name["x"].categories == ("A", "B")
    back = there_and_back(cohort, encoder)
    assert (back.values["x"] < 0).sum() == 1


@pytest.mark.parametrize("codes", [["only"], [900000000000207008], [900000000000207008, 2]])
def test_learned_codes_of_any_type_come_back(codes: list) -> None:
    cohort, encoder, _ = one_column({"kind": "categorical"}, codes)
    back = there_and_back(cohort, encoder)
    assert back.categories["x"] == tuple(sorted(codes))
    np.testing.assert_array_equal(back.values["x"], cohort.values["x"])


def test_the_released_schema_can_be_read_again(tiny_schema: TableSchema, tiny_table: pd.DataFrame) -> None:
    _, encoder = fitted(tiny_schema, tiny_table, train_mask(16))
    released = encoder.released_schema()
    assert parse_schema(released.to_toml(), "released") == released
    assert all(column.transform for column in released.columns if column.is_real)


@pytest.mark.parametrize("first", [0, 2])
def test_one_row_a_patient_and_a_grid_of_one(first: int) -> None:
    schema = make_schema([{"name": "x", "kind": "real"}], length=1, first_time=first)
    table = pd.DataFrame({"id": [f"p{i}" for i in range(12)], "month": first, "x": np.arange(12) * 1.5})
    cohort, encoder = fitted(schema, table, train_mask(12))
    assert encoder.layout.n_dynamic == 1
    back = there_and_back(cohort, encoder)
    assert sorted(back.values["x"]) == sorted(cohort.values["x"])


@pytest.mark.parametrize(
    "n_patients, n_carriers, refused", [(18, 1, True), (18, 8, True), (18, 9, False), (9, 1, False)]
)
def test_in_a_tiny_cohort_half_must_have_a_value(n_patients: int, n_carriers: int, refused: bool) -> None:
    schema = make_schema([{"name": "rare", "kind": "real", "missing": "modelled"}, {"name": "y", "kind": "binary"}])
    ids = np.arange(n_patients)
    table = pd.DataFrame({schema.patient: ids, schema.time: 0, "rare": np.nan, "y": ids % 2})
    table.loc[: n_carriers - 1, "rare"] = 98765.0 + np.arange(n_carriers)
    cohort, _ = checked_cohort(table, schema)
    if refused:
        with pytest.raises(TableError, match=f"has values for {n_carriers} of {n_patients} training patients"):
            fit_encoder(cohort, np.ones(n_patients, bool))
    else:
        _, warnings = fit_encoder(cohort, np.ones(n_patients, bool))
        assert any("any value may be repeated" in sentence for sentence in warnings) == (n_patients < 10)


def test_a_real_that_few_patients_have_is_refused() -> None:
    """One carrier's value would be the release's constant, and the bound of two carriers their mean."""
    schema = make_schema([{"name": "rare", "kind": "real", "missing": "modelled"}, {"name": "y", "kind": "binary"}])
    ids = np.arange(40)
    table = pd.DataFrame({schema.patient: ids, schema.time: 0, "rare": np.nan, "y": ids % 2})
    table.loc[:1, "rare"] = 98765.4321
    cohort, _ = checked_cohort(table, schema)
    with pytest.raises(TableError, match="'rare' has values for 2 of 40 training patients, fewer than") as error:
        fit_encoder(cohort, np.ones(40, bool))
    assert "98765" not in str(error.value)
