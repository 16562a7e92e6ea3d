"""Random schemas with a table that fits each: hypothesis draws the shape, a seeded generator the cells."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import reject
from hypothesis import strategies as st

from hg3.table.schema import TableSchema
from tests.table.cases import make_schema

CODES: tuple[tuple[Any, ...], ...] = (
    (0, 1),
    (-2, 7, 10**12),
    ("yes", "no", "not known"),
    ("01", "1", "1e2", "100"),
    (1, "A"),
    ("NA", "None"),
)


@dataclass(frozen=True)
class Case:
    """A schema, a table that fits it, and which patients train."""

    schema: TableSchema
    table: pd.DataFrame
    train: np.ndarray


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a case of 7 to 24 patients, up to 5 columns and, by chance, gaps and records that end early."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, length = draw(st.integers(7, 24)), draw(st.integers(1, 8))
    first_time = draw(st.sampled_from((0, 1, -3)))
    patient, time = _rows(rng, n, length, draw(st.booleans()), draw(st.booleans()))
    columns: list[dict[str, Any]] = []
    cells: dict[str, Any] = {"id": patient, "month": time + first_time}
    n_columns = draw(st.integers(1, 5))
    for number in range(n_columns):
        column = draw(_reals() | _categories())
        column |= {"name": f"c{number}", "static": number > 0 and draw(st.booleans())}
        cells[column["name"]] = _cells(rng, column, patient)
        columns.append(column)
    if draw(st.booleans()):
        columns.append({"name": "flag", "kind": "binary", "indicates": "c0", "masks": True})
        cells["flag"] = (rng.random(len(patient)) < 0.7).astype(int)
    for column in columns:
        column.pop("shape", None)
    schema = make_schema(columns, length=length, first_time=first_time)
    shuffled = rng.permutation(len(patient))
    return Case(schema, pd.DataFrame(cells).iloc[shuffled], rng.permutation(n) < 0.7 * n)


def _rows(rng: np.random.Generator, n: int, length: int, ends: bool, gaps: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return patient and time of each row; every record ends with a row."""
    lengths = rng.integers(1, length + 1, n) if ends else np.full(n, length)
    there = np.arange(length) < lengths[:, None]
    if gaps:
        there &= rng.random(there.shape) < 0.8
        there[np.arange(n), lengths - 1] = True
    patient, time = np.nonzero(there)
    return patient, time


@st.composite
def _reals(draw: st.DrawFn) -> dict[str, Any]:
    column: dict[str, Any] = {"kind": "real", "missing": draw(st.sampled_from(("never", "modelled")))}
    column["transform"] = draw(st.sampled_from((None, "none", "log1p", "box-cox", "yeo-johnson", "quantile")))
    column["decimals"] = draw(st.sampled_from((None, None, 0, 1, 3, 9, -1)))
    scale = draw(st.sampled_from((1e-12, 1e-3, 1.0, 250.0, 1e6, 1e12)))
    shape = draw(st.sampled_from(("normal", "lognormal", "whole", "constant", "two", "spike")))
    column["shape"] = (shape, scale, draw(st.sampled_from(("none", "low", "both"))))
    return column


@st.composite
def _categories(draw: st.DrawFn) -> dict[str, Any]:
    codes = draw(st.sampled_from(CODES))
    kind = draw(st.sampled_from(("categorical", "ordinal")))
    return {"kind": kind, "categories": codes, "missing": draw(st.sampled_from(("never", "modelled")))}


def _cells(rng: np.random.Generator, column: dict[str, Any], patient: np.ndarray) -> np.ndarray:
    """Return cells for a column, one value a patient if it is static, and set its bounds."""
    n = patient.max() + 1 if column["static"] else len(patient)
    if column["kind"] == "real":
        cells = _real_cells(rng, column, n)
    else:
        codes = np.array([str(code) for code in column["categories"]], dtype=object)
        cells = codes[rng.integers(0, len(codes), n)]
    if column["missing"] == "modelled":
        cells[rng.random(n) < 0.3] = np.nan if column["kind"] == "real" else None
    return cells[patient] if column["static"] else cells


def _real_cells(rng: np.random.Generator, column: dict[str, Any], n: int) -> np.ndarray:
    shape, scale, bounded = column["shape"]
    cells = (
        scale
        * {
            "normal": lambda: rng.normal(size=n),
            "lognormal": lambda: rng.lognormal(0, 1, n),
            "whole": lambda: rng.integers(0, 9, n).astype(float),
            "constant": lambda: np.full(n, 0.5),
            "two": lambda: rng.integers(1, 3, n).astype(float),
            "spike": lambda: np.where(rng.random(n) < 0.9, 1.0, 40.0),
        }[shape]()
    )
    if column["transform"] in ("log1p", "box-cox"):
        cells = np.abs(cells)
    low = -4.5 * scale if cells.min() < 0 else 0.0
    high = 50.0 * scale
    if bounded != "none" and (column["decimals"] or 0) >= 0 and high > 2:
        column["bounds"] = (low, high if bounded == "both" else np.inf)
        cells = np.clip(cells, *column["bounds"])
    return cells


BOUNDS = (
    (-np.inf, np.inf),
    (0.0, np.inf),
    (-np.inf, 0.4),
    (-3.5, 1e-7),
    (0.1, 0.1 + 1e-12),
    (20.0, 250.0),
    (1e25, 1e300),
    (-1e300, 1e300),
)


@st.composite
def schemas(draw: st.DrawFn) -> TableSchema:
    """Draw any schema that hg3 accepts, whatever table it may be for; some fit no table at all."""
    columns: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 5))):
        column = draw(_any_real() | _any_code())
        column["name"], column["static"] = f"c{number}", draw(st.booleans())
        column["missing"] = draw(st.sampled_from(("never", "modelled")))
        columns.append(column)
        if draw(st.booleans()):
            flag = {"name": f"c{number} (M)", "kind": "binary", "indicates": f"c{number}", "masks": True}
            columns.append(flag | {"static": column["static"], "missing": draw(st.sampled_from(("never", "modelled")))})
    table = {"length": draw(st.integers(1, 9)), "first_time": draw(st.sampled_from((0, 1, -3)))}
    try:
        return make_schema(columns, **table)
    except ValueError:  # for example no number of that many decimals inside the bounds
        return reject()


@st.composite
def _any_real(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "kind": "real",
        "bounds": draw(st.sampled_from(BOUNDS)),
        "decimals": draw(st.sampled_from((None, None, 0, 2, 9, -1, -30))),
        "transform": draw(st.sampled_from((None, "none", "log1p", "box-cox", "yeo-johnson", "quantile"))),
        "out_of_bounds": draw(st.sampled_from(("error", "missing", "clip"))),
    }


@st.composite
def _any_code(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(("categorical", "ordinal", "binary")))
    if kind == "binary":
        return {"kind": kind, "categories": draw(st.sampled_from((None, (1, 2), ("yes", "no"), ("NA", 0))))}
    listed = draw(st.sampled_from((*CODES, ("one",), tuple(range(40)))))
    return {"kind": kind, "categories": None if kind == "categorical" and draw(st.booleans()) else listed}
