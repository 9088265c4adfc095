"""Mutated values make cells of a table, or are told as damage, and nothing else happens."""

from __future__ import annotations

import random

import ml_dtypes
import numpy as np
import pytest

from stockroom import CorruptionError, FormatVersionError, StockRoom
from stockroom.cli.render.experiment import as_json
from stockroom.content.state import ValueRecord, decode_value
from stockroom.shelves.experiment.cells import format_cell, read_cells
from stockroom.shelves.model.flatten import flatten
from stockroom.shelves.model.leaf_reader import LeafReader

VALUE = {
    "scalars": [True, 1 << 80, -0.5, 1j, "text \ud800", None, np.float32(0.1)],
    "one": [np.ones(1, ml_dtypes.bfloat16), np.array(3, "M8[s]"), np.ones((1, 1), np.complex64)],
    "more": {"bytes": b"\0\1", "array": np.zeros((3, 4), np.int16), "empty": {}, "tuple": ((), (1, (2,)))},
}


@pytest.mark.parametrize("seed", range(8))
def test_a_mutated_value_is_shown_or_refused(stock: StockRoom, seed: int) -> None:
    flat = flatten(VALUE, where="here")
    payloads = tuple(b"".join(piece.tobytes() for piece in source.pieces) for source in flat.leaves)
    data = ValueRecord(flat.structure, payloads).encode()
    chance, shown = random.Random(seed), 0
    for _ in range(400):
        mutated = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            mutated[chance.randrange(len(mutated))] = chance.randrange(256)
        try:
            record = decode_value(bytes(mutated), where="here")
            reader = LeafReader(stock._pin.snapshot, record, stock._pin.tensors)
            cells = read_cells(reader, "x", bytes(32))
        except (CorruptionError, FormatVersionError):
            continue
        shown += 1
        assert all(isinstance(format_cell(cell), str) for cell in cells.values())
        as_json(cells)
    assert shown > 20  # some mutations are values of their own
