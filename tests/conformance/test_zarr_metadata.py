"""`zarr.json` is written without the zarr library; this holds it to what that library writes itself."""

import json

import pytest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata.v3 import ArrayV3Metadata

import stockroom.store.zarr_dtypes  # noqa: F401 - registers the data types that zarr lacks
from stockroom.store.codecs import Codec
from stockroom.store.dtypes import STORAGE_NAMES
from stockroom.store.pack.layout import plan_layout
from stockroom.store.pack.zarr_metadata import METADATA_NAME, encode_zarr_metadata


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("dtype", sorted(STORAGE_NAMES))
def test_our_metadata_is_the_document_zarr_would_write(dtype, codec):
    for item_shape, units in [(None, 1000), ((3, 4), 1), ((7,), 100_000)]:
        layout = plan_layout(dtype, item_shape, codec)
        if codec is Codec.RAW:
            layout = layout.fit_raw_blocks(units)
        ours = json.loads(encode_zarr_metadata(layout, units))
        written = ArrayV3Metadata.from_dict(json.loads(json.dumps(ours))).to_buffer_dict(default_buffer_prototype())
        assert json.loads(written[METADATA_NAME].to_bytes()) == ours
