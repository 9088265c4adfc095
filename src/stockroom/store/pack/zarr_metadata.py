"""A pack's `zarr.json`: the document that the zarr library would write, written without loading that library.

Importing zarr takes longer than a small commit. A test checks that this document equals zarr's own for every dtype,
codec and layout.
"""

from __future__ import annotations

import json
from typing import Any

from stockroom.store.codecs import format_zarr_codec
from stockroom.store.pack.layout import PackLayout

METADATA_NAME = "zarr.json"


def encode_zarr_metadata(layout: PackLayout, units: int) -> bytes:
    """Encode the `zarr.json` of a pack of `units` rows (elements if ragged): canonical JSON, keys sorted, no spaces."""
    return json.dumps(_build_document(layout, units), sort_keys=True, separators=(",", ":")).encode()


def _build_document(layout: PackLayout, units: int) -> dict[str, Any]:
    item_shape = layout.item_shape or ()
    shard_units = layout.count_blocks(units) * layout.block_units
    sharding = {
        "chunk_shape": [layout.block_units, *item_shape],
        "codecs": [_format_bytes_codec(layout.itemsize), *format_zarr_codec(layout.codec, layout.itemsize)],
        "index_codecs": [_format_bytes_codec(8), {"name": "crc32c"}],
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [units, *item_shape],
        "data_type": layout.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [shard_units, *item_shape]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "fill_value": _choose_fill_value(layout.dtype),
        "attributes": {},
        "storage_transformers": [],
    }


def _format_bytes_codec(itemsize: int) -> dict[str, Any]:
    """Return Zarr's `bytes` codec; it names a byte order only for items of several bytes."""
    return {"name": "bytes"} if itemsize == 1 else {"name": "bytes", "configuration": {"endian": "little"}}


def _choose_fill_value(dtype: str) -> Any:
    if dtype == "bool":
        return False
    if dtype.startswith("complex"):
        return [0.0, 0.0]
    if dtype.startswith("float8"):
        return "0x7f" if dtype == "float8_e8m0fnu" else "0x00"  # as bits; e8m0 has no zero, so its 1
    return 0.0 if "float" in dtype else 0
