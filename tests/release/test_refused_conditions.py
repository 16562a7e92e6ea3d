"""What a release cannot give its patients is refused before anything is written."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hg3
from hg3.cli.release import where_of
from hg3.errors import ConfigError
from hg3.release.conditions import check_balance, condition_of, resolve_where
from hg3.table.checks import checked_cohort
from hg3.table.encoding import Encoder, fit_encoder
from tests import runs
from tests.table.cases import make_schema

one_thread, command = runs.one_thread, runs.command
RACES = ["White, non-Hispanic", "Black, non-Hispanic"]
COLUMNS: list[dict[str, Any]] = [
    {"name": "sex", "kind": "categorical", "static": True, "categories": [1, 2], "labels": ["Male", "Female"]},
    {"name": "eth", "kind": "categorical", "static": True, "categories": ["A", "B", "C"]},
    {"name": "tested", "kind": "binary", "static": True, "indicates": "gene", "masks": True},
    {"name": "gene", "kind": "categorical", "static": True, "categories": ["w", "m"]},
    {"name": "age", "kind": "real", "static": True, "decimals": 1},
    {"name": "weight", "kind": "real", "static": True, "decimals": 0, "bounds": [0.5, 1234567.0]},
    {"name": "born", "kind": "real", "static": True},
    {"name": "race", "kind": "categorical", "static": True, "categories": [1, 2], "labels": RACES},
    {"name": "dose", "kind": "real", "decimals": 1},
]
NAMES = [column["name"] for column in COLUMNS]


def make_odd_table(n_patients: int = 40) -> pd.DataFrame:
    """Return a table in which sex and born are constant, code C of eth does not occur, and tested masks gene."""
    rng = np.random.default_rng(0)
    genes = pd.Series(rng.choice(["w", "m"], n_patients))
    patients = pd.DataFrame(
        {
            "id": np.arange(n_patients),
            "sex": 1,
            "eth": rng.choice(["A", "B"], n_patients),
            "tested": np.arange(n_patients) % 2,
            "gene": genes.where(np.arange(n_patients) % 2 == 1),
            "age": rng.normal(50, 10, n_patients).round(1),
            "weight": rng.normal(70, 9, n_patients).round(),
            "born": 1970.0,
            "race": np.arange(n_patients) % 2 + 1,
        }
    )
    months = patients.loc[patients.index.repeat(6)].reset_index(drop=True)
    return months.assign(month=np.tile(np.arange(6), n_patients), dose=rng.normal(0, 3, len(months)).round(1))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    cohort, _ = checked_cohort(make_odd_table(), make_schema(COLUMNS))
    return fit_encoder(cohort, np.ones(40, bool))[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "schema.toml").write_text(make_schema(COLUMNS, name="odd").to_toml(), encoding="utf-8")
    make_odd_table().to_parquet(folder / "table.parquet")
    hg3.train(folder / "table.parquet", folder / "run", folder / "schema.toml", changes=runs.TINY, updates=10)
    return folder / "run"


REFUSED = [
    ("--where", "sex=Female", "--where sex=Female is none of the column's values that training patients have: Male"),
    ("--where", "sex=2", "--where sex=2 is none of the column's values that training patients have: Male"),
    ("--where", "eth=C", "--where eth=C is none of the column's values that training patients have: A, B"),
    ("--where", "gene=m", "only patients with tested=1 have; add tested=1 to --where"),
    ("--where", "gene=m,tested=0", "only patients with tested=1 have; add tested=1 to --where"),
    ("--where", "age=inf", "is not possible: give a finite number from -inf to inf"),
    ("--where", "age=-Infinity", "is not possible: give a finite number"),
    ("--where", "age=nan", "is not possible: give a finite number"),
    ("--where", "age=1e400", "is not possible: give a finite number"),
    ("--where", "age=1_0", "is not possible: give a finite number"),
    ("--where", "age=1e300", "is farther out than the model goes"),
    ("--where", "age=-1e9", "is farther out than the model goes"),
    ("--where", "weight=0.4", "is not possible: give a finite number from 0.5 to 1234567"),
    ("--where", "weight=1234568", "is not possible: give a finite number from 0.5 to 1234567"),
    ("--where", "born=1970", "is not possible, for the column is constant; leave it out"),
    ("--where", "", "it takes COLUMN=VALUE,COLUMN=VALUE with each column once"),
    ("--where", 'sex=Male,"eth=A', "and a pair with a comma in double quotes"),
    ("--where", '"sex=Male"x', "and a pair with a comma in double quotes"),
    ("--where", "eth=Black, non-Hispanic", "and a pair with a comma in double quotes"),
    ("--where", 'sex=Male,"sex=Male"', "with each column once"),
    ("--where", "dose=1", "but the static columns are sex, eth"),
    ("--balance", "", "--balance '' was given; it takes one of the static categories"),
    ("--balance", "sex", "it takes one of the static categories that --where does not fix: eth, tested, gene, race"),
    ("--balance", "eth", "no training patient has its code C; take that out of the schema's categories"),
    ("--balance", "gene", "only patients with tested=1 have; add tested=1 to --where"),
    ("--balance", "age", "it takes one of the static categories"),
]


@pytest.mark.parametrize("option, value, sentence", REFUSED)
def test_a_refusal_is_one_sentence_and_leaves_nothing(
    option: str, value: str, sentence: str, run: Path, tmp_path: Path, command: Any
) -> None:
    ended = command("generate", run, "--patients", 4, option, value, "--out", tmp_path / "r")
    assert ended.code == 2 and sentence in ended.err
    assert ended.err.count("\n") == 1 and not re.search(r"\. [A-Z]|Traceback", ended.err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text, where",
    [
        ("a=1,b=x", {"a": "1", "b": "x"}),
        (" a = 1 , b= x ", {"a": "1", "b": "x"}),
        ('"eth=Black, non-Hispanic",sex=F', {"eth": "Black, non-Hispanic", "sex": "F"}),
        ('sex=F, "eth=Black, non-Hispanic"', {"sex": "F", "eth": "Black, non-Hispanic"}),
        ('"group, coarse=x"', {"group, coarse": "x"}),
        ('"a=say ""x"", y"', {"a": 'say "x", y'}),
        ('a=6" wide,b="x"', {"a": '6" wide', "b": '"x"'}),
        ('"a=one\ntwo"', {"a": "one\ntwo"}),
        ("a=b=c", {"a": "b=c"}),
        (None, {}),
    ],
)
def test_a_pair_is_quoted_as_in_csv(text: str | None, where: dict[str, str]) -> None:
    assert where_of(text) == where


@pytest.mark.parametrize(
    "text", ["", ",", "a", "a=", "=1", "a=1,", "a=1,a=2", '"a=1', '"a=1"b=2', '""', "a=1\nb=2", "\n"]
)
def test_what_is_no_pair(text: str) -> None:
    with pytest.raises(ConfigError, match=r"it takes COLUMN=VALUE,COLUMN=VALUE with each column once"):
        where_of(text)


def test_a_label_with_a_comma_can_be_given(run: Path, tmp_path: Path, command: Any) -> None:
    out = tmp_path / "r"
    ended = command("generate", run, "--patients", 4, "--where", '"race=Black, non-Hispanic",sex=Male', "--out", out)
    assert ended.code == 0, ended.err
    assert set(hg3.load(out)["race"]) == {2}


@given(where=st.dictionaries(st.sampled_from(NAMES), st.text() | st.floats() | st.integers(), min_size=1))
def test_a_condition_is_refused_or_can_be_met(where: dict[str, Any], encoder: Encoder) -> None:
    try:
        resolved = resolve_where(where, encoder)
    except ConfigError:
        return
    condition = condition_of({"where": resolved, "balance": None}, encoder, range(2), torch.device("cpu"))
    assert condition is not None and torch.isfinite(condition.x_static).all()


@given(age=st.floats(40, 60))
def test_a_real_is_noted_as_it_is_released(age: float, encoder: Encoder) -> None:
    noted = resolve_where({"age": age}, encoder)
    assert noted == {"age": round(age, 1)} == resolve_where(noted, encoder)


def test_the_ends_of_finite_bounds_can_be_given(encoder: Encoder) -> None:
    assert resolve_where({"weight": "0.5"}, encoder) == {"weight": 1.0}  # the lowest of no decimals inside
    assert resolve_where({"weight": "1234567"}, encoder) == {"weight": 1234567.0}


def test_a_masked_column_is_had_by_all_where_its_indicator_is_given(run: Path, tmp_path: Path) -> None:
    fixed = hg3.load(runs.make_release(run, tmp_path / "f", 20, where={"gene": "m", "tested": 1}))
    assert set(fixed["gene"]) == {"m"} and set(fixed["tested"]) == {1}
    equal = hg3.load(runs.make_release(run, tmp_path / "b", 20, balance="gene", where={"tested": "1"}))
    assert equal.groupby("id")["gene"].first().tolist() == ["w", "m"] * 10
    free = hg3.load(runs.make_release(run, tmp_path / "i", 20, balance="tested"))
    assert free.groupby("id")["gene"].count().gt(0).tolist() == [False, True] * 10


def test_a_column_called_like_a_flag_is_none(encoder: Encoder) -> None:
    columns = [*COLUMNS, {"name": "eth (observed)", "kind": "categorical", "static": True, "categories": [0, 1, 2]}]
    table = make_odd_table()
    cohort, _ = checked_cohort(table.assign(**{"eth (observed)": table["id"] % 3}), make_schema(columns))
    fitted = fit_encoder(cohort, np.ones(40, bool))[0]
    condition = condition_of({"where": {"eth": "A"}, "balance": None}, fitted, range(2), torch.device("cpu"))
    assert condition is not None and condition.given.sum(dim=1).tolist() == [1, 1]


def test_an_encoder_that_did_not_note_its_codes_takes_all_of_them(encoder: Encoder) -> None:
    content = encoder.to_dict()
    for column in content["columns"]:
        del column["occurring"]
    older = Encoder.from_dict(content, encoder.schema)
    check_balance("eth", {}, older)
    assert resolve_where({"eth": "C"}, older) == {"eth": "C"}
    with pytest.raises(ConfigError, match="training patients have: Male"):
        resolve_where({"sex": "Female"}, older)
