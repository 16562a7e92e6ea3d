"""Conditional releases: static values that are given, groups of equal size, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hg3
from hg3.errors import ConfigError
from hg3.release.conditions import check_balance, condition_of, resolve_where
from hg3.release.verify import verify_release
from hg3.table.checks import checked_cohort
from hg3.table.encoding import Encoder, encode, fit_encoder
from tests import runs
from tests.table.cases import make_schema, make_table, tiny_columns

CPU = torch.device("cpu")
one_thread, command = runs.one_thread, runs.command


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    cohort, _ = checked_cohort(make_table(40), make_schema(tiny_columns()))
    return fit_encoder(cohort, np.ones(40, bool))[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.make_run(tmp_path_factory.mktemp("given"), updates=30)


def test_labels_and_codes_are_the_same(encoder: Encoder) -> None:
    assert resolve_where({"sex": "m"}, encoder) == resolve_where({"sex": "M"}, encoder) == {"sex": "M"}
    assert resolve_where({"height": "171.5", "sex": "f"}, encoder) == {"sex": "F", "height": 171.5}
    assert resolve_where({}, encoder) == {}


@pytest.mark.parametrize(
    "where, sentence",
    [
        ({"CD4": "5"}, "--where names CD4, but the static columns are sex, height"),
        ({"gender": "M"}, "--where names gender"),
        ({"sex": "X"}, "--where sex=X is none of the column's values that training patients have: f, m"),
        ({"height": "tall"}, "--where height=tall is not possible: give a finite number from -inf to inf"),
        ({"height": "nan"}, "--where height=nan is not possible"),
    ],
)
def test_what_cannot_be_given_is_refused(where: dict[str, str], sentence: str, encoder: Encoder) -> None:
    with pytest.raises(ConfigError, match=sentence):
        resolve_where(where, encoder)


@pytest.mark.parametrize("balance, where", [("height", {}), ("drug", {}), ("none", {}), ("sex", {"sex": "F"})])
def test_groups_that_cannot_be_equal_are_refused(balance: str, where: dict[str, Any], encoder: Encoder) -> None:
    with pytest.raises(ConfigError, match=f"--balance {balance!r} was given; it takes one of the static categories"):
        check_balance(balance, where, encoder)


def test_a_condition_is_what_encoding_makes_of_such_a_patient(encoder: Encoder) -> None:
    table = make_table(40)
    table = table[table["id"] == table.loc[table["height"].notna() & (table["sex"] == "M"), "id"].iloc[0]]
    height = float(table["height"].iloc[0])
    cohort, _ = checked_cohort(table.reset_index(drop=True), make_schema(tiny_columns()))
    plan = {"where": {"sex": "M", "height": height}, "balance": None}
    condition = condition_of(plan, encoder, range(3), CPU)
    assert condition is not None and condition.given.all()
    for row in condition.x_static:
        np.testing.assert_array_equal(row.numpy(), encode(cohort, encoder).x_static[0])


def test_balance_turns_from_code_to_code_whatever_the_block(encoder: Encoder) -> None:
    plan = {"where": {}, "balance": "sex"}
    whole, late = (condition_of(plan, encoder, patients, CPU) for patients in (range(8), range(5, 8)))
    assert whole is not None and late is not None
    assert whole.x_static[:, 0].tolist() == [1.0, -1.0] * 4
    assert torch.equal(whole.x_static[5:], late.x_static)
    assert whole.given.tolist() == [[True, False, False]] * 8
    assert condition_of({"where": {}, "balance": None}, encoder, range(8), CPU) is None


def test_a_conditional_release_holds_what_was_given_and_says_so(run: Path, tmp_path: Path) -> None:
    release = runs.make_release(run, tmp_path / "r", 40, where={"sex": "m", "height": "171.5"})
    table = hg3.load(release)
    assert set(table["sex"]) == {"M"} and set(table["height"]) == {171.5}
    assert runs.manifest_of(release)["where"] == {"sex": "M", "height": 171.5}
    assert "every patient was given height = 171.5, sex = M" in (release / "CARD.md").read_text()
    assert verify_release(release, recompute=1, run=run).recomputed_equal == "bytes"
    shorter = runs.make_release(run, tmp_path / "s", 20, where={"sex": "M", "height": 171.5})
    assert hg3.load(shorter).equals(table[table["id"] < 20])


def test_a_balanced_release_has_equal_groups_and_says_so(run: Path, tmp_path: Path) -> None:
    release = runs.make_release(run, tmp_path / "r", 40, balance="sex")
    first = hg3.load(release).groupby("id")["sex"].first()
    assert first.tolist() == ["F", "M"] * 20
    assert "the codes of sex have equal shares by request" in (release / "CARD.md").read_text()
    verify_release(release, recompute=1, run=run)


def test_an_unconditional_card_says_nothing_of_it(run: Path, tmp_path: Path) -> None:
    assert "Not a picture" not in (runs.make_release(run, tmp_path / "r", 4) / "CARD.md").read_text()


def test_what_is_given_matters_to_the_rest(run: Path, tmp_path: Path) -> None:
    women, men = (hg3.load(runs.make_release(run, tmp_path / code, 16, where={"sex": code})) for code in "FM")
    assert not women.drop(columns="sex").equals(men.drop(columns="sex"))


def test_a_network_that_was_never_given_anything_refuses(tmp_path: Path) -> None:
    table = runs.write_cohort(tmp_path)
    changes = {**runs.TINY, "training.condition": "0"}
    hg3.train(table, tmp_path / "run", tmp_path / "schema.toml", changes=changes, updates=2)
    with pytest.raises(ConfigError, match=r"trained with training\.condition = 0"):
        runs.make_release(tmp_path / "run", tmp_path / "r", 4, where={"sex": "M"})
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("text", ["", "sex", "sex=", "=M", "sex=M,sex=F", "sex=M,"])
def test_a_condition_that_is_none_is_refused(text: str, run: Path, tmp_path: Path, command: Any) -> None:
    ended = command("generate", run, "--patients", 4, "--where", text, "--out", tmp_path / "r")
    assert ended.code == 2 and "it takes COLUMN=VALUE,COLUMN=VALUE with each column once" in ended.err
    assert not (tmp_path / "r").exists()
