"""BYTES: chunks in packs, found by digest. Knows no names and no history.

A tensor's raw bytes are cut into chunks (`chunking`), kept under their BLAKE3 digest as rows of packs
(`pack_writer`, `pack`), and found again through location tables (`location_index`). `TensorStore` reads,
`TensorWriter` writes. Each is loaded when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockroom.lazy_names import load_lazily

if TYPE_CHECKING:
    from stockroom.store.fetcher import Fetcher, NoFetcher, Wanted
    from stockroom.store.tensor_store import TensorStore
    from stockroom.store.tensor_writer import TensorWriter

__all__ = ["Fetcher", "NoFetcher", "TensorStore", "TensorWriter", "Wanted"]

__getattr__ = load_lazily(
    __name__,
    {
        "Fetcher": "stockroom.store.fetcher",
        "NoFetcher": "stockroom.store.fetcher",
        "TensorStore": "stockroom.store.tensor_store",
        "TensorWriter": "stockroom.store.tensor_writer",
        "Wanted": "stockroom.store.fetcher",
    },
)
