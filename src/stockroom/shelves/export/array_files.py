"""Exports to numpy's files: one array in an `.npy`, or several in an `.npz`."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import numpy as np
from numpy.lib import format as npy_format

from stockroom.shelves.export.export_record import RECORD_NAME, choose_free_name
from stockroom.shelves.export.file_names import name_file
from stockroom.shelves.export.samples import Samples, as_plain, plain_dtype

_MAX_TEXT_NBYTES: Final = 256 << 20


def write_npy(samples: Samples, path: Path) -> None:
    """Write all samples as one array `(n, *shape)`."""
    if not samples.is_one_array:
        raise samples.refuse("one array", "give a name that ends in .npz, .parquet, .zarr or .tar, or a folder")
    with path.open("xb") as file:
        _write_stacked(file, samples)
        file.flush()
        os.fsync(file.fileno())
    samples.leave_out_attrs("an .npy")
    if not samples.is_numbered:
        samples.leave_out("the keys", "an .npy cannot hold them; .npz, .parquet and .zarr can")


def write_npz(samples: Samples, path: Path) -> None:
    """Write all samples as one array under the column's name, and `keys` unless they are 0, 1, 2 and so on.

    Arrays of varying shapes, and bytes, are written as one array for each sample, named by its key. The comment of the
    archive holds the record of the export, which importers read and numpy does not.
    """
    with zipfile.ZipFile(path, "x", allowZip64=True) as archive:
        is_one = samples.is_one_array or samples.stored.dtype == "str"
        where = (_write_one_array if is_one else _write_each)(archive, samples)
        archive.comment = msgspec.json.encode({RECORD_NAME: samples.make_record(**where)})
    samples.leave_out_attrs("an .npz")


def _write_one_array(archive: zipfile.ZipFile, samples: Samples) -> dict[str, str | None]:
    """Write the array of all samples, and the keys; return the names of the arrays."""
    name = samples.name
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        (_write_stacked if samples.is_one_array else _write_text)(member, samples)
    taken = {name, f"{name}.npy", name.removesuffix(".npy")}  # numpy finds an array by both
    return {"array": name, "keys": _write_keys(archive, samples, taken)}


def _write_each(archive: zipfile.ZipFile, samples: Samples) -> dict[str, str | None]:
    """Write an array for each sample, and the keys if they are not in the names; return the name of the keys' array."""
    names: set[str] = set()
    for key, sample in samples.iter_samples():
        array = np.frombuffer(sample, np.uint8) if isinstance(sample, bytes) else sample
        name = name_file(key, keeps_dots=False)
        names.add(name)
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            plain = as_plain(np.ascontiguousarray(array).reshape(array.shape))
            npy_format.write_array(member, plain, allow_pickle=False)
    return {"keys": _write_keys(archive, samples, names)}


def _write_keys(archive: zipfile.ZipFile, samples: Samples, taken: Collection[str]) -> str | None:
    """Write the keys unless they are 0, 1, 2 and so on; return the name of their array, which is not in `taken`."""
    if samples.is_numbered:
        return None
    keys = samples.column.stored_keys_at(samples.positions)
    name = choose_free_name("keys", taken)
    if samples.column.key_type == "int":
        values = np.array(keys, np.int64)
    else:
        texts = [str(key) for key in keys]
        if any(text.endswith("\x00") for text in texts) or _measure_text(texts) > _MAX_TEXT_NBYTES:
            long = max(texts, key=lambda text: (text.endswith("\x00"), len(text)))
            raise samples.refuse_key(long, "an .npz", "export to .parquet")
        values = np.array(texts, f"U{max([1, *map(len, texts)])}")
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        npy_format.write_array(member, values, allow_pickle=False)
    return name


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
    texts: list[str] = []
    for _, text in samples.iter_samples():
        texts.append(text)
        longest = max(longest, len(text))
        if text.endswith("\x00") or longest * len(samples) * 4 > _MAX_TEXT_NBYTES:
            raise samples.refuse("an .npz", "long text, or text that ends in NUL, needs .parquet, .tar or a folder")
    npy_format.write_array(file, np.array(texts, f"U{max(1, longest)}"), allow_pickle=False)


def _measure_text(texts: Sequence[str]) -> int:
    """Return the bytes of a numpy array of texts, which all take as much as the longest."""
    return max(map(len, texts), default=0) * len(texts) * 4
