"""The figure of marginals: nothing in it can be traced to a few patients."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch

from hg3.evaluation.figures import draw_marginals
from hg3.evaluation.suppression import FEWEST_PATIENTS
from hg3.table.checks import checked_cohort
from hg3.table.cohort import Cohort
from tests.table.cases import make_schema

SCHEMA = make_schema(
    [
        {"name": "sex", "kind": "binary", "static": True, "categories": ["F", "M"]},
        {"name": "height", "kind": "real", "static": True},
        {"name": "VL", "kind": "real", "missing": "modelled", "unit": "copies/mL"},
        {"name": "pH", "kind": "real"},
        {"name": "drug", "kind": "categorical", "categories": ["a", "b", "rare"], "labels": ["A", "B", "a long label"]},
    ],
    length=5,
)


def make_patients(n: int, seed: int) -> pd.DataFrame:
    """Return patients of five rows each, their VL over many decades."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"id": np.arange(n).repeat(5), "month": np.tile(np.arange(5), n)})
    table["sex"] = rng.choice(["F", "M"], n).repeat(5)
    table["height"] = rng.normal(170, 10, n).round(1).repeat(5)
    table["VL"] = rng.lognormal(7, 2, 5 * n).round(2)
    table["pH"] = rng.normal(7.4, 0.1, 5 * n).round(3)
    table["drug"] = rng.choice(["a", "b"], 5 * n)
    return table


def draw(real: pd.DataFrame, made: pd.DataFrame, out: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Axes]:
    """Draw the figure and return its panels by the first word of their titles."""
    drawn: list[Figure] = []
    monkeypatch.setattr(plt, "close", drawn.append)
    draw_marginals(cohort_of(made), cohort_of(real), out)
    (figure,) = drawn
    return {panel.get_title(loc="left").split(" ")[0]: panel for panel in figure.axes}


def cohort_of(table: pd.DataFrame) -> Cohort:
    return checked_cohort(table, SCHEMA)[0]


def bars_of(panel: Axes) -> list[float]:
    """Return the heights of a panel's bars, in %: the real ones, then the synthetic ones."""
    return [patch.get_height() for patch in panel.patches if isinstance(patch, Rectangle)]


def stairs_of(panel: Axes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return heights and edges of a panel's bins: of the real ones, then of the synthetic ones."""
    return [patch.get_data()[:2] for patch in panel.patches if isinstance(patch, StepPatch)]


def test_it_is_a_picture_with_a_panel_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panels = draw(make_patients(60, 0), make_patients(50, 1), tmp_path / "marginals.png", monkeypatch)
    assert (tmp_path / "marginals.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert [path.name for path in tmp_path.iterdir()] == ["marginals.png"]
    assert {"sex", "height", "VL", "pH", "drug"} <= panels.keys()
    assert panels["sex"].get_title(loc="left") == "sex (static)"
    assert panels["VL"].get_xscale() == "log" and panels["pH"].get_xscale() == "linear"
    assert panels["VL"].get_xlabel() == "copies/mL"
    assert [tick.get_text() for tick in panels["drug"].get_xticklabels()] == ["A", "B", "a long label"]


def test_bars_are_shares_once_a_patient_where_static(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, made = make_patients(60, 0), make_patients(50, 1)
    panels = draw(real, made, tmp_path / "m.png", monkeypatch)
    expected = [100 * (t.groupby("id")["sex"].first() == code).mean() for t in (real, made) for code in "FM"]
    assert bars_of(panels["sex"]) == pytest.approx(expected)
    expected = [100 * (t["drug"] == code).mean() for t in (real, made) for code in ("a", "b", "rare")]
    assert bars_of(panels["drug"]) == pytest.approx(expected)


@pytest.mark.parametrize("n_carriers", [1, FEWEST_PATIENTS - 1, FEWEST_PATIENTS])
def test_a_bar_of_fewer_than_ten_patients_is_not_drawn(
    n_carriers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = make_patients(60, 0)
    carriers = real["id"] < n_carriers  # on all of their rows: many rows, few patients
    real.loc[carriers, "drug"] = "rare"
    bars = bars_of(draw(real, make_patients(50, 1), tmp_path / "m.png", monkeypatch)["drug"])
    expected = 100 * carriers.mean() if n_carriers >= FEWEST_PATIENTS else 0.0
    assert bars[2] == pytest.approx(expected)


def test_a_bin_of_fewer_than_ten_patients_is_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = make_patients(400, 0)
    real["pH"] = np.random.default_rng(2).choice([7.0, 7.1, 7.4, 7.5], len(real))
    for n_patients, drawn in ((FEWEST_PATIENTS - 1, False), (FEWEST_PATIENTS, True)):
        real.loc[real["id"] < n_patients, "pH"] = 7.25  # five rows each, in the middle of the axis
        (heights, edges), _ = stairs_of(draw(real, make_patients(50, 1), tmp_path / "m.png", monkeypatch)["pH"])
        middle = np.searchsorted(edges, 7.25, side="right") - 1
        assert (heights[middle] > 0) == drawn
        assert (heights > 0).sum() == 4 + drawn


def test_shares_of_bins_are_those_of_rows_inside_the_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = make_patients(2000, 0)
    panel = draw(real, make_patients(900, 1), tmp_path / "m.png", monkeypatch)["pH"]
    low, high = panel.get_xlim()
    assert (low, high) == pytest.approx(tuple(np.quantile(real["pH"], [0.01, 0.99])))
    shares = [heights.sum() for heights, _ in stairs_of(panel)]
    assert shares[0] == pytest.approx(real["pH"].between(low, high).mean(), abs=0.01)
    assert 0.9 < shares[1] < 1.0


# In a small cohort one patient may make up more than 1% of the rows.
@pytest.mark.parametrize("n_patients", [30, 1000])
@pytest.mark.parametrize("n_rows", [1, 5])
def test_an_extreme_patient_is_outside_the_axes(
    n_patients: int, n_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = make_patients(n_patients, 0)
    top, bottom = (real["id"] == p for p in (3, 7))
    real.loc[top & (real["month"] < n_rows), ["VL", "pH"]] = [1e9, 9.9]
    real.loc[bottom & (real["month"] < n_rows), ["VL", "pH"]] = [1e-3, 1.1]
    real.loc[top, "height"], real.loc[bottom, "height"] = 251.5, 51.5
    panels = draw(real, make_patients(50, 1), tmp_path / "m.png", monkeypatch)
    for name in ("VL", "pH", "height"):
        low, high = panels[name].get_xlim()
        assert real[name].min() < low < high < real[name].max()
        assert (real.groupby("id")[name].max() >= high).sum() >= FEWEST_PATIENTS
        assert (real.groupby("id")[name].min() <= low).sum() >= FEWEST_PATIENTS
        for _, edges in stairs_of(panels[name]):
            assert low <= edges.min() and edges.max() <= high


def test_fewer_than_ten_patients_are_not_drawn_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panels = draw(make_patients(9, 0), make_patients(50, 1), tmp_path / "m.png", monkeypatch)
    for name in ("VL", "pH", "height"):
        assert stairs_of(panels[name]) == []
        assert [text.get_text() for text in panels[name].texts] == ["constant, or too few patients"]
    assert bars_of(panels["drug"])[:3] == [0.0, 0.0, 0.0]


def test_missing_cells_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = make_patients(1500, 0)
    whole = stairs_of(draw(real, real, tmp_path / "m.png", monkeypatch)["pH"])
    real.loc[real["month"] > 1, "VL"] = np.nan
    panels = draw(real, real, tmp_path / "m.png", monkeypatch)
    low, high = panels["VL"].get_xlim()
    assert (low, high) == pytest.approx(tuple(real["VL"].quantile([0.01, 0.99])), rel=1e-6)
    np.testing.assert_array_equal(stairs_of(panels["pH"])[0][0], whole[0][0])
