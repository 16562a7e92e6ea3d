"""Numbers, axes and lines: written and drawn as they are."""

import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from hg3.evaluation.draws import Measured
from hg3.evaluation.report.attacks import attack_figure
from hg3.evaluation.report.curves import thinned, y_scale
from hg3.evaluation.report.effects import hazard_figure, policy_figure
from hg3.evaluation.report.figure import file_name, most_apart
from hg3.evaluation.report.measures import MOST_ROWS, measures_figure
from hg3.evaluation.report.scales import percent, scale_of, short, three_decimals, time_ticks, two_decimals
from hg3.evaluation.report.svg import Drawing, fitted, less_or_more, width_of
from hg3.evaluation.results import Section
from tests.evaluation.report.cases import invented


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (0.03214, "0.0321"),
        (58.04, "58"),
        (1234.5, "1,234"),
        (12345, "12.3k"),
        (2.5e6, "2.5M"),
        (-3.2, "−3.2"),
    ],
)
def test_numbers_have_three_digits_that_count(value: float, words: str) -> None:
    assert short(value) == words
    assert short(np.nan) == "–"


def test_shares_and_decimals() -> None:
    assert [percent(share) for share in (0, 0.0001, 0.0123, 0.31, 1)] == ["0%", "under 0.1%", "1.2%", "31%", "100%"]
    assert [two_decimals(v) for v in (-0.001, -0.31, np.nan)] == ["0.00", "−0.31", "–"]
    assert [three_decimals(v) for v in (-0.0001, 0.5, 1234.0)] == ["0.000", "0.500", "1,234"]


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (7.2, 7.5), (-3, 12), (0.5, 80_000), (3, 3), (200, 1200), (1e-6, 2e-6)]
)
def test_ticks_lie_on_their_scale_and_say_their_place(low: float, high: float) -> None:
    scale = scale_of(low, high, 0, 100)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 9
    assert all(0 <= scale.at(value) <= 100 for value, _ in ticks)
    assert len({label for _, label in ticks}) == len(ticks)
    assert scale.log == (low > 0 and high / low > 50)


def test_months_are_counted_by_the_year() -> None:
    assert [label for _, label in time_ticks(0, 59, "month", 5)] == ["0", "12", "24", "36", "48"]
    assert [label for _, label in time_ticks(0, 47, "hour", 5)] == ["0", "12", "24", "36"]


def test_a_margin_makes_no_axis_logarithmic() -> None:
    assert not y_scale(np.array([126.0, 2600.0]), 100, 0).log  # 126 less a margin is 29, and 2600 / 29 is beyond 50
    assert y_scale(np.array([1.0, 2600.0]), 100, 0).log
    assert y_scale(np.array([0.0, 10.0]), 100, 0).low == 0


def test_a_line_stops_where_nothing_is_known() -> None:
    drawing = Drawing(100, 100)
    drawing.curve([0, 1, 2, 3, 4], [0, 1, np.nan, 3, 4], "#000000")
    drawing.band(np.arange(5.0), np.array([0, 1, np.nan, 3, 4]), np.arange(5.0) + 1, "#000000")
    paths = re.findall(r' d="([^"]+)"', drawing.picture("a", "b").svg)
    assert paths[0] == "M0 0L1 1M3 3L4 4"
    assert [path.count("Z") for path in paths[1:]] == [1, 1]


def test_any_name_is_well_formed() -> None:
    drawing = Drawing(100, 100)
    drawing.heading("a < b & \x07c")
    drawing.rect(0, 0, 1, 1, "#000000", "<script>")
    svg = drawing.picture("a", 'says "<b>"').svg
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == 'says "<b>"' and "<script>" not in svg


def test_long_names_are_cut() -> None:
    assert fitted("short", 100, 10) == "short"
    cut = fitted("FTC + RTVB + TDF and so on", 80, 10)
    assert cut.endswith("…") and width_of(cut, 10) <= 80


def test_more_is_blue_and_less_is_ochre() -> None:
    assert (less_or_more(0), less_or_more(5), less_or_more(-1)) == ("#ffffff", "#0067a5", "#9a5b00")


def test_what_lies_furthest_apart_is_kept_in_its_order() -> None:
    assert most_apart(["a", "b", "c", "d"], {"a": 0.1, "b": 0.0, "c": 0.5, "d": 0.3}, 3) == ["a", "c", "d"]
    assert file_name("marginal", "VL (M)") == "marginal-vl-m"
    assert len(thinned(1000)) == 120 and thinned(5).tolist() == [0, 1, 2, 3, 4]


def test_measures_show_the_worst_and_say_so() -> None:
    many = tuple(invented("an error", f"column {k}", 0.01 * k, 0.0, 0.0001) for k in range(30))
    lags = tuple(invented(f"memory, lag {k}", "CD4", 0.01 * k, 0.0, 0.0001) for k in range(1, 13))
    none = Measured("nothing", "CD4", np.zeros(50), np.zeros(50))
    figure = measures_figure(Section("a section", "time", (*many, *lags, none)))
    assert figure is not None
    errors, memory = figure.pictures
    assert "column 29" in errors.svg and "column 18" in errors.svg and "column 17" not in errors.svg
    assert "CD4, lag 12" in memory.svg and "lag 11" not in memory.svg
    assert f"an error: {MOST_ROWS} of 30" in figure.left_out[0] and "nothing" in figure.left_out[1]


def test_curves_of_attacks_are_told_and_drawn() -> None:
    curves = pd.DataFrame(
        {"attack": "distance", "false_positive": [0.0, 0.005, 0.01, 0.5, 1], "true_positive": [0, 0.02, 0.04, 0.6, 1]}
    )
    figure = attack_figure(curves)
    assert figure is not None and "distance finds 0% at 0.1%, 4.0% at 1%" in figure.pictures[0].svg
    assert attack_figure(curves.iloc[:0]) is None


def test_ratios_that_are_unknown_are_left_out() -> None:
    numbers = {"real": 1.0, "real_low": 0.5, "real_high": 2.0, "synthetic": 1.5, "synthetic_low": 1.1}
    table = pd.DataFrame({"covariate": ["age", "sex"], **numbers, "synthetic_high": [2.0, np.nan]})
    figure = hazard_figure(table)
    assert figure is not None and "age 1.00 (0.50 to 2.00) real, 1.50 (1.10 to 2.00)" in figure.pictures[0].svg
    assert "sex" not in figure.pictures[0].svg and figure.left_out
    by_target = hazard_figure(pd.concat([table.assign(target=name) for name in ("death", "switch")]))
    assert by_target is not None and [group.title for group in by_target.groups] == ["death", "switch"]
    assert hazard_figure(table.iloc[1:]) is None


def test_policies_are_told_by_their_worst_action() -> None:
    figure = policy_figure(pd.DataFrame({"action": ["a", "b"], "real": [0.9, 0.1], "synthetic": [0.6, 0.4]}))
    assert (
        figure is not None
        and "−30%" in figure.pictures[0].svg
        and "a, 90% real, 60% synthetic" in figure.pictures[0].svg
    )
