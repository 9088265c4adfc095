"""A store in a fresh folder, and short ways of putting chunks into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from stockroom.digest import PackDigest
from stockroom.store.chunk_run import Stream
from stockroom.store.pack.layout import locate_pack
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter

Put: TypeAlias = Callable[..., np.ndarray]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TensorStore]:
    opened = TensorStore(tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture
def writer(store: TensorStore) -> Iterator[TensorWriter]:
    opened = TensorWriter(store)
    yield opened
    opened.close()


@pytest.fixture
def put(store: TensorStore) -> Put:
    """`put(rows, codec="raw")`: put rows, `(n, nbytes)` uint8 or a list of bytes, as one pack; returns digests."""

    def put_into_one_pack(
        rows: np.ndarray | Sequence[bytes], *, codec: str = "raw", into: TensorStore | None = None
    ) -> np.ndarray:
        writer = TensorWriter(into or store)
        try:
            if isinstance(rows, np.ndarray):
                digests = writer.put_rows(rows, Stream("uint8", (rows.shape[1],), codec))
            else:
                stream = Stream("uint8", None, codec)
                joined = b"".join([writer.put_row(row, stream) for row in rows])
                digests = np.frombuffer(joined, np.uint8).reshape(-1, 32)
            writer.flush()
        finally:
            writer.close()
        return digests

    return put_into_one_pack


@pytest.fixture
def only_pack(store: TensorStore) -> Callable[[], Path]:
    """`only_pack()`: the folder of the one pack the store has."""

    def find() -> Path:
        (digest,) = store.catalog.read_packs().values()
        return locate_pack(store.packs_directory, PackDigest(digest))

    return find


@pytest.fixture
def rows() -> np.ndarray:
    """300 different rows of 1000 bytes that shrink when encoded: about five blocks of a compressed pack."""
    made = np.random.default_rng(3).integers(0, 256, (300, 1000)).astype(np.uint8)
    made[:, 200:] = 0
    return made
