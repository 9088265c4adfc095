"""Data sets over columns: which samples are in them, also while the columns are written."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from stockroom import SchemaError, StockRoom, make_torch_dataset


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
