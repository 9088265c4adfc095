"""Saving goes through windows: whatever the sizes and their order, all comes back, and memory stays bounded."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blake3 import blake3

from stockroom import InvalidInputError, StockRoom
from stockroom.content.state import STATE_ENTRIES
from stockroom.shelves.model.flatten import LeafBytes
from stockroom.shelves.model.state_writer import put_leaf
from stockroom.store.entry import EntryKind

MIB = 1 << 20

ORDERS = {
    "below, at and above what is inline": [0, 1, 31, 32, 33, 64],
    "below, at and above a chunk": [4 * MIB - 1, 4 * MIB, 4 * MIB + 1],
    "small among large": [100, 5 * MIB, 100, 70 * MIB, 100, 40 * MIB, 33],
    "just a window": [64 * MIB, 64 * MIB],
    "several windows": [150 * MIB, 10],
    "a window with the end of one and the beginning of another": [65 * MIB, 66 * MIB, 67 * MIB],
    "many": [3000] * 6000,
}


def make_array(nbytes: int, seed: int) -> np.ndarray:
    """Bytes that differ in every chunk, cheaply."""
    array = np.arange(nbytes // 4 + 1, dtype=np.uint32)
    return (array * np.uint32(2 * seed + 1)).view(np.uint8)[:nbytes]


@pytest.mark.parametrize("order", ORDERS)
def test_leaves_of_any_sizes_in_any_order_come_back(stock: StockRoom, order: str) -> None:
    state = {f"{number}": make_array(nbytes, number) for number, nbytes in enumerate(ORDERS[order])}
    with stock.enable_write():
        stock.model["m"] = state
    leaves = {leaf.path: leaf for leaf in stock.model["m"].leaves()}
    loaded = stock.model["m"].load()
    for key, array in state.items():
        assert np.array_equal(loaded[key], array), key
        assert leaves[f"~2{key}"].digest == blake3(array).hexdigest(), key
    with stock.enable_write():
        stock.model["again"] = dict(reversed(state.items()))
    records: Any = [stock._pin.snapshot.find_state(f"model/{name}") for name in ("m", "again")]
    assert records[0].root == records[1].root


def test_pieces_that_end_anywhere_give_the_same_chunks(stock: StockRoom) -> None:
    whole = make_array(9 * MIB + 5, 1)
    entries = []
    with StockRoom(stock.path, enable_write=True) as writer:
        for cuts in ([0, len(whole)], [0, 1, 5 * MIB, 5 * MIB + 3, len(whole)], range(0, len(whole) + 1000, 1_000_003)):
            pieces = [whole[start:stop] for start, stop in pairwise([*cuts, len(whole)])]
            source = LeafBytes("leaf", "uint8", whole.shape, len(whole), pieces)
            entries.append(put_leaf(writer._writer(), source))
    assert len(set(entries)) == 1
    assert STATE_ENTRIES.decode(entries[0]).kind is EntryKind.CHUNK_LIST


@pytest.mark.parametrize("nbytes", [20, 2000, 9 * MIB])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_leaf_that_changes_its_size_meanwhile_is_refused(stock: StockRoom, nbytes: int, change: int) -> None:
    source = LeafBytes("a/b", "uint8", (nbytes,), nbytes, [make_array(nbytes + change, 0)])
    with StockRoom(stock.path, enable_write=True) as writer, pytest.raises(InvalidInputError, match="'a/b' changed"):
        put_leaf(writer._writer(), source)


def test_a_row_that_moved_by_one_shares_nothing_but_what_stayed_does(stock: StockRoom) -> None:
    tensor = torch.arange(3 << 20, dtype=torch.float32).view(-1, 1024)  # 12 MiB
    with stock.enable_write():
        stock.model["m"] = {"a": tensor}
        stock.model["cut"] = {"a": tensor[:-100]}
        stock.model["shifted"] = {"a": tensor[1:]}
    chunks = {name: {digest.tobytes() for digest in stock.model[name].list_chunks()} for name in stock.model}
    assert len(chunks["m"]) == 3
    assert len(chunks["m"] & chunks["cut"]) == 2
    assert not chunks["m"] & chunks["shifted"]


SAVE_A_LOT = """
import sys
import torch
from stockroom import StockRoom
from stockroom.testing.peak_memory import read_peak_nbytes
with StockRoom(sys.argv[1]) as stock:
    with stock.enable_write():
        stock.model["warm"] = {"a": torch.ones(1000, 1000).T, "b": torch.ones(8 << 20)}
    tensor = torch.arange(100 << 20, dtype=torch.float32).view(10240, 10240)  # 400 MiB
    before = read_peak_nbytes()
    with stock.enable_write():
        stock.model["m"] = {"turned": tensor.T, "plain": tensor}
    print((read_peak_nbytes() - before) >> 20)
    loaded = stock.model["m"].load(rows=[5000])
    assert torch.equal(loaded["turned"][0], tensor[:, 5000])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from Linux's /proc")
def test_memory_stays_bounded_where_bytes_have_to_be_gathered(tmp_path: Path) -> None:
    StockRoom.init(tmp_path / "repo").close()
    command = [sys.executable, "-c", SAVE_A_LOT, str(tmp_path / "repo")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert 0 < int(done.stdout) < 260  # MiB, of 400 that are turned: two windows of 64, and what waits for the disk
