"""The shape of packs: blocks, and the padding they cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockroom.store.chunking import CHUNK_MAX_NBYTES
from stockroom.store.codecs import Codec
from stockroom.store.pack.layout import BLOCK_TARGET_NBYTES, RAW_BLOCK_TARGET_NBYTES, align_row, plan_layout
from stockroom.store.pack.manifest import _MAX_BLOCK_NBYTES


@given(st.integers(1, CHUNK_MAX_NBYTES), st.integers(1, 1 << 18))
def test_raw_padding_is_less_than_one_block_and_no_more_than_a_row_for_each_block(row_nbytes, rows):
    rows = min(rows, max(1, (64 << 20) // row_nbytes))
    layout = plan_layout("uint8", (row_nbytes,), Codec.RAW).fit_raw_blocks(rows)
    blocks = layout.count_blocks(rows)
    padding = blocks * layout.block_nbytes - rows * row_nbytes
    assert 0 <= padding < layout.block_nbytes
    assert padding <= blocks * row_nbytes
    assert layout.block_nbytes <= 2 * max(row_nbytes, RAW_BLOCK_TARGET_NBYTES) <= _MAX_BLOCK_NBYTES


@given(st.integers(1, CHUNK_MAX_NBYTES))
def test_encoded_blocks_hold_whole_rows_and_about_64_kib(row_nbytes):
    layout = plan_layout("uint8", (row_nbytes,), Codec.ZSTD)
    assert layout.block_nbytes % row_nbytes == 0
    assert layout.block_nbytes <= max(row_nbytes, BLOCK_TARGET_NBYTES)
    assert layout.block_units == 1 or layout.block_nbytes > BLOCK_TARGET_NBYTES - row_nbytes


@given(st.integers(0, 1 << 40))
def test_ragged_rows_start_at_multiples_of_64(nbytes):
    assert align_row(nbytes) % 64 == 0
    assert 0 <= align_row(nbytes) - nbytes < 64


@pytest.mark.parametrize(
    ("item_shape", "name"), [(None, "c.0"), ((), "c.0"), ((3,), "c.0.0"), ((3, 4, 5), "c.0.0.0.0")]
)
def test_the_shard_is_the_first_chunk_of_the_array(item_shape, name):
    assert plan_layout("float32", item_shape, Codec.RAW).shard_name == name
