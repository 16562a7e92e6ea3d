"""Hold a table against its schema: everything wrong in one run, counts and row positions, never a value."""

from pathlib import Path

import numpy as np
import pandas as pd

from hg3.errors import TableError
from hg3.table.binning import bin_visits, static_changes
from hg3.table.check_column import check_codes, check_real, check_values
from hg3.table.check_rows import check_duplicates, check_names, check_patients, check_times
from hg3.table.cohort import Cohort, cells_of, counting_cells, missing_cells
from hg3.table.column import Code
from hg3.table.findings import Findings
from hg3.table.read import read_table
from hg3.table.schema import TableSchema, load_schema
from hg3.table.violations import counted, violations


def check_table(frame: pd.DataFrame, schema: TableSchema, to_learn_from: bool = True) -> tuple[Cohort | None, Findings]:
    """Return the checked cohort (None if there are errors) and all findings.

    Parameters
    ----------
    frame : the table in long format, as `read_table` gives it.
    to_learn_from : whether each column must have some value; a small release may lack those of a rare laboratory.
    """
    found = Findings()
    if frame.empty:
        found.errors.append("the table holds no rows; it needs at least one row a patient")
        return None, found
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    if schema.bin is not None:
        frame = _binned(frame, schema, found)
    present = check_names(list(frame.columns), schema, found)
    patients, patient_index = check_patients(frame, schema, present, found)
    time_index = check_times(frame, schema, present, found)
    check_duplicates(patient_index, time_index, schema, found)
    values, categories, refused = _check_cells(frame, schema, present, found)
    for name in values:
        asked = counting_cells(name, values, schema) & ~refused[name]
        usable = asked & ~missing_cells(values[name])
        if to_learn_from and not usable.any() and not refused[name].any():
            found.errors.append(f"column {name!r} has no usable cell; take it out of the schema")
        elif usable.any() or schema.by_name[name].missing == "never":
            check_values(values[name], asked, patient_index, schema.by_name[name], found)
    if found.errors:
        return None, found
    cohort = Cohort(schema, patients, patient_index, time_index, values, categories)
    _check_rules(cohort, found)
    return (None if found.errors else cohort), found


def check(table: str | Path, schema: str | Path) -> Findings:
    """Return everything wrong with the table at path `table` under a shipped schema or the schema at a path.

    Raises
    ------
    Hg3Error
        If the table or the schema cannot be read at all.
    """
    loaded = load_schema(schema)
    return check_table(read_table(table, loaded), loaded)[1]


def checked_cohort(frame: pd.DataFrame, schema: TableSchema, to_learn_from: bool = True) -> tuple[Cohort, list[str]]:
    """Return the checked cohort and the warnings; arguments as in `check_table`.

    Raises
    ------
    TableError
        If anything is wrong; the message holds every finding.
    """
    cohort, found = check_table(frame, schema, to_learn_from)
    if cohort is None:
        raise TableError(f"the table does not fit schema {schema.name!r}: " + " | ".join(found.errors))
    return cohort, found.warnings


def _binned(frame: pd.DataFrame, schema: TableSchema, found: Findings) -> pd.DataFrame:
    """Return the table with its visits on the grid; tell how many that loses, and what it would hide."""
    binned, found.kept, superseded = bin_visits(frame, schema)
    if not superseded:
        return binned
    found.warnings.append(
        f"{superseded} rows share a bin of {schema.bin:g} {schema.step}s with a later one of their patient, "
        "which is kept; they are left out"
    )
    found.errors += [
        f"column {name!r} is static and changes within {n_patients} patients between visits of one bin; mend them or "
        "set static = false"
        for name, n_patients in static_changes(frame, schema).items()
    ]
    return binned


def _check_cells(
    frame: pd.DataFrame, schema: TableSchema, present: set[str], found: Findings
) -> tuple[dict[str, np.ndarray], dict[str, tuple[Code, ...]], dict[str, np.ndarray]]:
    """Return by column the values and the categories, as in `Cohort`, and which cells are refused."""
    values, categories, refused = {}, {}, {}
    for name, column in schema.by_name.items():
        if name not in present:
            continue
        if column.is_real:
            values[name], refused[name] = check_real(frame[name], column, found)
        else:
            values[name], refused[name], categories[name] = check_codes(frame[name], column, found)
    return values, categories, refused


def _check_rules(cohort: Cohort, found: Findings) -> None:
    """Tell where the table breaks a rule: a warning, or an error if the rule says so."""
    for rule in cohort.schema.rules:
        broken, could = violations(rule, cells_of(cohort, rule.columns), cohort.schema.by_name)
        if not broken.any():
            continue
        of = counted(rule, cohort.schema.by_name)
        said = f"the rule {rule.sentence!r} is broken by {int(broken.sum())} of the {int(could.sum())} {of} it is about"
        rows = np.broadcast_to(broken, (cohort.n_patients, cohort.schema.length))[
            cohort.patient_index, cohort.time_index
        ]
        if rule.on_table == "error":
            found.rows(rows, f"{said}, on {{n}} rows", 'mend them, or set on_table = "warn" for the rule')
        else:
            found.warnings.append(f"{said} ({broken.sum() / could.sum():.2%}); a release will keep it")
