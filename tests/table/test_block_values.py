"""What the blocks of a sample say: by name, of any number of codes, the most probable or drawn."""

import warnings

import numpy as np
import pandas as pd
import pytest

from hg3.philox import Stream, stream_word
from hg3.table.block_values import Draw, block_values
from hg3.table.decoding import decode
from hg3.table.encoding import Encoder, encode
from hg3.table.schema import CONTINUES, OBSERVED_SUFFIX, PRESENT, TableSchema
from tests import oracle
from tests.table.cases import make_schema, train_mask
from tests.table.test_encoding import fitted
from tests.table.test_ops import assert_agrees

DRAW = Draw(7)


@pytest.fixture
def encoder(tiny_schema: TableSchema, tiny_table: pd.DataFrame) -> Encoder:
    return fitted(tiny_schema, tiny_table, train_mask(16))[1]


def sample(encoder: Encoder, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x_static, x_dynamic of random probabilities, and patients far from 0."""
    rng, layout = np.random.default_rng(seed), encoder.layout
    shapes = ((n, layout.n_static), (n, layout.n_dynamic, layout.length))
    x_static, x_dynamic = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes)
    return x_static, x_dynamic, np.arange(n) + 2**33


def test_every_block_is_named_but_the_lengths(encoder: Encoder) -> None:
    x_static, x_dynamic, patient = sample(encoder, 5)
    static = block_values(x_static[:, :, None], encoder, True, patient)
    assert set(static) == {"sex", "height", "height" + OBSERVED_SUFFIX}
    dynamic = block_values(x_dynamic, encoder, False, patient)
    assert set(dynamic) == {b.name for b in encoder.layout.dynamic} - {CONTINUES} and PRESENT in dynamic
    for block in encoder.layout.dynamic:
        codec = encoder.fitted(block.name).codec if block.kind == "real" else None
        if codec is not None:
            assert_agrees(dynamic[block.name], codec, x_dynamic[:, block.start])
        elif block.name != CONTINUES:
            assert np.array_equal(dynamic[block.name], x_dynamic[:, block.channels].argmax(axis=1))
            assert dynamic[block.name].dtype == np.uint8


@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
def test_a_draw_takes_the_words_of_its_own_stream(encoder: Encoder, static: bool) -> None:
    x_static, x_dynamic, patient = sample(encoder, 4)
    x = x_static[:, :, None] if static else x_dynamic
    drawn = block_values(x, encoder, static, patient, DRAW)
    step, padded = (0, 4) if static else (1, 8)  # 1 time, or 6
    for block in encoder.layout.static if static else encoder.layout.dynamic:
        if block.kind == "real" or block.name == CONTINUES:
            continue
        for n, time in np.ndindex(drawn[block.name].shape):
            element = block.start * padded + time
            word = oracle.word(DRAW.seed, int(patient[n]), int(Stream.DECODE), 0, step, element)
            assert drawn[block.name][n, time] == oracle.drawn_code(x[n, block.channels, time].tolist(), word)


def test_the_halves_share_no_word() -> None:
    assert stream_word(Stream.DECODE) | 0 != stream_word(Stream.DECODE) | 1
    assert (stream_word(Stream.DECODE) | 1) >> 28 == Stream.DECODE


def test_what_is_certain_is_drawn_as_it_is(tiny_schema: TableSchema, tiny_table: pd.DataFrame) -> None:
    cohort, encoder = fitted(tiny_schema, tiny_table, train_mask(16))
    encoded = encode(cohort, encoder)
    tables = [decode(encoded.x_static, encoded.x_dynamic, np.arange(16), encoder, draw) for draw in (None, DRAW)]
    assert tables[0].equals(tables[1])


def test_a_draw_is_no_arg_max_and_depends_on_patient_and_seed_alone(encoder: Encoder) -> None:
    x_static, x_dynamic, patient = sample(encoder, 60)
    whole = decode(x_static, x_dynamic, patient, encoder, DRAW)
    assert not whole.equals(decode(x_static, x_dynamic, patient, encoder))
    assert not whole.equals(decode(x_static, x_dynamic, patient, encoder, Draw(8)))
    part = slice(17, 40)
    alone = decode(x_static[part], x_dynamic[part], patient[part], encoder, DRAW).to_pandas()
    there = whole.to_pandas()
    there = there[there["id"].isin(patient[part])].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, there)


def test_cells_are_missing_as_often_as_probable(encoder: Encoder) -> None:
    n, layout = 4000, encoder.layout
    x_static, x_dynamic = np.zeros((n, layout.n_static)), np.full((n, layout.n_dynamic, layout.length), 0.0)
    flag = layout.block("VL" + OBSERVED_SUFFIX, static=False)
    assert flag is not None
    x_dynamic[:, flag.start], x_dynamic[:, flag.start + 1] = -0.6, 0.6  # observed with probability 0.8
    table = decode(x_static, x_dynamic, np.arange(n), encoder, DRAW).to_pandas()
    share, cells = table["VL"].notna().mean(), len(table)
    assert abs(share - 0.8) < 5 * np.sqrt(0.16 / cells)
    assert decode(x_static, x_dynamic, np.arange(n), encoder).column("VL").null_count == 0


def test_a_column_may_have_more_codes_than_a_byte_holds() -> None:
    n = 60
    codes = list(range(1000, 1300))
    schema = make_schema([{"name": "code", "kind": "categorical", "categories": codes}])
    table = pd.DataFrame({"id": np.arange(n).repeat(6), "month": np.tile(np.arange(6), n)})
    table["code"] = np.resize(codes, 6 * n)
    cohort, encoder = fitted(schema, table, train_mask(n))
    encoded = encode(cohort, encoder)
    for draw in (None, DRAW):
        made = decode(encoded.x_static, encoded.x_dynamic, np.arange(n), encoder, draw)
        assert made.column("code").to_pylist() == table["code"].tolist()


def test_arrays_that_may_not_be_written_are_read(encoder: Encoder) -> None:
    x_static, x_dynamic, patient = sample(encoder, 5)
    expected = decode(x_static, x_dynamic, patient, encoder, DRAW)
    backwards = x_dynamic[:, :, ::-1].copy()[:, :, ::-1]
    for array in (x_static, backwards, patient):
        array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(x_static, backwards, patient, encoder, DRAW).equals(expected)
