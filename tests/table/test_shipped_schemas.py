"""Every schema that comes with hg3: its channels, and a simulated table that goes there and back."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import real_table
from hg3.layout import Layout
from hg3.table.checks import check_table, checked_cohort
from hg3.table.cohorts.art_hiv import simulate
from hg3.table.cohorts.from_schema import simulate_schema
from hg3.table.decoding import decode
from hg3.table.encoding import encode, fit_encoder
from hg3.table.schema import TableSchema, load_schema, shipped_schemas
from hg3.training.describe import layout_of
from tests.table.test_encoding import assert_real_came_back, on_grid

CHANNELS = {  # static and dynamic
    "art-hiv-v2": (6, 31),
    "art-hiv-v3-demo": (0, 22),
    "hypotension": (0, 54),
    "sepsis": (5, 91),
}


OF_BENCHMARKS = sorted((Path(real_table.__file__).parent / "schemas").glob("*.toml"))


def blocks(layout: Layout) -> list[tuple[str, str, int, int]]:
    return [(b.name, b.kind, b.start, b.width) for part in (layout.static, layout.dynamic) for b in part]


@pytest.mark.parametrize("name", shipped_schemas())
def test_channels(name: str) -> None:
    layout = layout_of(load_schema(name))
    assert (layout.n_static, layout.n_dynamic) == CHANNELS[name]


def test_widths_are_the_published_ones() -> None:
    assert [sum(CHANNELS[name]) for name in ("art-hiv-v3-demo", "hypotension", "sepsis")] == [22, 54, 96]


@pytest.mark.parametrize("scaling", ["standard", "normal"])
@pytest.mark.parametrize("name", [*shipped_schemas(), *OF_BENCHMARKS], ids=lambda name: Path(name).stem)
def test_a_simulated_table_goes_there_and_back(name: str | Path, scaling: str) -> None:
    schema = load_schema(name)
    table = simulate_schema(schema, 150, seed=5)
    cohort, _ = checked_cohort(table, schema)
    encoder, _ = fit_encoder(cohort, np.arange(150) < 90, scaling)
    encoded = encode(cohort, encoder)
    made = decode(encoded.x_static, encoded.x_dynamic, cohort.patients, encoder).to_pandas()
    keys = [schema.patient, schema.time]
    assert made[keys].astype(int).equals(table[keys].astype(int))
    back, found = check_table(made, encoder.released_schema())
    assert back is not None, found.errors
    for fit in encoder.columns:
        (given, there), (came, there_too) = (on_grid(one, fit.column.name) for one in (cohort, back))
        assert (there == there_too).all()
        if fit.column.is_real:
            assert_real_came_back(given[there], came[there], fit)
        else:
            assert (given[there] == came[there]).all()


@pytest.mark.parametrize("name", shipped_schemas())
def test_a_complete_table_has_the_channels_that_the_schema_says(name: str) -> None:
    schema = load_schema(name)
    cohort, warnings = checked_cohort(simulate_schema(schema, 150, complete=True), schema)
    assert warnings == []
    assert blocks(fit_encoder(cohort, np.arange(150) < 90)[0].layout) == blocks(layout_of(schema))


SPANS = {  # where the published encoding has each column
    "art-hiv-v3-demo": {"CD4": 1, "Gender": 2, "Ethnic": 4, "Base Drug Combo": 8, "Extra PI": 14, "Extra pk-En": 20},
    "hypotension": {"fluid_boluses": 9, "vasopressors": 13, "FiO2": 17, "GCS_total": 27, "urine_m": 40},
}


@pytest.mark.parametrize("name", SPANS)
def test_columns_lie_where_the_published_encoding_has_them(name: str) -> None:
    starts = {b.name: b.start for b in layout_of(load_schema(name)).dynamic}
    assert {column: starts[column] for column in SPANS[name]} == SPANS[name]


def test_the_demo_of_v3_reads_the_published_file() -> None:
    demo, full = load_schema("art-hiv-v3-demo"), load_schema("art-hiv-v2")
    assert check_table(simulate(20, seed=1), demo)[1].errors == []
    assert [c.transform for c in demo.columns if c.is_real] == ["box-cox", "box-cox"]
    for column in demo.columns:
        assert column.model_copy(update={"static": full.by_name[column.name].static}) == full.by_name[column.name]


def broken(schema: TableSchema, table: pd.DataFrame, column: str, cell: float) -> list[str]:
    table = table.copy()
    table.loc[1, column] = cell
    return check_table(table, schema)[1].errors


@pytest.mark.parametrize(
    ("name", "column", "cell", "sentence"),
    [
        ("hypotension", "MAP", 999, "'MAP' has 1 cells outside its bounds 10 to 250 (row 2)"),
        ("hypotension", "GCS_total", 2, "'GCS_total' has 1 cells with codes that are not in the schema"),
        ("sepsis", "pH", 735, "'pH' has 1 cells outside its bounds 6 to 8.5 (row 2)"),
        ("sepsis", "Age", 131, "'Age' has 1 cells outside its bounds 0 to 130 (row 2)"),
        ("art-hiv-v3-demo", "Ethnic", 5, "'Ethnic' has 1 cells with codes that are not in the schema"),
        ("art-hiv-v3-demo", "VL", -1, "'VL' has 1 cells outside its bounds 0 to 1e+07 (row 2)"),
    ],
)
def test_a_table_that_breaks_a_rule_is_refused(name: str, column: str, cell: float, sentence: str) -> None:
    schema = load_schema(name)
    errors = broken(schema, simulate_schema(schema, 20), column, cell)
    assert any(sentence in error for error in errors)


def test_what_a_stay_cannot_change_is_static() -> None:
    assert [c.name for c in load_schema("sepsis").columns if c.static] == ["Age", "Gender", "ReAd"]
    assert [c.name for c in load_schema("hypotension").columns if c.role == "action"] == [
        "fluid_boluses",
        "vasopressors",
    ]
