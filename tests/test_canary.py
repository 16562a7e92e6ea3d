"""What nobody may see: values of one patient, planted in a cohort, are searched for in all that hg3 leaves and says."""

import gzip
import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from hg3.table.split import split_patients
from hg3.training.checkpoint import read_recipe
from tests import runs
from tests.runs import Ended, options
from tests.table.cases import make_schema

one_thread, command = runs.one_thread, runs.command
Command = Callable[..., Ended]

N_PATIENTS, LENGTH = 80, 6
COLUMNS: list[dict[str, Any]] = [
    {"name": "free", "kind": "real"},
    {"name": "bounded", "kind": "real", "bounds": [0.0, 1e9]},
    {"name": "ranked", "kind": "real", "bounds": [0.0, 1e9], "transform": "quantile", "missing": "modelled"},
    {"name": "height", "kind": "real", "static": True},
    {"name": "ward", "kind": "categorical", "missing": "modelled"},
]
# The highest value of its column by far, one for a patient of each part; the first one is the maximum.
NUMBERS = {
    "free": (98765432.125, 87654320.5, 76543210.25),
    "bounded": (91827364.125, 81726354.5, 71625344.25),
    "ranked": (95175385.125, 85164274.5, 75153163.25),
    "height": (90909192.125, 80808182.5, 70707172.25),
}
CODES = ("isolation-7731", "cellar-7732", "attic-7733")
IDS = ("maria-7731", "josef-7732", "jesus-7733")


def plant(table: pd.DataFrame) -> pd.DataFrame:
    """Plant canaries in a patient of each part of the split, whom training, stopping and comparing see."""
    split = split_patients(N_PATIENTS, seed=0)
    ids = np.sort(table["id"].unique())
    for place, part in enumerate((split.train, split.validation, split.holdout)):
        rows = table.index[table["id"] == ids[part][1]]
        for name in ("free", "bounded", "ranked"):
            table.loc[rows[2], name] = NUMBERS[name][place]
        table.loc[rows, "height"] = NUMBERS["height"][place]
        table.loc[rows[3], "ward"] = CODES[place]
        table.loc[rows, "id"] = ids[part][1][:5] + IDS[place]  # stays where it is in the order of ids
    return table


def cohort() -> pd.DataFrame:
    random, n = np.random.default_rng(0), N_PATIENTS * LENGTH
    table = pd.DataFrame(
        {
            "id": np.repeat([f"p-{i:03d}" for i in range(N_PATIENTS)], LENGTH),
            "month": np.tile(np.arange(LENGTH), N_PATIENTS),
            "free": np.round(random.normal(100, 10, n), 2),
            "bounded": np.round(random.lognormal(4, 1, n), 2),
            "ranked": np.where(random.random(n) < 0.2, np.nan, np.round(random.gamma(2, 30, n), 2)),
            "height": np.repeat(np.round(random.normal(170, 9, N_PATIENTS), 1), LENGTH),
            "ward": random.choice(["north", "south", "west"], n),
        }
    )
    return plant(table)


def spellings(number: float) -> Iterator[str]:
    """Yield ways in which a program may print a number."""
    for decimals in range(7):
        yield f"{number:.{decimals}f}"
        yield f"{number:,.{decimals}f}"
    for digits in range(5, 12):
        yield f"{number:.{digits}e}"
        yield f"{number:.{digits + 1}g}"
    yield from (repr(number), str(int(number)), repr(float(np.float32(number))))


def needles() -> dict[str, list[bytes]]:
    """Return the byte strings by which a canary is recognised, by canary."""
    texts = {text: [text.encode(), text.encode("utf-16-le")] for text in (*CODES, *IDS)}
    for number in (number for numbers in NUMBERS.values() for number in numbers):
        binary = [struct.pack(order + kind, number) for order in "<>" for kind in "df"]
        texts[repr(number)] = [*{spelling.encode() for spelling in spellings(number)}, *binary]
    return texts


NEEDLES = needles()


def found_in_bytes(content: bytes) -> set[str]:
    return {canary for canary, forms in NEEDLES.items() if any(form in content for form in forms)}


def found_in_parquet(path: Path) -> set[str]:
    table = pq.read_table(path, partitioning=None)
    found = found_in_bytes(repr(table.schema.metadata).encode())
    for column in table.columns:
        cells = pd.Series(column.to_pandas())
        if pd.api.types.is_float_dtype(cells):
            numbers = [number for numbers in NUMBERS.values() for number in numbers]
            found |= {repr(v) for v in numbers if np.isclose(cells, v, rtol=1e-6, atol=0).any()}
        else:
            found |= found_in_bytes("\n".join(map(str, cells.unique())).encode())
    return found


def found_in(path: Path) -> set[str]:
    """Return the canaries in a file: in its bytes, and in what they say once decompressed."""
    found = found_in_bytes(path.read_bytes())
    if path.suffix == ".parquet":
        found |= found_in_parquet(path)
    if path.suffix == ".gz":
        found |= found_in_bytes(gzip.decompress(path.read_bytes()))
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the cohort's table and schema, in which the work is done."""
    (tmp_path / "schema.toml").write_text(make_schema(COLUMNS, name="canary").to_toml(), encoding="utf-8")
    cohort().to_parquet(tmp_path / "table.parquet")
    cohort().to_csv(tmp_path / "table.csv", index=False)
    return tmp_path


def is_listed(name: str, listing: dict[str, Any]) -> bool:
    return any(name == entry or (entry.endswith("/") and name.startswith(entry)) for entry in listing)


def test_search_finds_what_is_there(place: Path) -> None:
    with (place / "table.csv").open("rb") as plain, gzip.open(place / "table.csv.gz", "wb") as zipped:
        zipped.write(plain.read())
    for name in ("table.parquet", "table.csv", "table.csv.gz"):
        assert found_in(place / name) == set(NEEDLES), name
    assert found_in_bytes(b"up to 98,765,432.1 copies") == {"98765432.125"}
    assert found_in_bytes(b"9.876543e+07") == {"98765432.125"}
    assert found_in_bytes(b"98765 98.7 987654 p-003") == set()


def test_no_value_of_a_patient_gets_out(place: Path, command: Command) -> None:
    table, run, release = place / "table.parquet", place / "run", place / "release"
    schema = ("--schema", place / "schema.toml")
    said = [
        command("schema", "check", table, *schema),
        command("train", table, *schema, "--updates", 12, "--out", run, *options()),
        command("train", table, "--out", run, "--resume", "--updates", 14),
        command("generate", run, "--patients", 300, "--steps", 5, "--out", release),
        command("release", "verify", release, "--recompute", 2, "--run", run),
        command("release", "export", release, "--csv", place / "export.csv"),
        command("release", "export", release, "--csv", place / "export.csv.gz"),
        command("evaluate", release, "--run", run, "--out", place / "report"),
    ]
    assert [ended.code for ended in said] == [0] * len(said)
    listing = json.loads((run / "private.json").read_text())
    inputs = {place / "table.parquet", place / "table.csv"}
    private = [path for path in run.rglob("*") if path.is_file() and is_listed(str(path.relative_to(run)), listing)]
    public = [path for path in place.rglob("*") if path.is_file() and path not in {*inputs, *private}]
    assert {path: found_in(path) for path in public if found_in(path)} == {}
    assert set().union(*(found_in_bytes((ended.out + ended.err).encode()) for ended in said)) == set()
    # The search was of everything that there is, and inside the run there was something to find.
    assert {"report.html", "metrics.json", "export.csv.gz", "config.toml", "part-00000.parquet"} <= {
        path.name for path in public
    }
    assert set(IDS) <= found_in(run / "split.json")
    # Of values not even the run holds one: its ends are means over ten patients, its codes those of ten or more.
    assert {path: found_in(path) - set(IDS) for path in private if found_in(path) - set(IDS)} == {}
    assert run.stat().st_mode & 0o077 == 0


def test_no_network_can_reach_a_maximum(place: Path) -> None:
    """What the sampling bounds, at which the guardrail holds every network, are in units of the table."""
    runs.train(place / "table.parquet", place / "run", place / "schema.toml", changes=runs.TINY, updates=1)
    encoder = read_recipe(place / "run").encoder
    blocks = {block.name: block for block in (*encoder.layout.static, *encoder.layout.dynamic)}
    for fitted in encoder.columns:
        if fitted.codec is not None:
            highest = fitted.codec.decode(np.array([blocks[fitted.column.name].high]))
            for number in NUMBERS[fitted.column.name]:
                assert not np.isclose(highest, number, rtol=1e-3), fitted.column.name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "free"', 'name = "free"\nbounds = [0.0, 1e6]'),
        ('kind = "real"\nstatic', 'kind = "categorical"\ncategories = [1, 2]\nstatic'),
        ('name = "ward"', 'name = "ward"\ncategories = ["north", "south"]'),
        ('name = "ward"\nkind = "categorical"', 'name = "ward"\nkind = "real"'),
        ('missing = "modelled"', 'missing = "never"'),
        ('patient = "id"', 'patient = "ward"'),
        ('time = "month"', 'time = "free"'),
        ('name = "height"', 'name = "size"'),
        ("length = 6", "length = 3"),
    ],
)
def test_no_refusal_tells_a_value(place: Path, command: Command, old: str, new: str) -> None:
    text = (place / "schema.toml").read_text()
    assert old in text
    (place / "schema.toml").write_text(text.replace(old, new))
    for name in ("table.parquet", "table.csv"):
        wish = (place / name, "--schema", place / "schema.toml")
        for ended in (
            command("schema", "check", *wish),
            command("train", *wish, "--updates", 2, "--out", place / "run", *options()),
        ):
            assert (ended.code, found_in_bytes((ended.out + ended.err).encode())) == (2, set()), ended


def test_table_without_a_header_tells_none(place: Path, command: Command) -> None:
    table = cohort().iloc[::-1]  # the first row, which is taken for the header, has canaries
    first = table.index[table["ward"].isin(CODES)][0]
    table.loc[[first, *table.index.drop(first)]].to_csv(place / "bare.csv", index=False, header=False)
    ended = command("schema", "check", place / "bare.csv", "--schema", place / "schema.toml")
    assert (ended.code, found_in_bytes((ended.out + ended.err).encode())) == (2, set()), ended


def test_numbers_are_extreme() -> None:
    """A canary that is no maximum would prove little."""
    table = cohort()
    for name, numbers in NUMBERS.items():
        assert sorted(table[name].dropna().unique())[-3:] == sorted(numbers)
        assert math.isclose(table[name].max(), numbers[0])
