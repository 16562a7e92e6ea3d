"""An encoder that knows the schema and no table, as differential privacy needs it: nothing in it can tell of a patient.

What `fit_encoder` takes from training patients comes from what the schema states. A real lies as if its values were
even between its bounds, under the logarithm where these are far apart. All codes that are listed occur, no column is a
constant, and any record may end early or have gaps unless that is known not to be.
"""

import math

import numpy as np

from hg3.errors import SchemaError, TableError
from hg3.layout import Block, Layout, chained
from hg3.table.codecs import constant_of, fit_real, sampling_bounds
from hg3.table.cohort import Cohort, record_shape
from hg3.table.column import Column, lattice_bounds
from hg3.table.encoding import Encoder, FittedColumn, category_block
from hg3.table.schema import CONTINUES, OBSERVED_SUFFIX, PRESENT, TableSchema
from hg3.table.transforms import Transform

FAR_APART = 100.0  # of (1 + highest) / (1 + lowest): beyond two powers of ten, values crowd at the lower bound
N_VALUES = 1001  # even between the bounds, on which a codec is fitted
CHOSEN = (None, "box-cox", "yeo-johnson")  # transforms whose parameter is fitted, or that are chosen from the data


def encoder_of_schema(
    schema: TableSchema, scaling: str = "standard", complete: bool = False
) -> tuple[Encoder, list[str]]:
    """Return the encoder that follows from `schema` alone, and warnings.

    Parameters
    ----------
    scaling : as in `fit_encoder`, but not normal; even values between the bounds have mean 0 and sd 1, or are [-1, 1].
    complete : whether every record is known to have a row at every time, see `check_complete`.

    Raises
    ------
    SchemaError
        If the schema or the scaling leaves anything to the data, or no column varies over time.
    """
    check_says_all(schema, scaling)
    fitted: list[FittedColumn] = []
    warnings: list[str] = []
    blocks: dict[bool, list[Block]] = {True: [], False: []}
    for column in schema.columns:
        one, added, warning = _column(column, scaling)
        fitted.append(one)
        blocks[column.static] += added
        warnings += [warning] if warning else []
    if schema.length > 1 and not complete:
        blocks[False] += [category_block(CONTINUES, 2), category_block(PRESENT, 2)]
    if not blocks[False]:
        raise SchemaError(f"schema {schema.name!r} has no column that varies over time; hg3 models records over time")
    layout = Layout(chained(blocks[True]), chained(blocks[False]), schema.length)
    return Encoder(schema, tuple(fitted), layout), warnings


def check_says_all(schema: TableSchema, scaling: str = "standard") -> None:
    """Refuse a scaling or a schema that leaves something to the data; the message names every column that does."""
    if scaling == "normal":
        raise SchemaError(
            "a private training learns ranges from the schema alone, and encoding.scaling is normal, which is fitted; "
            "set it to standard"
        )
    lacking = [f"column {column.name!r} {what}" for column in schema.columns for what in _lacks(column)]
    if lacking:
        raise SchemaError(
            f"a private training learns ranges, decimals and codes from the schema alone, and in {schema.name!r} "
            f"{'; '.join(lacking)}; state them there from what is known without this table"
        )


def check_complete(cohort: Cohort) -> None:
    """Refuse a cohort with a record that ends early or has a gap."""
    if not record_shape(cohort)[1].all():
        raise TableError(
            f"privacy.complete says that every record has a row at each of the {cohort.schema.length} times, and the "
            "table has others; leave it out"
        )


def _lacks(column: Column) -> list[str]:
    """Return what the schema does not say of a column, in words."""
    if not column.is_real:
        return [] if column.categories is not None else ["lists no categories"]
    lacks = [] if all(map(math.isfinite, column.bounds)) else ["has no finite bounds"]
    lacks += ["has no decimals"] if column.decimals is None else []
    return lacks + (["has the transform quantile, which is fitted"] if column.transform == "quantile" else [])


def _column(column: Column, scaling: str) -> tuple[FittedColumn, list[Block], str | None]:
    """Return what encoding knows of a column, the blocks it needs, and a warning."""
    flagged, warning = column.missing == "modelled", None
    if column.is_real:
        fitted, blocks, warning = _real_column(column, scaling, flagged)
    else:
        codes = column.categories or ()
        constant = codes[0] if len(codes) == 1 else None
        fitted = FittedColumn(column, None, codes, constant, flagged, codes)
        blocks = [] if constant is not None else [category_block(column.name, len(codes))]
    if flagged:
        blocks.append(category_block(column.name + OBSERVED_SUFFIX, 2))
    return fitted, blocks, warning


def _real_column(column: Column, scaling: str, flagged: bool) -> tuple[FittedColumn, list[Block], str | None]:
    known = column.model_copy(update={"transform": transform_of(column)})
    values = even_values(known)
    numbers = np.arange(len(values))
    codec, warning = fit_real(values, numbers, known, scaling)
    if codec is None:
        return FittedColumn(column, None, (), constant_of(float(values[0]), known), flagged), [], warning
    low, high = sampling_bounds(codec, values, numbers, scaling)
    return FittedColumn(column, codec, (), None, flagged), [Block(column.name, "real", 0, 1, low, high)], warning


def transform_of(column: Column) -> str:
    """Return log1p or none for a real column: the schema's, or, where it would be fitted, as the bounds say."""
    if column.transform not in CHOSEN:
        return str(column.transform)
    low, high = column.bounds
    return "log1p" if low >= 0 and (1.0 + high) / (1.0 + low) >= FAR_APART else "none"


def even_values(column: Column) -> np.ndarray:
    """Return values that lie evenly between the bounds under the column's transform, float64, shape (1001,)."""
    transform = Transform(str(column.transform))
    ends = transform.forward(np.array(lattice_bounds(column.bounds, column.decimals or 0)))
    return transform.inverse(np.linspace(ends[0], ends[1], N_VALUES))
