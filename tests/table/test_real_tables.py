"""Schemas of real tables, held against the tables where those are: none of them comes with hg3."""

from pathlib import Path

import numpy as np
import pytest

import benchmarks
from hg3.table.checks import checked_cohort
from hg3.table.cohort import Cohort
from hg3.table.decoding import decode_counted
from hg3.table.encoding import encode, fit_encoder
from hg3.table.read import read_table
from hg3.table.schema import load_schema
from hg3.table.split import split_patients
from tests.table.cases import real_table

SCHEMAS = Path(benchmarks.__file__).parent / "schemas"


def cohort_of(file: str) -> tuple[Cohort, list[str]]:
    path = real_table(file)
    schema = load_schema(SCHEMAS / f"{file.split('.')[0]}.toml")
    return checked_cohort(read_table(path, schema), schema)


@pytest.mark.parametrize(
    ("file", "patients", "rows"),
    [("icu_48h.csv.gz", 4000, 192_000), ("pbc2.csv", 312, 1944), ("renal_monthly.csv.gz", 407, None)],
)
def test_a_real_table_fits_its_schema_and_comes_back(file: str, patients: int, rows: int | None) -> None:
    cohort, _ = cohort_of(file)
    assert cohort.n_patients == patients and len(cohort.time_index) == (rows or len(cohort.time_index))
    encoder, warnings = fit_encoder(cohort, split_patients(patients, 0).train)
    assert warnings == []
    encoded = encode(cohort, encoder)
    made, counts = decode_counted(encoded.x_static, encoded.x_dynamic, np.arange(patients), encoder)
    back, found = checked_cohort(made.to_pandas(), encoder.released_schema())
    assert not [warning for warning in found if "rule" in warning] and len(back.time_index) == len(cohort.time_index)
    assert all(count.violations_after == 0 for count in counts)


def test_intensive_care_has_artefacts_and_disordered_pressures() -> None:
    cohort, warnings = cohort_of("icu_48h.csv.gz")
    outside = [warning for warning in warnings if "outside its bounds were made missing" in warning]
    assert len(outside) == 17
    assert "the rule 'DiasABP <= MAP <= SysABP' is broken by 519 of the 102924 rows it is about" in warnings[-2]
    assert "the rule 'NIDiasABP <= NIMAP <= NISysABP' is broken by 109 of the 80703 rows it is about" in warnings[-1]
    assert set(np.unique(cohort.values["MechVent"])) == {-1, 0}


def test_cirrhosis_visits_share_one_bin_and_break_no_rule() -> None:
    cohort, warnings = cohort_of("pbc2.csv")
    assert len(warnings) == 1 and warnings[0].startswith("1 rows share a bin of 0.25 years")
    assert cohort.values["year_within"].max() < 0.25
