"""Exports one file for each sample: to a folder, or to a tar archive for webdataset.

Images are PNG files, or the stored files; other arrays are `.npy`, text `.txt`, bytes `.bin`. In an archive, an integer
is `.cls`.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from stockroom.errors import InvalidInputError
from stockroom.shelves.export.export_record import RECORD_NAME
from stockroom.shelves.export.file_names import is_cut, name_file
from stockroom.shelves.export.samples import Samples, as_plain
from stockroom.shelves.png import encode_png, is_image

RECORD_HEADER: Final = "STOCKROOM.column"
"""The extended header of an archive that holds the record of the export."""

KEY_HEADER: Final = "STOCKROOM.key"
"""The extended header of a member that holds its key, as JSON, if its name does not."""

_SUFFIXES: Final = ((b"\x89PNG\r\n\x1a\n", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"BM", ".bmp"))


def write_folder(samples: Samples, folder: Path) -> None:
    """Write each sample to a file named by its key, with an ending unless the key has it."""
    folder.mkdir()
    cut = 0
    for key, sample in samples.iter_samples():
        data, suffix = encode_sample(sample, is_file=samples.column.decoder is not None)
        name = name_file(key)
        cut += is_cut(name)
        target = folder / (name if name.lower().endswith(suffix) else name + suffix)
        if target.exists():  # for a key such as 3 after one such as 3.png
            target = folder / f"{name}{suffix}{suffix}"
        try:
            with target.open("xb") as file:
                file.write(data)
        except FileExistsError as error:
            raise InvalidInputError(f"two keys would share the file {target.name}; export one of them alone") from error
    samples.leave_out_attrs("a folder")
    if cut:
        samples.leave_out(f"the ends of {cut} long keys", "names of files cannot hold them; .npz and .parquet can")


def write_tar(samples: Samples, path: Path) -> None:
    """Write each sample to a member named by its key, in order; headers hold the record, and keys unfit for names."""
    record = json.dumps({RECORD_NAME: msgspec.to_builtins(samples.make_record())})
    headers = {RECORD_HEADER: record} if len(samples) else {}  # tarfile cannot read a header before no member
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers=headers) as archive:
        for key, sample in samples.iter_samples():
            data, suffix = encode_sample(sample, is_file=samples.column.decoder is not None, in_archive=True)
            name = name_file(key, keeps_dots=False)
            member = tarfile.TarInfo(name + suffix)
            member.pax_headers = {KEY_HEADER: json.dumps(key)} if is_cut(name) else {}
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    samples.leave_out_attrs("a .tar")
    if not headers:
        samples.leave_out("the schema", "a .tar without samples cannot hold it; .npz, .parquet and .zarr can")


def encode_sample(sample: Any, *, is_file: bool, in_archive: bool = False) -> tuple[bytes, str]:
    """Return the content of a file for a sample, and the ending of its name."""
    if isinstance(sample, str):
        return sample.encode("utf-8", "surrogatepass"), ".txt"
    if isinstance(sample, bytes):
        return sample, _choose_suffix(sample) if is_file else ".bin"
    if in_archive and sample.ndim == 0 and sample.dtype.kind in "iu":
        return str(int(sample)).encode(), ".cls"
    if is_image(sample):
        return encode_png(sample), ".png"
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, as_plain(np.ascontiguousarray(sample).reshape(sample.shape)), allow_pickle=False)
    return buffer.getvalue(), ".npy"


def _choose_suffix(data: bytes) -> str:
    """Return the ending for a file with these bytes: `.png`, `.jpg`, ... or `.bin` if they are not an image."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for magic, suffix in _SUFFIXES if data.startswith(magic)), ".bin")
