"""Panels for tests of the measures."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from hg3.evaluation.draws import Draws, Measured, Parts
from hg3.evaluation.panel import Panel, panel_of
from hg3.table.checks import checked_cohort
from hg3.table.schema import TableSchema
from tests.table.cases import make_schema, make_table, tiny_columns

SCHEMA = make_schema(tiny_columns(), name="tiny")


def panel(table: pd.DataFrame, schema: TableSchema = SCHEMA) -> Panel:
    return panel_of(checked_cohort(table, schema, to_learn_from=False)[0])


def without_value(part: Panel, name: str) -> Panel:
    """Return the panel with a column that has no value anywhere, which no table may have and a release can."""
    return replace(part, values={**part.values, name: np.full_like(part.values[name], np.nan)})


def everybody(panels: Parts[Panel]) -> Draws:
    """One draw, of all patients."""
    return panels.each(lambda part: np.ones((1, part.n_patients)))


def scores(measures: Callable[[Parts[Panel], Draws], list[Measured]], made: Panel, real: Panel) -> dict[str, float]:
    """Return each measure of all of `made` against all of `real`, by its name and subject."""
    panels = Parts(made, real, real)
    return {f"{m.name}: {m.subject}": float(m.score[0]) for m in measures(panels, everybody(panels))}


def shuffled_months(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return the table with the rows of each patient in another order, on the same months."""
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(rows.index) for _, rows in table.groupby("id", sort=False)])
    return table.loc[order].reset_index(drop=True).assign(month=table["month"].to_numpy())


def walks(n_patients: int = 200, seed: int = 0) -> pd.DataFrame:
    """Return a table whose columns remember: random walks, sticky codes."""
    table = make_table(n_patients, seed=seed)
    rng = np.random.default_rng(seed)
    drift = pd.Series(rng.normal(size=len(table))).groupby(table["id"]).cumsum()
    level = table["id"].map(dict(zip(table["id"].unique(), rng.normal(size=n_patients), strict=True)))
    drug = np.where(0.3 * level + drift > 1, 3, np.where(0.3 * level + drift > -1, 0, -1))
    return table.assign(CD4=np.round(np.exp(6 + 0.5 * level + 0.1 * drift)).clip(0, 5000), drug=drug)
