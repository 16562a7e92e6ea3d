"""Gates judge measures as written: by the interval, the ceiling, the worst subject."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hg3.errors import ConfigError
from hg3.evaluation.draws import Measured
from hg3.evaluation.gates import Gate, Gates, Verdict, judge, load_gates
from hg3.evaluation.results import measured_content, measured_of

RNG = np.random.default_rng(0)


def gate(**changes: object) -> Gate:
    fields = {"name": "g", "question": "fidelity", "measures": ["TV"], "margin": 0.01}
    return Gate.model_validate({key: value for key, value in {**fields, **changes}.items() if value is not None})


def verdict(measures: list[Measured], **changes: object) -> Verdict:
    (found,) = judge(Gates(gates=(gate(**changes),)), measures)
    return found


def around(centre: float, spread: float = 0.01) -> np.ndarray:
    """Return 50 draws whose interval is about centre +- spread."""
    return centre + np.linspace(-spread, spread, 50)


@pytest.mark.parametrize(
    ("beyond", "state"),
    [(-0.02, "shown"), (0.0, "shown"), (0.005, "met"), (0.015, "met"), (0.025, "missed")],
)
def test_a_margin_is_looked_at_from_both_ends_of_the_interval(beyond: float, state: str) -> None:
    found = verdict([Measured("TV", "sex", 0.3 + around(beyond), np.full(50, 0.3))])
    assert found.state == state and found.passed == (state != "missed")
    assert found.value == pytest.approx(beyond, abs=1e-9) and found.ceiling == pytest.approx(0.3)


@pytest.mark.parametrize(("score", "state"), [(0.91, "shown"), (0.893, "met"), (0.88, "missed")])
def test_where_higher_is_better_a_limit_is_a_floor(score: float, state: str) -> None:
    found = verdict([Measured("TV", "", around(score), np.ones(50), True)], margin=None, limit=0.9)
    assert found.state == state
    assert found.interval[0] < found.value < found.interval[1] and found.value == pytest.approx(score)


def test_the_ceiling_is_paired_with_the_score_draw_by_draw() -> None:
    common = RNG.normal(size=50)  # the held-out patients of a draw, hard for both
    assert verdict([Measured("TV", "", common + 0.005, common)]).state == "shown"
    assert verdict([Measured("TV", "", common + 0.005, RNG.permutation(common))]).state == "met"


def test_mean_and_worst_of_subjects() -> None:
    measures = [Measured("TV", name, np.full(50, score), np.zeros(50)) for name, score in (("a", 0.0), ("b", 0.019))]
    assert verdict(measures).state == "shown"
    worst = verdict(measures, over="worst")
    assert (worst.state, worst.worst) == ("missed", "b")


def test_an_estimate_cannot_hide_behind_a_wide_interval() -> None:
    wide = [Measured("TV", "", around(0.6, 0.3), np.full(50, 0.5))]
    assert verdict(wide, margin=None, limit=0.55).state == "met"
    assert verdict(wide, margin=None, limit=0.55, by="estimate").state == "missed"


def test_what_cannot_be_estimated_does_not_pass() -> None:
    unknown = Measured("TV", "", np.full(50, np.nan), np.full(50, np.nan))
    found = verdict([unknown])
    assert found.state == "not estimable" and not found.passed
    assert found.content()["value"] is None and found.content()["interval"] == [None, None]
    assert verdict([unknown], optional=True).passed
    partly = verdict([unknown, Measured("TV", "sex", np.zeros(50), np.zeros(50))])
    assert partly.state == "shown" and partly.content()["left_out"] == ["TV"]


def test_a_gate_of_measures_of_both_directions_is_refused() -> None:
    both = [Measured("TV", "", np.zeros(50), np.zeros(50)), Measured("KS", "", np.zeros(50), np.ones(50), True)]
    with pytest.raises(ConfigError, match="make two gates of it"):
        judge(Gates(gates=(gate(measures=["TV", "KS"]),)), both)


def test_a_gate_without_its_measure_is_left_out() -> None:
    assert judge(Gates(gates=(gate(),)), [Measured("KS", "", np.zeros(50), np.zeros(50))]) == []


def test_a_gate_may_take_some_subjects_alone() -> None:
    measures = [Measured("TV", name, np.full(50, score), np.zeros(50)) for name, score in (("a", 0.0), ("b", 0.019))]
    assert verdict(measures, over="worst", subjects=["a"]).state == "shown"
    assert verdict(measures, subjects=["b"]).state == "missed"
    assert judge(Gates(gates=(gate(subjects=["c"]),)), measures) == []


def test_a_misspelt_measure_is_refused_and_one_that_the_table_lacks_is_not(tmp_path: Path) -> None:
    path = tmp_path / "gates.toml"
    text = '[[gates]]\nname = "a"\nquestion = "time"\nmeasures = ["policy value", "transition"]\nlimit = 1\n'
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"no measure 'transition' .nearest: 'transitions'.; there are .*; slopes;"):
        load_gates(path)
    path.write_text(text.replace("transition", "transitions"))
    assert judge(load_gates(path), [Measured("KS", "", np.zeros(50), np.zeros(50))]) == []


def test_a_measure_comes_back_from_its_content() -> None:
    measured = Measured("TV", "sex", np.array([0.25, np.nan]), np.array([0.5, 0.125]), True)
    again = measured_of(measured_content(measured))
    assert (again.name, again.subject, again.higher_is_better) == ("TV", "sex", True)
    np.testing.assert_array_equal(again.score, measured.score)
    np.testing.assert_array_equal(again.ceiling, measured.ceiling)


def test_a_control_that_looks_like_real_patients_leaves_a_gate_without_an_answer(tmp_path: Path) -> None:
    """Five draws of a learner that tells nothing from anything: that it does not tell the release is no merit."""
    ceiling = np.array([0.44, 0.52, 0.50, 0.49, 0.55])
    for control, power in ((ceiling + 0.05, False), (ceiling + 0.2, True)):
        measured = Measured("TV", "", ceiling - 0.01, ceiling, control=control)
        again = measured_of(measured_content(measured))
        assert again.has_power == measured.has_power == measured_content(measured)["has_power"] == power
        found = verdict([again], margin=None, limit=0.6)
        assert found.state == ("shown" if power else "not estimable") and found.left_out == (() if power else ("TV",))


def test_a_release_that_is_told_apart_is_told_whatever_the_control_says() -> None:
    """Of few patients a learner may miss exchanged columns and still see what a bad release does to every record."""
    ceiling = np.array([0.44, 0.52, 0.50, 0.49, 0.55])
    bad = Measured("TV", "", ceiling + 0.4, ceiling, control=ceiling + 0.05)
    assert bad.has_power and measured_of(measured_content(bad)).has_power
    assert verdict([bad], margin=None, limit=0.6).state == "missed"
    better = replace(bad, score=-bad.score, ceiling=-ceiling, control=-ceiling - 0.05, higher_is_better=True)
    assert better.has_power and not replace(better, score=better.ceiling).has_power


@pytest.mark.parametrize(("n_draws", "ends"), [(2, (0.0, 0.1)), (9, (0.0, 0.8)), (41, (0.1, 3.9))])
def test_of_fewer_than_ten_draws_the_ends_are_the_lowest_and_the_highest(
    n_draws: int, ends: tuple[float, float]
) -> None:
    measured = Measured("TV", "", np.arange(n_draws)[::-1] / 10, np.zeros(n_draws))
    assert measured.difference()[1:] == pytest.approx(ends)
    found = verdict([measured])
    assert found.interval == pytest.approx(ends)
    assert found.content()["n_draws"] == measured_content(measured)["n_draws"] == n_draws


def test_the_shipped_gates_load() -> None:
    assert {one.question for one in load_gates().gates} == {"fidelity", "time", "utility", "privacy"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("nonsense", "TOMLDecodeError"),
        ("format = 1", "gates: Field required"),
        ('[[gates]]\nname = "a"\nquestion = "time"\nmeasures = ["KS"]', "gates.0: takes one of `margin` and `limit`"),
        ('[[gates]]\nname = "a"\nquestion = "soul"\nmeasures = ["KS"]\nlimit = 1', "gates.0.question"),
        ('[[gates]]\nname = "a"\nquestion = "time"\nmeasures = ["KS"]\nlimits = 1', "gates.0.limits"),
        ('[[gates]]\nname = "a"\nquestion = "time"\nmeasures = ["KS"]\nlimit = nan', "gates.0.limit"),
    ],
)
def test_a_file_that_is_no_list_of_gates(text: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "gates.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="cannot be read as gates") as refused:
        load_gates(path)
    assert what in str(refused.value)
    with pytest.raises(ConfigError, match="FileNotFoundError"):
        load_gates(tmp_path / "absent.toml")
