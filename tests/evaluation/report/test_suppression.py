"""Nothing of fewer than ten real patients gets into a report: planted values are searched for in all of it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hg3.evaluation.draws import Parts
from hg3.evaluation.panel import Panel, panel_of
from hg3.evaluation.report import write_report
from hg3.evaluation.report.associations import associations
from hg3.evaluation.report.marginals import marginals
from hg3.evaluation.report.memory import autocorrelations
from hg3.evaluation.report.patients import quantiles, quantiles_by_time
from hg3.evaluation.report.subgroups import subgroup_figure
from hg3.evaluation.report.transitions import transition_figure
from hg3.evaluation.suppression import FEWEST_PATIENTS
from hg3.table.checks import checked_cohort
from tests.evaluation.report.cases import evaluation_of
from tests.table.cases import make_schema
from tests.test_canary import spellings

COLUMNS: list[dict[str, Any]] = [
    {"name": "free", "kind": "real"},
    {"name": "skewed", "kind": "real", "missing": "modelled"},
    {"name": "height", "kind": "real", "static": True},
    {"name": "home", "kind": "categorical", "static": True},
    {"name": "ward", "kind": "categorical"},
]
SCHEMA = make_schema(COLUMNS, name="canary")
NUMBERS = {"free": 98765432.125, "skewed": 91827364.125, "height": 95175385.125}
CODE, HOME = "cellar-7732", "castle-7731"


def patients(n: int, seed: int, n_carriers: int = 0) -> pd.DataFrame:
    """Return patients, the first of whom carry canaries in every column."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"id": np.arange(n).repeat(6), "month": np.tile(np.arange(6), n)})
    table["free"] = np.round(random.normal(100, 10, 6 * n), 2)
    table["skewed"] = np.where(random.random(6 * n) < 0.2, np.nan, np.round(random.lognormal(4, 2, 6 * n), 2))
    table["height"] = np.round(random.normal(170, 9, n), 1).repeat(6)
    table["home"] = random.choice(["town", "village"], n).repeat(6)
    table["ward"] = random.choice(["north", "south", "west"], 6 * n)
    carriers = table["id"] < n_carriers
    for name, number in NUMBERS.items():
        table.loc[carriers & ((name == "height") | (table["month"] >= 3)), name] = number
    table.loc[carriers, "home"], table.loc[carriers & (table["month"] >= 2), "ward"] = HOME, CODE
    return table


def panels(n_carriers: int) -> Parts[Panel]:
    """Return panels whose real parts have canaries; all parts have one table of codes, as an evaluation's have."""
    frames = [patients(150, 0), patients(150, 1, n_carriers), patients(150, 2, n_carriers)]
    codes = {"home": ("town", "village", HOME), "ward": ("north", "south", "west", CODE)}
    made = [panel_of(checked_cohort(frame.assign(**firsts(frame, codes)), SCHEMA)[0]) for frame in frames]
    order = {name: made[2].categories[name] for name in codes}
    assert all(set(part.categories[name]) <= set(order[name]) for part in made for name in codes)
    return Parts(*(recoded(part, order) for part in made))


def firsts(frame: pd.DataFrame, codes: dict[str, tuple[str, ...]]) -> dict[str, pd.Series]:
    return {name: frame[name] for name in codes}


def recoded(panel: Panel, order: dict[str, tuple[Any, ...]]) -> Panel:
    """Return a panel with its codes' positions in another table of codes."""
    values = dict(panel.values)
    for name, codes in order.items():
        place = np.array([codes.index(code) for code in panel.categories[name]] + [0])
        known = ~np.isnan(values[name])
        values[name] = np.where(known, place[np.where(known, values[name], -1).astype(int)], np.nan)
    return Panel(panel.schema, values, panel.has_row, {**panel.categories, **order})


def written(folder: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("n_carriers", [1, FEWEST_PATIENTS - 1])
def test_no_canary_gets_into_a_report(n_carriers: int, tmp_path: Path) -> None:
    planted = panels(n_carriers)
    assert CODE in planted.holdout.categories["ward"] and np.nanmax(planted.holdout.values["free"]) == NUMBERS["free"]
    write_report(evaluation_of(planted), planted, tmp_path)
    text = written(tmp_path)
    assert "north" in text and len(text) > 100_000
    assert CODE not in text and HOME not in text
    for number in NUMBERS.values():
        assert not [word for word in spellings(number) if len(word) > 5 and word in text], number
        assert not [word for word in (f"{number:.2g}", f"{number / 1e6:.3g}M", f"{number / 1e6:.2g}M") if word in text]


@pytest.mark.parametrize("name", NUMBERS)
def test_an_axis_ends_where_ten_patients_reach_it(name: str) -> None:
    few, enough = (ticks_of(name, panels(n)) for n in (FEWEST_PATIENTS - 1, FEWEST_PATIENTS))
    assert not any("M" in tick for tick in few) and any("M" in tick for tick in enough)


def ticks_of(name: str, parts: Parts[Panel]) -> list[str]:
    """Return what is written in a column's picture of marginals."""
    (svg,) = (picture.svg for picture in marginals(parts).pictures if picture.name == f"marginal-{name}")
    return re.findall(r">([^<]*)</text>", svg)


def test_what_ten_patients_have_is_shown(tmp_path: Path) -> None:
    planted = panels(FEWEST_PATIENTS)
    write_report(evaluation_of(planted), planted, tmp_path)
    assert CODE in written(tmp_path) and HOME in written(tmp_path)


@pytest.mark.parametrize(("n", "known"), [(19, []), (20, [2]), (39, [2]), (40, [1, 2, 3]), (100, [0, 1, 2, 3, 4])])
def test_quantiles_have_ten_patients_on_either_side(n: int, known: list[int]) -> None:
    found = quantiles(np.append(np.arange(float(n)), np.nan), (0.1, 0.25, 0.5, 0.75, 0.9))
    assert np.flatnonzero(np.isfinite(found)).tolist() == known


def test_quantiles_over_time_are_those_of_patients() -> None:
    values = np.random.default_rng(0).normal(size=(200, 4))
    values[:185, 2] = np.nan
    found = quantiles_by_time(values, (0.1, 0.5))
    assert found[:, [0, 1, 3]] == pytest.approx(np.quantile(values[:, [0, 1, 3]], (0.1, 0.5), axis=0))
    assert np.isnan(found[:, 2]).all()


@pytest.mark.parametrize("n_patients", [FEWEST_PATIENTS - 1, FEWEST_PATIENTS])
def test_steps_of_fewer_than_ten_patients_are_dashes(n_patients: int) -> None:
    def part(table: pd.DataFrame) -> Panel:
        return panel_of(checked_cohort(table, schema)[0])

    codes = [{"name": "ward", "kind": "categorical", "categories": ["a", "b"]}]
    schema = make_schema(codes, name="steps")
    table = patients(60, 0)[["id", "month"]].assign(ward="a")
    table.loc[table["id"] < 30, "ward"] = "b"
    table.loc[(table["id"] < n_patients) & (table["month"] > 2), "ward"] = "a"
    made = table.assign(ward=np.where(table["id"] < 30, "b", "a"))
    made.loc[(made["id"] < 20) & (made["month"] > 2), "ward"] = "a"
    figure = transition_figure(Parts(part(made), part(table), part(table)))
    assert figure is not None
    svg = figure.pictures[0].svg
    n_steps = sum(5 for _ in range(30)) - 2 * n_patients  # that begin in b
    assert (f">{100 * n_patients / n_steps:.0f}<" in svg) == (n_patients >= FEWEST_PATIENTS)


def test_subgroups_of_fewer_than_ten_are_not_shown() -> None:
    few = subgroup_figure(panels(FEWEST_PATIENTS - 1))
    assert few is not None and "rare" not in few.pictures[0].svg and HOME not in few.pictures[0].svg
    assert "fewer than ten real patients" in few.left_out[0]
    enough = subgroup_figure(panels(FEWEST_PATIENTS))
    assert enough is not None and HOME in enough.pictures[0].svg and enough.left_out == ()


@pytest.mark.parametrize("n_patients", [FEWEST_PATIENTS - 1, FEWEST_PATIENTS])
def test_correlations_of_fewer_than_ten_are_not_told(n_patients: int) -> None:
    table = patients(60, 0)
    table.loc[table["id"] >= n_patients, "skewed"] = np.nan
    table.loc[table["id"] < n_patients, "skewed"] = np.arange(6.0 * n_patients)
    part = panel_of(checked_cohort(table, SCHEMA)[0])
    both: Parts[Panel] = Parts(part, part, part)
    told = [found.real for found in associations(both) if found.names == ("free", "skewed")]
    assert np.isfinite(told).all() == (n_patients >= FEWEST_PATIENTS)
    real, _ = autocorrelations(both, SCHEMA.by_name["skewed"], [1])
    assert np.isfinite(real).all() == (n_patients >= FEWEST_PATIENTS)
