"""Imports a stream of samples in a process of its own and prints, as JSON, how much memory that took.

Run as `python benchmarks/streamed_import.py FOLDER NBYTES LENGTH...`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stockroom import StockRoom
from stockroom.testing.peak_memory import read_peak_nbytes


def iter_samples(count: int, shape: tuple[int, ...]) -> Iterator[NDArray[np.uint8]]:
    """`count` samples, no two alike, made one at a time: random bytes with the sample's number in front."""
    noise = np.random.default_rng(1).integers(0, 256, math.prod(shape), dtype=np.uint8)
    for number in range(count):
        sample = noise.copy()
        sample[:8].view(np.uint64)[0] = number
        yield sample.reshape(shape)


def main(folder: str, nbytes: str, *lengths: str) -> None:
    """Import `nbytes` of samples into a new repository in `folder`."""
    shape = tuple(map(int, lengths))
    count = int(nbytes) // math.prod(shape)
    with StockRoom.init(folder, name="Bench", email="bench@example.org") as stock:
        before = read_peak_nbytes()
        with stock.enable_write("Import a stream"):
            stock.data.create("image", dtype="uint8", shape=shape).extend(iter_samples(count, shape))
        assert len(stock.data["image"]) == count
        print(json.dumps({"samples": count, "above_input_nbytes": read_peak_nbytes() - before}))


if __name__ == "__main__":
    main(*sys.argv[1:])
