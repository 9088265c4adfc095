"""Exports to numpy's files: one array in an `.npy`, or several in an `.npz`."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy_format

from stockroom.shelves.export.file_names import name_file
from stockroom.shelves.export.samples import Array, Samples, as_plain, plain_dtype

_MAX_TEXT_NBYTES: Final = 256 << 20


def write_npy(samples: Samples, path: Path) -> None:
    """Write all samples as one array `(n, *shape)`."""
    if not samples.is_one_array:
        raise samples.refuse("one array", "give a name that ends in .npz, .parquet, .zarr or .tar, or a folder")
    with path.open("xb") as file:
        _write_stacked(file, samples)
        file.flush()
        os.fsync(file.fileno())


def write_npz(samples: Samples, path: Path) -> None:
    """Write all samples as one array under the column's name, and `keys` unless they are 0, 1, 2 and so on.

    Arrays of varying shapes, and bytes, are written as one array for each sample, named by its key.
    """
    with zipfile.ZipFile(path, "x", allowZip64=True) as archive:
        if samples.is_one_array or samples.stored.dtype == "str":
            with archive.open(f"{samples.name}.npy", "w", force_zip64=True) as member:
                (_write_stacked if samples.is_one_array else _write_text)(member, samples)
            if not samples.is_numbered:
                with archive.open("keys.npy", "w", force_zip64=True) as member:
                    npy_format.write_array(member, _list_keys(samples), allow_pickle=False)
            return
        for key, sample in samples.iter_samples():
            array = np.frombuffer(sample, np.uint8) if isinstance(sample, bytes) else sample
            with archive.open(f"{name_file(key)}.npy", "w", force_zip64=True) as member:
                npy_format.write_array(member, as_plain(np.ascontiguousarray(array)), allow_pickle=False)


def _write_stacked(file: IO[bytes], samples: Samples) -> None:
    column = samples.stored
    dtype: Any = column.dtype
    header = {
        "descr": npy_format.dtype_to_descr(plain_dtype(dtype)),
        "fortran_order": False,
        "shape": (len(samples), *column.shape),
    }
    npy_format.write_array_header_1_0(file, header)
    for _, batch in samples.iter_batches():
        file.write(np.ascontiguousarray(batch).data if batch.size and batch.dtype.isbuiltin == 1 else batch.tobytes())


def _write_text(file: IO[bytes], samples: Samples) -> None:
    """Write text as a numpy array of strings, all as long as the longest."""
    longest = 0
    for _, text in samples.iter_samples():
        longest = max(longest, len(text))
        if text.endswith("\x00") or longest * len(samples) * 4 > _MAX_TEXT_NBYTES:
            raise samples.refuse("an .npz", "long text, or text that ends in NUL, needs .parquet, .tar or a folder")
    texts = np.array([text for _, text in samples.iter_samples()], f"U{max(1, longest)}")
    npy_format.write_array(file, texts, allow_pickle=False)


def _list_keys(samples: Samples) -> Array:
    keys = samples.column.stored_keys_at(samples.positions)
    return np.array(keys, np.int64 if samples.column.key_type == "int" else "U")
