"""A value comes back as it was given, or is refused by column and key, whichever way it comes in."""

from __future__ import annotations

import enum
import math

import ml_dtypes
import numpy as np
import pytest
import torch

from stockroom import SchemaError, StockRoom


class Split(str, enum.Enum):  # noqa: UP042 - unlike that of StrEnum, its str() is not its value
    TRAIN = "train"


class Part(enum.IntEnum):
    FIRST = 1


def assign(column, value):
    column[0] = value


def update(column, value):
    column.update({0: value})


def update_pairs(column, value):
    column.update([(0, value)])


def extend(column, value):
    column.extend([value])


WAYS = [assign, update, update_pairs, extend]

CHANGED = [  # numbers that the dtype would change: to infinity, NaN or zero, or an integer to another one
    ("float16", 70000.0),
    ("float16", -70000.0),
    ("float16", 1e-9),
    ("float16", 2049),
    ("float32", 1e300),
    ("float32", 1e-60),
    ("float32", 16777217),
    ("float32", 2**200),
    ("float64", 2**53 + 1),
    ("float64", 2**2000),
    ("bfloat16", 257),
    ("bfloat16", 1e39),
    ("float8_e4m3fn", 1000.0),
    ("float8_e4m3fn", math.inf),
    ("float8_e5m2", 1e9),
    ("complex64", 16777217),
    ("complex64", 1e300),
    ("complex64", 1e300j),
    ("complex64", complex(1, 1e-60)),
    ("int8", 300),
    ("uint8", -1),
    ("int64", 2**63),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("dtype", "value"), CHANGED)
def test_a_number_that_the_dtype_would_change_is_refused(stock: StockRoom, dtype: str, value, way) -> None:
    with stock.enable_write():
        column = stock.data.create("x", dtype=dtype)
        with pytest.raises(SchemaError, match=r"column 'x', key 0: .* does not fit"):
            way(column, value)
        assert len(column) == 0


def test_numbers_replace_a_columns_content_only_if_they_fit(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.data["x"] = np.ones(2, np.float16)
        for values in ([1.0, 70000.0], {0: 1.0, 1: 70000.0}):
            with pytest.raises(SchemaError, match=r"column 'x', key 1: 70000\.0 does not fit float16"):
                stock.data["x"] = values
        with pytest.raises(SchemaError, match="column 'y', key 1: 9007199254740993 does not fit float64"):
            stock.data["y"] = [0.5, 2**53 + 1]
    assert stock.data["x"].take([0, 1]).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("float16", 0.1, np.float16(0.1)),
        ("float32", 0.1, np.float32(0.1)),
        ("float32", 1e-40, np.float32(1e-40)),  # less exact, and there
        ("float32", 16777216, 16777216),
        ("float32", 2**100, 2.0**100),
        ("float32", -0.0, -0.0),
        ("float16", math.inf, math.inf),
        ("complex64", 0.5j, 0.5j),
        ("bfloat16", 256, 256),
        ("bfloat16", 0.1, ml_dtypes.bfloat16(0.1)),
        ("float8_e5m2", -math.inf, -math.inf),
        ("uint64", 2**64 - 1, 2**64 - 1),
    ],
)
def test_a_float_is_rounded_to_the_columns_digits_and_whatever_fits_is_kept(
    stock: StockRoom, dtype: str, value, expected
) -> None:
    with stock.enable_write():
        column = stock.data.create("x", dtype=dtype)
        column[0] = value
        assert column[0] == expected
        assert math.copysign(1, complex(column[0]).real) == math.copysign(1, complex(value).real)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "complex64"])
def test_nan_is_kept(stock: StockRoom, dtype: str) -> None:
    with stock.enable_write():
        stock.data.create("x", dtype=dtype)[0] = math.nan
        assert stock.data["x"][0] != stock.data["x"][0]


MASKED = np.ma.array([1, 2, 3], mask=[False, True, False])


@pytest.mark.parametrize("way", WAYS)
def test_a_masked_sample_is_refused(stock: StockRoom, way) -> None:
    with stock.enable_write():
        column = stock.data.create("x", dtype="int64", shape=(3,))
        with pytest.raises(SchemaError, match="column 'x', key 0: some values of the array are masked"):
            way(column, MASKED)
        with pytest.raises(SchemaError, match="column 'n', key 0: some values of the array are masked"):
            way(stock.data.create("n", dtype="int64"), MASKED[1])
        way(column, np.ma.array([4, 5, 6]))
        assert column[0].tolist() == [4, 5, 6]


def test_the_key_of_the_first_masked_sample_in_a_batch_is_named(stock: StockRoom) -> None:
    with stock.enable_write():
        with pytest.raises(SchemaError, match="column 'new', key 1: some values"):
            stock.data["new"] = MASKED
        column = stock.data["x"] = np.zeros((4, 3), np.int64)
        column = stock.data["x"]
        rows = np.ma.array(np.ones((5, 3), np.int64), mask=False)
        column.extend(rows)
        rows[2, 1] = np.ma.masked
        with pytest.raises(SchemaError, match="column 'x', key 11: some values"):
            column.extend(rows)
        with pytest.raises(SchemaError, match="column 'x', key 2: some values"):
            stock.data["x"] = rows
        assert (list(stock.data), len(column)) == (["x"], 9)


@pytest.mark.parametrize("value", [MASKED, [MASKED, MASKED], [1, np.ma.masked], MASKED[1]])
def test_masked_values_of_a_data_set_are_refused_and_its_columns_taken_back(stock: StockRoom, value) -> None:
    with stock.enable_write():
        with pytest.raises(SchemaError, match=r"'x\.y'.*masked"):
            stock.data.import_from([{"x": {"y": value}, "z": 1}])
        assert list(stock.data) == []


@pytest.mark.parametrize("value", [[2**53 + 1, 0.5], [[1, 2**63 + 1], [-1, 0]], (np.int64(2**62 + 1), 1.5)])
def test_a_list_in_which_numpy_would_round_an_integer_is_refused(stock: StockRoom, value) -> None:
    with stock.enable_write():
        with pytest.raises(SchemaError, match=r"sample 0, 'x': .* does not fit float64"):
            stock.data.import_from([{"x": value}])
        stock.data.import_from([{"x": [2**53, 0.5]}, {"x": [2**54, 1e300]}])
        assert stock.data["x"].take([0, 1]).tolist() == [[2**53, 0.5], [2**54, 1e300]]


def test_a_tensor_or_scalar_of_another_dtype_is_refused(stock: StockRoom) -> None:
    with stock.enable_write():
        column = stock.data.create("x", dtype="float32")
        for value in (np.float64(0.1), torch.tensor(0.1, dtype=torch.float64), np.int64(1), np.float16(1)):
            with pytest.raises(SchemaError, match="column 'x', key 0: expected dtype float32"):
                column[0] = value


def test_a_member_of_a_str_enum_is_its_value_as_a_key(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.data["bulk"] = {Split.TRAIN: 1, "test": 2}
        column = stock.data.create("x", dtype="int64", keys="str")
        column[Split.TRAIN] = 1
        column.update({"test": 2, Split.TRAIN: 3})
        stock.data["tuple"] = {(Split.TRAIN, Part.FIRST): 1}
        stock.data["int"] = {Part.FIRST: 1}
        assert (column["train"], column[Split.TRAIN], Split.TRAIN in column) == (3, 3, True)
    assert list(stock.data["bulk"]) == list(stock.data["x"]) == ["test", "train"]
    assert (list(stock.data["tuple"]), list(stock.data["int"])) == ([("train", 1)], [1])
    with stock.enable_write():
        del stock.data["x"][Split.TRAIN]
        assert list(stock.data["x"]) == ["test"]


def test_a_member_of_a_str_enum_is_its_value_as_a_name(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.data[Split.TRAIN] = [1]
        stock.data.import_from([{Split.TRAIN: {Split.TRAIN: 1}}])
        stock.model[Split.TRAIN] = {Split.TRAIN: Split.TRAIN}
        stock.experiment[Split.TRAIN] = [Split.TRAIN]
        stock.experiment.log({Split.TRAIN: 0.5, "loss": 1})
        stock.experiment.artifact(Split.TRAIN, b"x")
        assert stock.experiment.metrics[Split.TRAIN].values.tolist() == [0.5]
    for shelf in (stock.data, stock.model, stock.experiment, stock.experiment.metrics, stock.experiment.artifacts):
        assert "train" in list(shelf)
        assert Split.TRAIN in shelf
        assert shelf[Split.TRAIN] is not None
    assert list(stock.data) == ["train", "train.train"]
    assert (stock.model["train"].load(), stock.experiment["train"]) == ({"train": "train"}, ["train"])


def test_a_masked_number_is_no_point_of_a_metric(stock: StockRoom) -> None:
    with stock.enable_write(), pytest.raises(SchemaError, match="metric 'loss': expected a number, found a masked one"):
        stock.experiment.log({"loss": np.ma.mean(np.ma.array([1.0], mask=[True]))})


def test_padding_has_to_fit_too(stock: StockRoom) -> None:
    with stock.enable_write():
        column = stock.data.create("x", dtype="float16", shape=(None,))
        column.extend([np.ones(1, np.float16), np.ones(2, np.float16)])
        with pytest.raises(SchemaError, match=r"cannot pad float16 with 70000\.0"):
            column.take([0, 1], pad=70000.0)
        assert column.take([0, 1], pad=-1.0).tolist() == [[1, -1], [1, 1]]


def test_a_column_assigned_to_another_name_keeps_what_its_samples_mean(stock: StockRoom) -> None:
    with stock.enable_write():
        photo = stock.data.create("photo", decoder="image", keys="str", codec="raw", attrs={"classes": ["cat"]})
        photo.encoded["a"] = b"\xff\xd8 not read here"
        stock.data["copy"] = photo
        stock.data["plain"] = {"a": b"x"}
        with pytest.raises(SchemaError, match=r"column 'plain': expected samples of the decoder None, found image"):
            stock.data["plain"] = photo
        stock.data["plain"] = photo.encoded
        stock.data["copy"] = stock.data["plain"]
    copy = stock.data["copy"]
    assert (copy.decoder, copy.codec, copy.attrs) == ("image", "raw", {"classes": ["cat"]})
    assert stock.data["plain"]["a"] == copy.encoded["a"] == b"\xff\xd8 not read here"


@pytest.mark.parametrize("attrs", [{0: "cat"}, {"classes": {0: "cat"}}, {"a": [{None: 1}]}, {True: 1}])
def test_attrs_and_metadata_with_keys_that_json_would_make_text_are_refused(stock: StockRoom, attrs) -> None:
    with stock.enable_write():
        column = stock.data.create("x", dtype="int64")
        with pytest.raises(SchemaError, match="column 'x': attrs must have str keys"):
            column.attrs = attrs
        with pytest.raises(SchemaError, match="model 'net': metadata must have str keys"):
            stock.model.save("net", {}, nested=[attrs])
        column.attrs = {"classes": {str(0): "cat"}, Split.TRAIN: Split.TRAIN}
        stock.data.create("y", dtype="int64").attrs = column.attrs
    assert stock.data["y"].attrs == {"classes": {"0": "cat"}, "train": "train"}


def test_two_keys_or_titles_that_are_stored_as_one_are_refused(stock: StockRoom) -> None:
    with stock.enable_write():
        with pytest.raises(SchemaError, match="column 'x': expected each key once"):
            stock.data["x"] = {("a", 1): 1, '["a",1]': 2}
        for row in ({"a": {"b": 1}, "a.b": 2}, {1: 1, "1": 2}):
            with pytest.raises(SchemaError, match="sample 0: expected one value for column"):
                stock.data.import_from([row])
        with pytest.raises(SchemaError, match="sample 0: expected one value for column 'p-a'"):
            stock.data.import_from([(1, 2)], ["a", "a"], prefix="p-")
        assert list(stock.data) == []


def test_a_tensor_without_plain_values_is_refused_by_column_and_key(stock: StockRoom) -> None:
    sparse = torch.eye(3).to_sparse()
    with stock.enable_write():
        column = stock.data.create("x", dtype="float32", shape=(3, 3))
        for way in WAYS:
            with pytest.raises(SchemaError, match="column 'x', key 0: expected a dense tensor"):
                way(column, sparse)
        for give in (column.extend, lambda values: stock.data.__setitem__("x", values)):
            with pytest.raises(SchemaError, match="column 'x': expected a dense tensor"):
                give(sparse)
