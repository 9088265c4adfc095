"""Packs are Zarr arrays: three readers that know nothing of Stockroom give back every row of every kind of pack."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr

import stockroom.store.zarr_dtypes  # noqa: F401 - registers the data types that zarr-python lacks
from stockroom.store.chunk_run import Stream
from stockroom.store.dtypes import EXTENSION_NAMES, STORAGE_NAMES, format_storage, parse_dtype
from stockroom.store.pack.layout import BLOCK_TARGET_NBYTES, locate_pack
from stockroom.store.pack.manifest import Manifest
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter

DTYPES = (*sorted(STORAGE_NAMES), "float8_e4m3", "datetime64[ns]", "datetime64[D]", "timedelta64[s]")
CODECS = ("raw", "lz4", "zstd", "blosc", "auto")
ITEM_SHAPE = (5, 70)

ZARRS_REFUSES = {"float8_e4m3fn": "data type float8_e4m3fn is not supported"}
"""What zarrs has no implementation of. It says so in a warning and leaves the array to zarr-python."""


@dataclass(frozen=True)
class PackCase:
    """One pack, and the raw bytes that were put in."""

    name: str
    directory: Path
    manifest: Manifest
    rows: list[bytes]

    def list_damage(self, read: np.ndarray) -> str | None:
        """How an array read from the pack differs from what was put in."""
        stored = parse_dtype(self.manifest.layout.dtype)
        if read.dtype != stored:
            return f"dtype {read.dtype}, expected {stored}"
        raw = np.ascontiguousarray(read).reshape(-1).view(np.uint8)
        for row, expected in enumerate(self.rows):
            if self._cut_row(raw, row) != expected:
                return f"row {row} differs"
        return None

    def _cut_row(self, raw: np.ndarray, row: int) -> bytes:
        offsets, lengths = self.manifest.offsets, self.manifest.lengths
        start, nbytes = row * len(self.rows[row]), len(self.rows[row])
        if offsets is not None and lengths is not None:
            start, nbytes = int(offsets[row]), int(lengths[row])
        return raw[start : start + nbytes].tobytes()


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[PackCase]]:
    """A pack of every dtype and layout, by codec."""
    store = TensorStore(tmp_path_factory.mktemp("packs"))
    writer = TensorWriter(store)
    rng = np.random.default_rng(7)
    contents = {
        (dtype, codec, layout): _put_rows(writer, rng, dtype, codec, ITEM_SHAPE if layout == "uniform" else None)
        for dtype in DTYPES
        for codec in CODECS
        for layout in ("uniform", "ragged")
    }
    writer.close()
    made: dict[str, list[PackCase]] = {codec: [] for codec in CODECS}
    for (dtype, codec, layout), (digests, rows) in contents.items():
        numbers = np.unique(store.locate(np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)) >> np.uint64(32))
        assert len(numbers) == 1
        pack = store.cache.get(int(numbers[0]))
        case = PackCase(f"{dtype} {layout}", locate_pack(store.packs_directory, pack.digest), pack.manifest, rows)
        made[codec].append(case)
    store.close()
    return made


def _put_rows(
    writer: TensorWriter, rng: np.random.Generator, dtype: str, codec: str, item_shape: tuple[int, ...] | None
) -> tuple[list[bytes], list[bytes]]:
    """Put some rows, a few blocks of them, into a pack of their own; returns digests and rows."""
    itemsize = parse_dtype(dtype).itemsize
    lengths = [350] * (3 * BLOCK_TARGET_NBYTES // (350 * itemsize))
    if item_shape is None:
        lengths = [33, 70_000 // itemsize, 64, *rng.integers(33, 400, 40).tolist()]
    top = 2 if dtype == "bool" else 256
    rows = [rng.integers(0, top, length * itemsize).astype(np.uint8) for length in lengths]
    for row in rows[1::2]:
        row[: len(row) // 2] = 1  # so that codecs have something to find
    if dtype == "bool":  # too few values for rows to be all different by chance
        for row in rows:
            row[-32:] = np.unpackbits(np.frombuffer(rng.bytes(4), np.uint8))
    stream = Stream(format_storage(dtype), item_shape, codec)
    raw = [row.tobytes() for row in rows]
    digests = [writer.put_row(row, stream) for row in raw]
    writer.flush()
    return list(digests), raw


def _read_with_zarr(directory: Path) -> np.ndarray:
    return np.asarray(zarr.open_array(str(directory), mode="r")[...])


def _read_with_zarrs(directory: Path) -> np.ndarray:
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        return _read_with_zarr(directory)


def _read_with_tensorstore(directory: Path) -> np.ndarray:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(directory)}}
    return np.asarray(tensorstore.open(spec, read=True).result().read().result())


READERS = {"zarr": _read_with_zarr, "zarrs": _read_with_zarrs, "tensorstore": _read_with_tensorstore}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("reader", READERS)
def test_every_dtype_and_layout_reads_back_bit_for_bit(cases, reader, codec):
    damage = {case.name: _try_case(READERS[reader], reader, case) for case in cases[codec]}
    assert {name: what for name, what in damage.items() if what is not None} == {}
    assert len(damage) == 2 * len(DTYPES)


def _try_case(read: Callable[[Path], np.ndarray], reader: str, case: PackCase) -> str | None:
    expected = ZARRS_REFUSES.get(case.manifest.layout.dtype) if reader == "zarrs" else None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            damage = case.list_damage(read(case.directory))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    said = [str(warning.message) for warning in caught]
    if expected is None:
        return damage or (f"warned: {said}" if said else None)
    return damage or (None if any(expected in text for text in said) else f"no longer refused: {said}")


@pytest.mark.parametrize("reader", ["zarr", "tensorstore"])
def test_one_row_is_read_alone(cases, reader):
    for case in cases["zstd"][::2]:
        if reader == "zarr":
            row = zarr.open_array(str(case.directory), mode="r")[3]
        else:
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(case.directory)}}
            row = tensorstore.open(spec, read=True).result()[3].read().result()
        assert np.asarray(row).tobytes() == case.rows[3], case.name


def test_the_extension_types_are_published_to_zarr_by_their_names():
    from importlib.metadata import entry_points

    from zarr.dtype import data_type_registry

    published = {entry.load()._zarr_v3_name for entry in entry_points(group="zarr.data_type")}
    assert set(EXTENSION_NAMES) <= published
    for name in EXTENSION_NAMES:
        native = parse_dtype(name)
        matched = data_type_registry.match_json(name, zarr_format=3)
        assert matched.to_native_dtype() == native
        assert data_type_registry.match_dtype(native).to_json(3) == name


@pytest.mark.parametrize("name", EXTENSION_NAMES)
def test_fill_values_of_extension_types_survive_json(name):
    from zarr.dtype import data_type_registry

    matched = data_type_registry.match_json(name, zarr_format=3)
    native = parse_dtype(name)
    bits = np.arange(256, dtype=np.uint8) if native.itemsize == 1 else np.array([0x3F80, 0x7F80, 0xFF80, 1], "<u2")
    for value in bits.view(native):
        again = matched.from_json_scalar(matched.to_json_scalar(value, zarr_format=3), zarr_format=3)
        assert np.array(again, native).tobytes() == np.array(value, native).tobytes()
