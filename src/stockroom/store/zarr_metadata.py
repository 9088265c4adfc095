"""A pack's `zarr.json`, made by the zarr library.

The data types zarr-python lacks are in `zarr_dtypes`, which is imported only for packs that need one.
"""

from __future__ import annotations

import importlib
import json
from functools import cache
from typing import Any

from stockroom.store.codecs import format_zarr_codec
from stockroom.store.dtypes import EXTENSION_NAMES
from stockroom.store.layout import PackLayout

METADATA_NAME = "zarr.json"


def encode_zarr_metadata(layout: PackLayout, units: int) -> bytes:
    """The `zarr.json` of a pack of `units` rows (elements if ragged): canonical JSON, sorted keys."""
    if layout.dtype in EXTENSION_NAMES:
        importlib.import_module("stockroom.store.zarr_dtypes")  # registers them; most packs never need it
    document = _build_document(layout, units)
    return json.dumps(_normalise(json.dumps(document)), sort_keys=True, separators=(",", ":")).encode()


@cache
def _normalise(document: str) -> dict[str, Any]:
    """The document as zarr itself would write it; zarr refuses what it would not read."""
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.metadata.v3 import ArrayV3Metadata

    metadata = ArrayV3Metadata.from_dict(json.loads(document))
    written = metadata.to_buffer_dict(default_buffer_prototype())[METADATA_NAME]
    parsed: dict[str, Any] = json.loads(written.to_bytes())
    return parsed


def _build_document(layout: PackLayout, units: int) -> dict[str, Any]:
    item_shape = layout.item_shape or ()
    shard_units = layout.count_blocks(units) * layout.block_units
    endian = {"name": "bytes", "configuration": {"endian": "little"}}
    sharding = {
        "chunk_shape": [layout.block_units, *item_shape],
        "codecs": [endian, *format_zarr_codec(layout.codec, layout.itemsize)],
        "index_codecs": [endian, {"name": "crc32c"}],
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
        "fill_value": _fill_value(layout.dtype),
        "attributes": {},
    }


def _fill_value(dtype: str) -> Any:
    if dtype == "bool":
        return False
    if dtype.startswith("complex"):
        return [0.0, 0.0]
    return 1.0 if dtype == "float8_e8m0fnu" else 0  # e8m0 has no zero
