"""Data sets over columns: which samples are in them, also while the columns are written."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from stockroom import SchemaError, StockRoom, make_torch_dataset
from stockroom.shelves.png import encode_png


def fill(stock):
    stock.data["x"] = {f"k{n:03d}": np.full(30, n, np.int32) for n in range(20)}
    return stock.data["x"]


def test_a_data_set_keeps_to_the_samples_that_it_was_made_of(stock):
    with stock.enable_write():
        column = fill(stock)
        chosen, whole = make_torch_dataset([column], keys=["k005"]), make_torch_dataset({"x": column})
        column["a"] = np.full(30, -1, np.int32)
        del column["k007"]
        assert int(chosen[0][0][0]) == 5
        assert [int(sample["x"][0]) for sample in whole] == list(range(20))


def test_a_data_set_made_in_a_write_block_is_pickled_by_its_commit(stock):
    with stock.enable_write():
        dataset = make_torch_dataset([fill(stock)], keys=["k005", "k007"])
        with pytest.raises(TypeError, match="is being written"):
            pickle.dumps(dataset)
    assert int(pickle.loads(pickle.dumps(dataset))[1][0][0]) == 7
    with stock.enable_write():
        stock.data["x", "a"] = np.full(30, -1, np.int32)
    with pytest.raises(TypeError, match="commit first"):  # these samples are in no commit that the handle knows
        pickle.dumps(dataset)
    assert int(dataset[1][0][0]) == 7
    with StockRoom(stock.path) as reader:
        assert int(pickle.loads(pickle.dumps(make_torch_dataset([reader.data["x"]], keys=["k007"])))[0][0][0]) == 7


def read(dataset):
    return [int(sample[0]) for (sample,) in dataset]


def test_a_mask_or_slice_selects_by_position_and_keys_are_never_guessed(stock):
    with stock.enable_write():
        stock.data["n"] = {n * 10: np.full(3, n) for n in range(6)}
        stock.data["s"] = {f"k{n}": np.full(3, n) for n in range(6)}
    for column in (stock.data["n"], stock.data["s"]):
        mask = np.arange(6) % 2 == 1
        for keys in (mask, torch.tensor(mask), slice(1, None, 2)):
            dataset = pickle.loads(pickle.dumps(make_torch_dataset([column, column], keys=keys)))
            assert [int(first[0]) for first, _ in dataset] == [1, 3, 5]
        assert read(make_torch_dataset([column], keys=np.zeros(6, bool))) == []
    ints, texts = stock.data["n"], stock.data["s"]
    for keys in (
        [10, 20],
        np.array([10, 20]),
        torch.tensor([10, 20]),
        range(10, 21, 10),
        [np.int64(10), torch.tensor(20)],
    ):
        assert read(make_torch_dataset([ints], keys=keys)) == [1, 2]
    assert read(make_torch_dataset([texts], keys=np.array(["k4"]))) == [4]
    for column, keys in [
        (ints, [1.9]),
        (ints, [10.0]),
        (ints, np.array([10.0])),
        (ints, [True, False]),
        (ints, mask.tolist()),
        (ints, mask[:3]),
        (ints, np.array([[10, 20]])),
        (ints, np.ma.array([10, 20], mask=[True, False])),
        (ints, 10),
        (ints, b"\n"),
        (texts, "k4"),
        (texts, [4]),
    ]:
        with pytest.raises(SchemaError):
            make_torch_dataset([column], keys=keys)


def test_a_mask_needs_columns_of_the_same_keys(stock):
    with stock.enable_write():
        stock.data["a"], stock.data["b"] = [1, 2, 3], {1: 1, 2: 2, 3: 3}
    with pytest.raises(SchemaError, match="do not have the same keys"):
        make_torch_dataset([stock.data["a"], stock.data["b"]], keys=np.array([True, False, True]))


@pytest.fixture
def numbers(stock):
    with stock.enable_write():
        stock.data["x"] = np.arange(20, dtype=np.float32).reshape(10, 2)
        stock.data["y"] = np.arange(10)
    return make_torch_dataset({"x": stock.data["x"], "y": stock.data["y"]})


@pytest.mark.parametrize("index", [7, -3, np.int64(7), np.array(7), torch.tensor(7)])
def test_one_index_of_any_library_is_one_sample(numbers, index):
    assert numbers[index]["y"].item() == 7
    assert numbers[index]["x"].tolist() == [14, 15]


@pytest.mark.parametrize(
    "indices", [[2, 5, -1], (2, 5, 9), np.array([2, 5, 9]), torch.tensor([2, 5, -1]), np.isin(np.arange(10), [2, 5, 9])]
)
def test_many_indices_are_one_batch(numbers, indices):
    if isinstance(indices, tuple):
        with pytest.raises(TypeError, match="found tuple"):
            numbers[indices]
        return
    batch = numbers[indices]

    assert batch["y"].tolist() == [2, 5, 9]
    assert batch["x"].shape == (3, 2)


def test_a_slice_is_a_batch_as_of_a_tensor_data_set(numbers):
    assert numbers[2:4]["y"].tolist() == [2, 3]
    assert numbers[::-4]["y"].tolist() == [9, 5, 1]


@pytest.mark.parametrize("index", [10, -11, [0, 10], torch.tensor([-11])])
def test_an_index_out_of_range_is_an_index_error(numbers, index):
    with pytest.raises(IndexError, match="out of range for 10 samples"):
        numbers[index]


@pytest.mark.parametrize("index", ["y", 1.5, True, [1.5], np.zeros(3, bool), None])
def test_anything_else_is_no_index(numbers, index):
    with pytest.raises(TypeError, match="expected"):
        numbers[index]


def test_a_batch_sampler_given_as_the_sampler_reads_batches(numbers):
    sampler = BatchSampler(SequentialSampler(numbers), batch_size=4, drop_last=False)
    loader = DataLoader(numbers, batch_size=None, sampler=sampler)

    assert [batch["y"].tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_transform_sees_single_samples_of_a_batch(stock):
    with stock.enable_write():
        stock.data["y"] = np.arange(10)
    dataset = make_torch_dataset([stock.data["y"]], transform=lambda sample: sample[0] * 2)

    assert dataset[[1, 4]].tolist() == [2, 8]


def test_a_pickled_data_set_keeps_how_its_columns_were_taken(stock):
    with stock.enable_write():
        stock.data["y"] = np.arange(3)
        stock.data.create("photo", decoder="image:RGB").extend([encode_png(np.zeros((2, 2, 3), np.uint8))] * 3)
    with StockRoom(stock.path, lazy=False) as strict:
        dataset = make_torch_dataset([strict.data["y"], strict.data["photo"].encoded])
        copied = pickle.loads(pickle.dumps(dataset))

    assert copied[0][1].startswith(b"\x89PNG")
    assert copied._stock.lazy is False
