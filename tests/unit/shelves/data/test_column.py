"""A column as a mapping from keys to samples: reading in every way there is."""

from __future__ import annotations

import blake3
import ml_dtypes
import numpy as np
import pytest
import torch

from stockroom import (
    ClosedError,
    Column,
    ColumnNotFoundError,
    InvalidInputError,
    SampleNotFoundError,
    SchemaError,
    StockRoom,
)

KINDS = {
    "inline": ([np.array(n, np.float32) for n in range(20)], {}),
    "chunk": ([np.full((5, 4), n, np.int16) for n in range(20)], {}),
    "packed": ([np.full((50, 4), n, np.int16) for n in range(20)], {"codec": "zstd"}),
    "bfloat16": ([np.full(30, n, ml_dtypes.bfloat16) for n in range(20)], {}),
    "large": ([np.full((5, 1 << 20), n, np.uint8) for n in range(3)], {}),
    "empty": ([np.empty((0, 3)) for _ in range(5)], {}),
    "ragged": ([np.full((n, 2), n, np.float64) for n in range(20)], {"shape": (None, 2)}),
    "str": (["ä" * n for n in range(40)], {"dtype": "str"}),
    "bytes": ([b"\0" * n for n in range(40)], {"dtype": "bytes"}),
}


def as_plain(sample):
    """Something to compare by: bytes and shape of what is numpy's, anything else itself."""
    return (sample.dtype, sample.shape, sample.tobytes()) if isinstance(sample, np.ndarray | np.generic) else sample


@pytest.fixture(params=["pinned", "staged"])
def opened(request, stock):
    """A handle with one column of each kind, read from a commit or from what is staged and not flushed."""
    writer = StockRoom(stock.path, enable_write=True)
    for name, (samples, schema) in KINDS.items():
        first = samples[0]
        shape = first.shape if isinstance(first, np.ndarray) else ()
        given = {"dtype": getattr(first, "dtype", None), "shape": shape, **schema}
        writer.data.create(name, **given).extend(samples)
    if request.param == "staged":
        yield writer
        writer.close()
        return
    writer.commit("all kinds")
    writer.close()
    with StockRoom(stock.path) as reader:
        yield reader


@pytest.mark.parametrize("name", KINDS)
def test_samples_are_the_same_whichever_way_they_are_read(opened, name):
    column = opened.data[name]
    samples = KINDS[name][0]
    count = len(samples)
    expected = [as_plain(sample) for sample in samples]
    assert len(column) == count
    assert [as_plain(column[key]) for key in range(count)] == expected
    assert [as_plain(column.view(key)) for key in range(count)] == expected
    assert [as_plain(value) for value in column.values()] == expected
    assert [key for key, _ in column.items()] == list(column) == list(column.keys()) == list(range(count))
    order = [2, 0, 2, 1]
    for batch in (column[order], column[np.array(order)], column.take(order), column.take(np.array(order, np.uint8))):
        assert [as_plain(sample) for sample in batch] == [expected[key] for key in order]
    assert [as_plain(sample) for sample in column[1:3]] == expected[1:3]
    assert [as_plain(sample) for sample in column[::-1]] == expected[::-1]
    assert [as_plain(sample) for sample in column[-2:]] == expected[-2:]
    assert [as_plain(sample) for sample in column.take([-1, 0])] == [expected[-1], expected[0]]
    assert opened.data[name, 1] is not None
    assert as_plain(column.get(1)) == expected[1]
    assert column.get(count) is None
    assert len(column[[]]) == len(column[5:5]) == len(column.take([])) == 0


@pytest.mark.parametrize("name", KINDS)
def test_digest_and_nbytes_are_of_the_raw_bytes(opened, name):
    column, samples = opened.data[name], KINDS[name][0]
    raw = [s.tobytes() if isinstance(s, np.ndarray) else s.encode() if isinstance(s, str) else s for s in samples]
    assert [column.digest(key) for key in range(len(raw))] == [blake3.blake3(data).hexdigest() for data in raw]
    assert column.nbytes == sum(map(len, raw))


def test_batches_are_stacked_where_samples_have_one_shape(opened):
    assert opened.data["chunk"][[1, 2]].shape == (2, 5, 4)
    assert opened.data["chunk"][[]].shape == (0, 5, 4)
    assert opened.data["inline"][:].shape == (20,)
    assert opened.data["large"][:2].shape == (2, 5, 1 << 20)
    assert opened.data["empty"][:].shape == (5, 0, 3)
    assert opened.data["bfloat16"][:3].dtype == ml_dtypes.bfloat16
    for name in ("ragged", "str", "bytes"):
        assert isinstance(opened.data[name][:2], list)


def test_the_schema_is_told(opened):
    ragged, text = opened.data["ragged"], opened.data["str"]
    assert (ragged.name, ragged.dtype, ragged.shape, ragged.key_type) == ("ragged", np.float64, (None, 2), "int")
    assert (text.dtype, text.shape) == ("str", ())
    assert opened.data["packed"].codec == "zstd"
    assert repr(ragged) == "Column('ragged', dtype=float64, shape=(None, 2), keys=int, n=20)"
    assert repr(text) == "Column('str', dtype=str, keys=int, n=40)"


def test_what_is_not_there_is_named(opened):
    column = opened.data["chunk"]
    for missing in (lambda: column[20], lambda: column[-1], lambda: column[[0, 20]], lambda: column.view(20)):
        with pytest.raises(SampleNotFoundError, match=r"column 'chunk' has no sample under key (20|-1) "):
            missing()
    for position in (20, -21):
        with pytest.raises(InvalidInputError, match=f"position {position} is out of range"):
            column.take([position])
    for wrong in ("a", 1.0, None, True, (1, 2), ["a"], [True], [[1]], np.array([[1]]), np.array([True])):
        with pytest.raises(SchemaError, match="column 'chunk'"):
            column[wrong]
    for wrong in (3, [1.5], [[1]], ["a"]):
        with pytest.raises(InvalidInputError, match="column 'chunk'"):
            column.take(wrong)
    assert "a" not in column
    assert 1.0 not in column
    assert True not in column
    assert np.int32(3) in column


def test_everything_is_present_in_a_whole_repository(opened):
    for column in opened.data.values():
        assert column.present() == column.present([0, 1]) == 1.0
        column.prefetch()
        column.prefetch([0])


def test_attrs_given_out_cannot_be_changed_in_place(opened):
    column = opened.data["chunk"]
    with pytest.raises(TypeError):
        column.attrs["a"] = 1
    assert column.attrs == {}


def test_numpy_integers_are_keys(stock):
    with stock.enable_write() as writer:
        column = writer.data.create("x", dtype="int64")
        column[np.int32(5)] = np.int64(1)
        column.update({np.uint8(6): 2})
        writer.data["y"] = {np.int64(7): 3}
    assert [type(key) for key in (*stock.data["x"], *stock.data["y"])] == [int] * 3
    assert stock.data["x"][np.uint64(5)] == 1


def test_a_position_above_the_greatest_signed_one_is_out_of_range(opened):
    with pytest.raises(InvalidInputError, match="is out of range"):
        opened.data["chunk"].take(np.array([2**64 - 1], np.uint64))
    assert (opened.data["chunk"].take(np.array([3], np.uint64)) == 3).all()


def test_no_dtype_is_not_taken_for_a_float(stock):
    with stock.enable_write(), pytest.raises(SchemaError, match="found None"):
        stock.data.create("any", dtype=None)


def fill(stock, name="x", count=600):
    """A staged column in which each sample tells its key."""
    stock.data[name] = {f"k{n:03d}": np.full(30, n, np.int32) for n in range(count)}
    return stock.data[name]


def find_mixed_up(column):
    return [key for key in column if int(key[1:4]) != column[key][0]]


def test_a_column_may_be_extended_from_its_own_items(stock):
    with stock.enable_write():
        column = fill(stock)
        for key, sample in column.items():
            column[f"{key}_flip"] = sample
        column.update((f"{key}_again", sample) for key, sample in column.items())
        assert len(column) == 2400
        assert find_mixed_up(column) == []


def test_a_column_may_be_emptied_while_its_items_are_read(stock):
    with stock.enable_write():
        column = fill(stock)
        for key, sample in column.items():
            assert int(key[1:4]) == sample[0]
            del column[key]
        assert len(column) == 0


def test_an_iteration_outlives_the_column_and_the_write_block(stock):
    with stock.enable_write():
        items = iter(fill(stock).items())
        next(items)
        del stock.data["x"]
        stock.experiment["lr"] = 0.1
    assert [int(sample[0]) for _, sample in items] == list(range(1, 600))


def test_what_a_write_block_left_nothing_of_is_said_to_be_dropped(stock):
    with stock.enable_write():
        items = iter(fill(stock).items())
        next(items)
        del stock.data["x"]
    with pytest.raises(ClosedError, match="dropped"):
        list(items)


def test_samples_that_add_keys_of_their_own_are_not_overwritten(stock):
    with stock.enable_write():
        column = stock.data.create("n", dtype="int64")

        def read():
            for number in range(3):
                column.extend([100 + number])
                yield number

        with pytest.raises(InvalidInputError, match="key 0 was set while extend was reading"):
            column.extend(read())
        column.extend(column.values())
        assert len(column) == 0


@pytest.mark.parametrize("keys", ["int", "str"])
def test_columns_without_samples_are_read_measured_and_exported(stock, tmp_path, keys):
    with stock.enable_write():
        for name, schema in {
            "text": {"dtype": "str"}, "bytes": {"dtype": "bytes"}, "image": {"decoder": "image"},
            "ragged": {"dtype": "int8", "shape": (None, 3)}, "fixed": {"dtype": "int8", "shape": (3,)},
            "hollow": {"dtype": "int8", "shape": (0,)},
        }.items():  # fmt: skip
            stock.data.create(name, keys=keys, **schema)
        writers = [stock.data[name] for name in stock.data]
        assert [column.nbytes for column in writers] == [0] * 6
    for column in stock.data.values():
        assert (column.nbytes, column.present(), len(column[:]), len(column[[]]), list(column.items())) == (
            0,
            1,
            0,
            0,
            [],
        )
        assert column.export(tmp_path / column.name) == 0
        assert column.export(tmp_path / f"{column.name}.parquet") == 0
    assert {path: cost.nbytes for path, cost in stock.measure_usage().items.items()} == {
        f"data/{name}": 0 for name in stock.data
    }
    assert stock.verify().ok


@pytest.mark.parametrize("number", [3, np.int8(3), np.array(3), torch.tensor(3), torch.tensor(3, dtype=torch.uint8)])
def test_one_whole_number_of_any_library_is_a_key(stock, number):
    with stock.enable_write():
        stock.data["label"] = np.arange(6) * 10
        stock.data["label", number] = 31
        stock.data["text"] = list("abcdef")
    column = stock.data["label"]

    assert column[number] == 31
    assert number in column
    assert stock.data["text"][number] == "d"
    assert column[[number, number]].tolist() == [31, 31]
    assert column.positions_of([number]).tolist() == [3]


@pytest.mark.parametrize("other", [np.array(True), torch.tensor(True), np.array(3.0), torch.tensor(3.0), np.array("3")])
def test_a_scalar_array_of_anything_else_is_no_key(stock, other):
    with stock.enable_write():
        stock.data["label"] = np.arange(6)

    with pytest.raises(SchemaError, match="expected int keys"):
        stock.data["label"][other]
    assert other not in stock.data["label"]


def test_a_scalar_array_of_text_is_a_key_of_text(stock):
    with stock.enable_write():
        stock.data["age"] = {"ada": 36, "bob": 7}

    assert stock.data["age"][np.array("bob")] == 7
    assert stock.data["age"][np.array(["bob", "ada"]).tolist()].tolist() == [7, 36]


def test_a_range_selects_keys_as_a_list_does(stock):
    with stock.enable_write():
        stock.data["label"] = {key: key for key in range(5, 15)}

    assert stock.data["label"][range(6, 12, 2)].tolist() == [6, 8, 10]


def test_the_first_sample_makes_a_column(stock):
    with stock.enable_write():
        stock.data["frame", 7] = np.zeros((2, 3), np.float32)
        stock.data["scan", "patient", 3] = np.arange(4, dtype=np.int16)
        with pytest.raises(SchemaError, match="key 0"):
            stock.data["wrong", 0] = object()

    assert list(stock.data) == ["frame", "scan"]
    assert (stock.data["frame"].dtype, stock.data["frame"].shape, list(stock.data["frame"])) == ("float32", (2, 3), [7])
    assert list(stock.data["scan"]) == [("patient", 3)]


def test_an_iteration_reads_by_bytes_and_each_sample_has_its_own_memory(stock, monkeypatch):
    with stock.enable_write():
        stock.data["small"] = np.zeros((600, 80))
        stock.data["large"] = np.zeros((5, 1 << 20))
        ragged = stock.data.create("ragged", dtype="uint8", shape=(None,))
        ragged.extend([np.zeros(3 << 20, np.uint8)] * 6 + [np.zeros(5, np.uint8)] * 4)
    taken = []
    take = Column.take
    monkeypatch.setattr(Column, "take", lambda *given: taken.append(len(given[1])) or take(*given))

    for name, expected in {"small": [256, 256, 88], "large": [1] * 5, "ragged": [2, 2, 6]}.items():
        taken.clear()
        samples = list(stock.data[name].values())
        assert taken == expected
        assert all(sample.base is None or sample.base.nbytes <= sample.nbytes + (64 << 10) for sample in samples)


def test_a_column_from_an_iterator_holds_one_sample_at_a_time(stock):
    buffer = np.zeros((4, 4), np.int32)

    def refill():
        for number in range(50):
            buffer[...] = number
            yield buffer

    with stock.enable_write():
        stock.data["same"] = refill()
        stock.data["ragged"] = (np.full(number % 3 + 1, number) for number in range(50))
        with pytest.raises(SchemaError, match="key 9"):
            stock.data["wrong"] = (np.zeros(3) if number < 9 else np.zeros((3, 3)) for number in range(50))
        with pytest.raises(SchemaError, match="without samples"):
            stock.data["nothing"] = iter([])

    assert sorted(stock.data) == ["ragged", "same"]
    assert stock.data["same"][:][:, 0, 0].tolist() == list(range(50))
    assert [sample.tolist() for sample in stock.data["ragged"].values()] == [
        [number] * (number % 3 + 1) for number in range(50)
    ]


def test_a_column_that_an_iterator_made_itself_stays(stock):
    def make():
        stock.data["image"] = np.arange(3)
        yield np.zeros(2)

    with stock.enable_write():
        with pytest.raises(InvalidInputError, match="already exists"):
            stock.data["image"] = make()
        assert stock.data["image"][:].tolist() == [0, 1, 2]


def test_one_sample_is_deleted_through_the_shelf(stock: StockRoom) -> None:
    with stock.enable_write("some"):
        stock.data["n"] = np.arange(3)
    with stock.enable_write("fewer"):
        del stock.data["n", 1]
        with pytest.raises(KeyError):
            del stock.data["n", 7]
        with pytest.raises(ColumnNotFoundError):
            del stock.data["m", 7]
    assert list(stock.data["n"]) == [0, 2]
