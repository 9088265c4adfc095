"""Whatever is put in a column comes back bit for bit, after a commit and in another handle."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import hypothesis.extra.numpy as hnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stockroom import StockRoom

quick = settings(
    max_examples=int(os.environ.get("STOCKROOM_EXAMPLES", "20")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

NUMPY_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
    *("datetime64[ns]", "datetime64[D]", "datetime64[25s]", "timedelta64[us]", "timedelta64[Y]"),
)
EXTENSION_DTYPES = tuple(
    np.dtype(getattr(ml_dtypes, name))
    for name in (
        *("bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz"),
        *("float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    )
)
DTYPES = (*map(np.dtype, NUMPY_DTYPES), *EXTENSION_DTYPES)

shapes = st.lists(st.sampled_from([0, 1, 2, 3, 5, 33]), max_size=8).filter(lambda shape: math.prod(shape) < 5000)
int_keys = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-5, 5) | st.sampled_from([-1, 1 << 32, (1 << 32) + 1])
code_points = st.characters(codec=None)  # surrogates too
str_keys = st.text(code_points, max_size=20) | st.sampled_from(["", " ", "a b", "a/b", "/", "\0", "..", "ä", "\ud800"])
keys = int_keys | str_keys


@st.composite
def arrays(draw, dtype, shape):
    """An array of any bits, in any byte order and memory layout."""
    nbytes = dtype.itemsize * math.prod(shape)
    raw = draw(st.binary(min_size=min(nbytes, 64), max_size=min(nbytes, 64)))
    data = np.frombuffer((raw * (nbytes // max(1, len(raw)) + 1))[:nbytes], np.uint8).copy()
    if dtype.kind == "b":
        data &= 1
    array = data.view(dtype).reshape(shape)
    match draw(st.sampled_from(["C", "F", "big-endian", "reversed", "strided", "transposed", "read-only"])):
        case "F":
            return np.asfortranarray(array).reshape(shape)
        case "big-endian" if dtype.kind in "iufcmM" and dtype.itemsize > 1:
            return array.astype(dtype.newbyteorder(">"))
        case "reversed" if array.ndim:
            return np.ascontiguousarray(array[::-1])[::-1].reshape(shape)
        case "strided" if array.ndim:
            return np.repeat(array, 2, axis=-1)[..., ::2]
        case "transposed":
            return np.ascontiguousarray(array.T).T.reshape(shape)
        case "read-only":
            array.flags.writeable = False
    return array


def bits(array):
    """dtype name, shape and the little-endian bytes of an array."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return array.dtype.newbyteorder("=").name, array.shape, little.tobytes()


def bits_of_all(samples):
    return {key: bits(value) for key, value in samples.items()}


class Kept(NamedTuple):
    """What a column was found to be."""

    dtype: object
    shape: tuple
    samples: dict


class Folder:
    """A repository that one example after another uses, each in a column of its own name."""

    def __init__(self):
        self.path = Path(tempfile.mkdtemp())
        StockRoom.init(self.path).close()
        self.number = 0

    def round_trip(self, samples, **schema):
        """The column after a commit, by a handle opened since."""
        self.number += 1
        name = f"column/{self.number}"
        with StockRoom(self.path) as stock:
            with stock.enable_write() as writer:
                if schema:
                    writer.data.create(name, **schema).update(samples)
                else:
                    writer.data[name] = samples
                staged = dict(writer.data[name].items())
            assert [same(staged[key], value) for key, value in stock.data[name].items()] == [True] * len(samples)
        with StockRoom(self.path) as stock:
            column = stock.data[name]
            together = column[list(column)]
            for position, (key, value) in enumerate(column.items()):
                assert same(
                    np.asarray(together[position]) if isinstance(value, np.ndarray) else together[position], value
                )
                assert same(column.view(key), value)
            return Kept(column.dtype, column.shape, dict(column.items()))


def same(one, other):
    return bits(one) == bits(other) if isinstance(one, np.ndarray) else one == other and type(one) is type(other)


@pytest.fixture(scope="module")
def folder():
    made = Folder()
    yield made
    shutil.rmtree(made.path)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@quick
@given(data=st.data())
def test_samples_of_one_shape_come_back_bit_for_bit(folder, dtype, data):
    shape = tuple(data.draw(shapes))
    some = (
        data.draw(st.lists(int_keys, min_size=1, max_size=4, unique=True))
        if data.draw(st.booleans())
        else data.draw(st.lists(str_keys, min_size=1, max_size=4, unique=True))
    )
    samples = {key: data.draw(arrays(dtype, shape)) for key in some}
    kept = folder.round_trip(samples)
    assert kept.dtype.name == dtype.name
    assert kept.shape == shape
    assert list(kept.samples) == sorted(samples)
    assert bits_of_all(kept.samples) == bits_of_all(samples)


@pytest.mark.parametrize("dtype", [np.dtype("float32"), np.dtype("complex128"), EXTENSION_DTYPES[0]], ids=str)
@quick
@given(data=st.data())
def test_samples_of_many_shapes_come_back_bit_for_bit(folder, dtype, data):
    rank = data.draw(st.integers(1, 4))
    same_rank = st.tuples(*[st.sampled_from([0, 1, 2, 7, 40])] * rank).filter(lambda shape: math.prod(shape) < 9000)
    samples = {
        number: data.draw(arrays(dtype, shape))
        for number, shape in enumerate(data.draw(st.lists(same_rank, min_size=1, max_size=5)))
    }
    kept = folder.round_trip(samples, dtype=dtype, shape=(None,) * rank)
    assert kept.shape == (None,) * rank
    assert bits_of_all(kept.samples) == bits_of_all(samples)


@quick
@given(values=st.lists(st.text(code_points, max_size=200) | st.just("ä" * 70_000), min_size=1, max_size=6))
def test_text_of_any_code_points_comes_back(folder, values):
    kept = folder.round_trip(dict(enumerate(values)))
    assert kept.dtype == "str"
    assert list(kept.samples.values()) == values


@quick
@given(values=st.lists(st.binary(max_size=200) | st.just(b"\xff" * (5 << 20)), min_size=1, max_size=3))
def test_bytes_come_back(folder, values):
    kept = folder.round_trip(dict(enumerate(values)))
    assert kept.dtype == "bytes"
    assert list(kept.samples.values()) == values


@quick
@given(samples=st.dictionaries(int_keys, st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=60))
def test_int_keys_come_back_in_numeric_order(folder, samples):
    kept = folder.round_trip(samples)
    assert [(key, int(value)) for key, value in kept.samples.items()] == sorted(samples.items())
    assert all(type(key) is int for key in kept.samples)


@quick
@given(samples=st.dictionaries(str_keys, st.floats(), min_size=1, max_size=60))
def test_str_keys_come_back_in_code_point_order(folder, samples):
    kept = folder.round_trip(samples)
    assert list(kept.samples) == sorted(samples)
    assert all(bits(np.array(samples[key])) == bits(value) for key, value in kept.samples.items())


@quick
@given(
    batch=hnp.arrays(
        hnp.scalar_dtypes().filter(lambda d: d.kind in "biufc" and d.itemsize <= 8), hnp.array_shapes(max_dims=5)
    )
)
def test_a_stacked_array_comes_back_row_by_row(folder, batch):
    kept = folder.round_trip(batch)
    assert list(kept.samples) == list(range(len(batch)))
    assert bits(np.stack(list(kept.samples.values()))) == bits(batch)


SPECIAL = {
    "payloads of nan": np.array([0x7FF0000000000001, 0xFFF8DEADBEEF0000, 0x7FF8000000000000], np.uint64).view(
        np.float64
    ),
    "minus zero": np.array([-0.0, 0.0, -0.0]),
    "not a time": np.array(["NaT", "1970-01-01"], "datetime64[ns]"),
    "nothing": np.empty((0, 3, 0)),
    "infinities": np.array([np.inf, -np.inf], ml_dtypes.bfloat16),
}


@pytest.mark.parametrize("what", SPECIAL)
def test_special_values_keep_their_bits(folder, what):
    for value in (SPECIAL[what], np.tile(SPECIAL[what], 50)):  # inline and in a chunk
        kept = folder.round_trip({"key": value})
        assert bits(kept.samples["key"]) == bits(value)


@pytest.mark.parametrize("codec", ["auto", "raw", "lz4", "zstd", "blosc"])
@pytest.mark.parametrize(
    "shape",
    [(5, 1 << 20), (1, (4 << 20) + 3), ((4 << 20) + 1,), (2, 3, 1 << 20)],
    ids=["rows", "one row", "flat", "3-d"],
)
def test_a_tensor_over_4_mib_comes_back(folder, shape, codec):
    value = np.resize(np.arange(251, dtype=np.uint8), shape)
    kept = folder.round_trip({0: value, 1: value.T[::-1].reshape(shape)}, dtype="uint8", shape=shape, codec=codec)
    assert np.array_equal(kept.samples[0], value)
    assert np.array_equal(kept.samples[1], value.T[::-1].reshape(shape))


def test_a_tensor_larger_than_a_pack_comes_back(folder):
    value = np.random.default_rng(0).integers(0, 1 << 60, (70 << 20) // 8).reshape(5, -1)
    kept = folder.round_trip([value])
    assert np.array_equal(kept.samples[0], value)
