"""Data sets over columns: which samples are in them, also while the columns are written."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from stockroom import StockRoom, make_torch_dataset


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
        with pytest.raises(TypeError, match="commit first"):
            pickle.dumps(dataset)
    assert int(pickle.loads(pickle.dumps(dataset))[1][0][0]) == 7
    with stock.enable_write():
        stock.data["x", "a"] = np.full(30, -1, np.int32)
    with pytest.raises(TypeError, match="commit first"):  # these samples are in no commit that the handle knows
        pickle.dumps(dataset)
    assert int(dataset[1][0][0]) == 7
    with StockRoom(stock.path) as reader:
        assert int(pickle.loads(pickle.dumps(make_torch_dataset([reader.data["x"]], keys=["k007"])))[0][0][0]) == 7
