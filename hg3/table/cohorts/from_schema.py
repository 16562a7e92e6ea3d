"""A random table for any schema: plausible enough to exercise every part of hg3, and nobody's data.

What the population is like (loadings, shares, persistence) depends on the schema alone; the seed draws patients
from it, so that two seeds give two samples of one population. Columns correlate through a few factors of the
patient; over time a real is autoregressive and a code is a Markov chain. What breaks a rule of the schema is mended
as in a release.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.signal import lfilter
from scipy.special import expit, ndtr

from hg3.errors import SchemaError
from hg3.table.codecs import round_inward
from hg3.table.cohorts.counts import check_counts
from hg3.table.column import LARGEST_REAL, Code, Column, lattice_bounds
from hg3.table.enforcement import Enforcer
from hg3.table.schema import TableSchema
from hg3.table.violations import Cells

N_FACTORS = 3
FACTOR_SHARE = 0.35  # of a latent's variance: shared by columns; what is left of both shares is over time
OWN_SHARE = 0.25  # the same, a patient's own
COMPLETE_RECORDS = 0.6  # share of patients whose record has the full length
GAPS = 0.05  # share of times inside a record without a row
STEEPEST = 8.0  # a skewed real is spread over e^8, three and a half powers of ten, or over its bounds if closer
INVENTED_CODES = ("a", "b", "c")  # of a column that leaves its categories to the data


@dataclass(frozen=True)
class _Population:
    """N patients on L times: their factors, shape (N, N_FACTORS), and the generator of everything random in them."""

    factors: np.ndarray
    length: int
    rng: np.random.Generator


def simulate_schema(schema: TableSchema, n_patients: int, seed: int = 0, complete: bool = False) -> pd.DataFrame:
    """Return a random table in long format that fits `schema` and keeps its rules.

    Parameters
    ----------
    n_patients : at least 1. The first of them has a full record (unless a rule ends it) and a value in every column.
    seed : at least 0. The table is a pure function of the arguments.
    complete : a row for every patient and time; otherwise records end early and have gaps.

    Returns
    -------
    pandas.DataFrame
        Patient (1..n_patients), time, then the schema's columns in their order, sorted by patient and time. Reals
        are float64; codes are integers (Int64), or text where one of a column's codes is text.

    Raises
    ------
    ConfigError
        If `n_patients` or `seed` is too small.
    SchemaError
        If no number fits the bounds, decimals and transform of a column.

    Examples
    --------
    >>> from hg3.table.schema import load_schema
    >>> simulate_schema(load_schema("sepsis"), 2, complete=True).shape
    (40, 47)
    """
    check_counts(n_patients, seed)
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2 + len(schema.columns))]
    has_row = _rows(n_patients, schema.length, complete, streams[0])
    factors = streams[1].normal(size=(n_patients, N_FACTORS))
    grids, there = {}, {}
    for number, (column, rng) in enumerate(zip(schema.columns, streams[2:], strict=True)):
        people = _Population(factors, 1 if column.static else schema.length, rng)
        traits = np.random.default_rng([len(schema.columns), number])
        grids[column.name], there[column.name] = _simulate_column(column, people, traits)
    has_row = _keep_rules(schema, grids, there, has_row, streams[1])
    patient, time = np.nonzero(has_row)
    at = {c.name: (patient, np.zeros_like(time) if c.static else time) for c in schema.columns}
    cells, seen = ({name: part[name][at[name]] for name in at} for part in (grids, there))
    keys = {schema.patient: patient + 1, schema.time: time + schema.first_time}
    return pd.DataFrame(keys | {c.name: _written(c, schema, cells, seen) for c in schema.columns})


def _rows(n: int, length: int, complete: bool, rng: np.random.Generator) -> np.ndarray:
    """Return where there is a row, bool (N, L); a record ends with a row, and the first patient's is complete."""
    lengths = np.where(rng.random(n) < COMPLETE_RECORDS, length, rng.integers(1, length + 1, n))
    there = (np.arange(length) < lengths[:, None]) & (rng.random((n, length)) >= GAPS)
    there[np.arange(n), lengths - 1] = True
    there[0] = True
    return np.ones_like(there) if complete else there


def _keep_rules(
    schema: TableSchema,
    grids: dict[str, np.ndarray],
    there: dict[str, np.ndarray],
    has_row: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Change `grids` where they break a rule, and return the rows that are left.

    Masks are left out of account: what keeps the rules keeps them with fewer cells, too.
    """
    columns = [schema.by_name[name] for name in sorted({name for rule in schema.rules for name in rule.columns})]
    seen = {c.name: there[c.name] & (True if c.static else has_row) for c in columns}
    cells = {c.name: np.where(seen[c.name], grids[c.name], np.nan) for c in columns}
    decimals = {c.name: c.decimals for c in columns if c.is_real and c.decimals is not None}
    scores = {c.name: rng.random((len(has_row), len(c.categories or ()), cells[c.name].shape[1])) for c in columns}
    kept, _ = Enforcer(schema, decimals, scores).enforce(Cells(cells, has_row))
    for name, values in kept.values.items():
        grids[name] = np.where(np.isnan(values), grids[name], values).astype(grids[name].dtype)
    return kept.has_row


def _simulate_column(column: Column, people: _Population, traits: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a column's numbers, or positions among its codes, and where it has a value; both (N, L) or (N, 1).

    The first patient has a value at the first time, which of an indicator is its second code: no column is empty.
    """
    if column.is_real:
        grid = _reals(column, _latent(people, traits))
    elif column.kind == "ordinal":
        grid = np.floor(ndtr(_latent(people, traits)) * len(_codes(column))).astype(np.int64)
    else:
        grid = _chain(len(_codes(column)), people, traits)
    if column.masks:
        grid[0, 0] = 1
    there = np.ones(grid.shape, bool)
    if column.missing == "modelled":
        there = ndtr(_latent(people, traits)) > traits.uniform(0.1, 0.5)
        there[0, 0] = True
    return grid, there


def _latent(people: _Population, traits: np.random.Generator) -> np.ndarray:
    """Return standard normal courses, (N, L): shared factors, a level of one's own, and an AR(1) around them."""
    direction = traits.normal(size=N_FACTORS)
    shared = people.factors @ (direction / np.linalg.norm(direction))
    own = people.rng.normal(size=len(shared))
    rho = traits.uniform(0.5, 0.95)
    shocks = people.rng.normal(size=(len(shared), people.length)) * math.sqrt(1 - rho**2)
    shocks[:, 0] /= math.sqrt(1 - rho**2)
    course = lfilter([1.0], [1.0, -rho], shocks, axis=1)
    level = math.sqrt(FACTOR_SHARE) * shared + math.sqrt(OWN_SHARE) * own
    return np.asarray(level[:, None] + math.sqrt(1 - FACTOR_SHARE - OWN_SHARE) * course)


def _chain(n_codes: int, people: _Population, traits: np.random.Generator) -> np.ndarray:
    """Return codes 0..n_codes-1, (N, L): each is kept, or by chance drawn anew from the patient's own shares."""
    logits = 0.5 * traits.normal(size=n_codes) + people.factors @ (0.5 * traits.normal(size=(N_FACTORS, n_codes)))
    reached = np.cumsum(np.exp(logits), axis=1)
    reached /= reached[:, -1:]
    shape = (len(logits), people.length)
    chance, drawn = people.rng.random(shape), np.zeros(shape, np.int64)
    for code in range(n_codes - 1):
        drawn += chance >= reached[:, [code]]
    switches = people.rng.random(shape) < traits.uniform(0.05, 0.2)
    since = np.maximum.accumulate(np.where(switches, np.arange(people.length), 0), axis=1)
    return np.take_along_axis(drawn, since, axis=1)


def _reals(column: Column, latent: np.ndarray) -> np.ndarray:
    """Map standard normals into the bounds of a column, or to round numbers where it has none."""
    low, high = _window(column)
    decimals = _decimals(column, low, high)
    share = expit(latent)
    if column.transform in ("box-cox", "log1p") and low < high:
        steepness = math.log(high / max(low, high * math.exp(-STEEPEST)))
        share = np.expm1(steepness * share) / math.expm1(steepness)
    value = np.clip(low + (high - low) * share, low, high)
    return value if decimals is None else round_inward(value, decimals, (low, high))


def _decimals(column: Column, low: float, high: float) -> int | None:
    """Return the schema's decimals, else as many as give a few thousand steps, None if those miss the bounds."""
    if column.decimals is not None or low == high:
        return column.decimals
    decimals = max(-30, min(9, 3 - math.floor(math.log10(high - low))))
    inside = lattice_bounds((low, high), decimals)
    return decimals if inside[0] < inside[1] else None


def _window(column: Column) -> tuple[float, float]:
    """Return finite ends of what is simulated: the bounds, and a thousand steps from an end or from 0 without them."""
    floor = 0.0 if column.transform in ("box-cox", "log1p") else -LARGEST_REAL
    low, high = max(column.bounds[0], floor), min(column.bounds[1], LARGEST_REAL)
    inside = lattice_bounds((low, high), column.decimals) if column.decimals is not None else (low, high)
    if inside[0] > inside[1]:
        raise SchemaError(f"column {column.name!r} allows no number by its bounds, decimals and transform; mend them")
    reach = 1000 * 10.0 ** -(1 if column.decimals is None else column.decimals)
    if math.isinf(column.bounds[1]):
        high = min(inside[0] + reach, LARGEST_REAL) if low > -LARGEST_REAL else min(reach, LARGEST_REAL)
    if math.isinf(column.bounds[0]):
        low = max(low, inside[1] - reach) if math.isfinite(column.bounds[1]) else max(low, 0.0)
    return low, max(low, high)


def _codes(column: Column) -> tuple[Code, ...]:
    return column.categories or INVENTED_CODES


def _written(
    column: Column, schema: TableSchema, cells: dict[str, np.ndarray], seen: dict[str, np.ndarray]
) -> pd.api.extensions.ExtensionArray | np.ndarray:
    """Return a column as the table holds it, empty where it is missing or its indicator masks it."""
    there, indicator = seen[column.name], schema.masked_by(column.name)
    if indicator is not None:
        there = there & seen[indicator] & (cells[indicator] == 1)
    if column.is_real:
        return np.where(there, cells[column.name], np.nan)
    codes = _codes(column)
    if all(isinstance(code, int) for code in codes):
        return pd.arrays.IntegerArray(np.array(codes, np.int64)[cells[column.name]], ~there)
    texts = np.array([str(code) for code in codes], dtype=object)[cells[column.name]]
    texts[~there] = None
    return texts
