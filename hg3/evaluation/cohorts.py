"""The tables that an evaluation compares, as cohorts of the release's schema."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from hg3 import disk
from hg3.errors import RunError
from hg3.table.cells import as_texts, learned_codes
from hg3.table.checks import checked_cohort
from hg3.table.cohort import Cohort
from hg3.table.column import Code, Column, canonical_code
from hg3.table.read import read_table
from hg3.table.schema import TableSchema, load_schema


@dataclass(frozen=True)
class Compared:
    """A synthetic cohort beside the training and the hold-out patients, all of one schema."""

    synthetic: Cohort
    train: Cohort
    holdout: Cohort


def compared_cohorts(
    synthetic: pd.DataFrame,
    released: TableSchema,
    run: Path,
    where: Mapping[str, Code | float] | None = None,
    balance: str | None = None,
    held: str = "holdout",
) -> Compared:
    """Return the release's table beside the parts of the run's own table.

    Parameters
    ----------
    held : the part that stands as held out; "validation" is for a choice among seeds, which may not see the other.
    where, balance : of a conditional release: the real parts are then the same subgroup, or equal groups too.

    Raises
    ------
    RunError
        If the run's table is not where it was, or is another one by its hash, or if `where` gives a real.
    """
    reals = [name for name in where or {} if released.by_name[name].is_real]
    if reals:
        raise RunError(
            f"the release gives every patient one value of {', '.join(reals)}, which hardly any real patient has, so "
            "there is no subgroup to compare it with; compare a release whose --where names codes alone"
        )
    split = disk.read_json(run / "split.json", "a run of hg3")
    path = Path(split["table"]["path"])
    if not path.is_file() or disk.sha256_of(path) != split["table"]["sha256"]:
        raise RunError(
            f"the table that {run} was made from is not at the path in split.json, or was altered; restore it"
        )
    original = load_schema(run / "schema.toml")
    frame = read_table(path, original).drop(columns=list(original.ignore), errors="ignore")
    frame = _without_rare_codes(frame, original, released)
    ids = frame[original.patient]
    parts = [frame[_is_one_of(ids, split["patients"][part])] for part in ("train", held)]
    parts = [_same_group(part, original.patient, where or {}, balance) for part in parts]
    cohorts = [
        checked_cohort(part.reset_index(drop=True), released, to_learn_from=False)[0] for part in (synthetic, *parts)
    ]
    return Compared(*cohorts)


def given_cohorts(tables: Sequence[pd.DataFrame], schema: TableSchema) -> Compared:
    """Return three tables, synthetic, of training and of held-out patients, as cohorts of one schema.

    Where the schema lists no categories, a column has those that occur in any table.

    Raises
    ------
    TableError
        If a table does not fit the schema; of a table that another program made, too.
    """
    columns = tuple(_with_categories(column, tables) for column in schema.columns)
    whole = schema.model_copy(update={"columns": columns})
    cohorts = (checked_cohort(table.reset_index(drop=True), whole, to_learn_from=False)[0] for table in tables)
    return Compared(*(replace(cohort, schema=schema) for cohort in cohorts))  # which says that the codes are learned


def _with_categories(column: Column, tables: Sequence[pd.DataFrame]) -> Column:
    if column.is_real or column.categories is not None:
        return column
    cells = pd.concat([table[column.name] for table in tables if column.name in table], ignore_index=True)
    return column.model_copy(update={"categories": learned_codes(as_texts(cells.dropna())[1])})


def _same_group(
    frame: pd.DataFrame, patient: str, where: Mapping[str, Code | float], balance: str | None
) -> pd.DataFrame:
    """Return the patients with the static values `where`, of each code of `balance` as many as of the rarest.

    Raises
    ------
    RunError
        If nobody is left to compare with.
    """
    if not where and not balance:
        return frame
    static = frame.groupby(patient, sort=True)[[*where, *([balance] if balance else [])]].first()
    for name, value in where.items():
        static = static[_is_one_of(static[name], [value])]
    if balance:
        static = static.groupby(balance).head(int(static[balance].value_counts().min() or 0) if len(static) else 0)
    if static.empty:
        raise RunError("the run's table has no patients of the release's subgroup in one of its parts to compare with")
    return frame[frame[patient].isin(static.index)]


def _without_rare_codes(frame: pd.DataFrame, original: TableSchema, released: TableSchema) -> pd.DataFrame:
    """Empty the cells whose codes were too rare to enter a learned category table; the model saw them as missing."""
    frame = frame.copy()
    for column in original.columns:
        codes = released.by_name[column.name].categories
        if not column.is_real and column.categories is None and codes:
            frame[column.name] = frame[column.name].where(_is_one_of(frame[column.name], codes))
    return frame


def _is_one_of(cells: pd.Series, codes: Sequence[Code | float]) -> pd.Series:
    """Return which cells are one of `codes`, however the file writes them: "1" is 1.0 is 1."""
    wanted = {canonical_code(code) for code in codes}
    return cells.isin([cell for cell in cells.dropna().unique() if canonical_code(cell) in wanted])
