"""Exports columns to files that other programs can read: chooses the writer, and makes the files appear complete."""

from __future__ import annotations

import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stockroom.errors import InvalidInputError
from stockroom.files import sync_path
from stockroom.shelves.export.array_files import write_npy, write_npz
from stockroom.shelves.export.folders import publish_folder
from stockroom.shelves.export.parquet_file import write_parquet
from stockroom.shelves.export.samples import Samples
from stockroom.shelves.export.single_files import write_folder, write_tar
from stockroom.shelves.export.zarr_folder import write_zarr

Writer = Callable[[Samples, Path], None]

FILE_WRITERS: Final[dict[str, Writer]] = {
    ".npy": write_npy,
    ".npz": write_npz,
    ".parquet": write_parquet,
    ".tar": write_tar,
}
"""Maps the ending of a file name to its writer."""


ENDINGS: Final = ".npy, .npz, .parquet, .zarr or .tar"


def write_samples(samples: Samples, path: Path, on_left_out: Callable[[str], object] | None = None) -> int:
    """Write samples to `path`, as `Column.export` describes, and return how many."""
    writer = FILE_WRITERS.get(path.suffix.lower())
    if writer is None:
        writer = write_zarr if path.suffix.lower() == ".zarr" else write_folder
    with _whole(path) as part:
        writer(samples, part)
    for line in samples.left_out:
        if on_left_out is None:
            warnings.warn(line, stacklevel=3)
        else:
            on_left_out(line)
    return len(samples)


def check_ending(target: str | Path) -> None:
    """Raise `InvalidInputError` if a target has an ending that is no format's: it is a folder only if it says so."""
    path, text = Path(target), str(target)
    known = {*FILE_WRITERS, ".zarr", "", "."}
    if path.suffix.lower() in known or text.endswith(("/", os.sep)) or path.is_dir():
        return
    raise InvalidInputError(
        f"expected a file ending in {ENDINGS}, or a folder, found {text}; for a folder of that name, write {text}/"
    )


def check_target(target: str | Path, root: Path, *, force: bool) -> Path:
    """Return the path of a target; `root` is the repository's folder.

    Raises `InvalidInputError` if it must not be written or replaced.
    """
    check_ending(target)
    path = Path(target)
    is_there = path.is_symlink() or path.exists()
    if is_there and not force and not (path.is_dir() and not any(path.iterdir())):
        what = "the files that an earlier export made in it" if path.is_dir() else "it"
        raise InvalidInputError(f"{path} already exists; choose another name, or replace {what} (--force)")
    if is_there and path.is_dir() and path.suffix.lower() in FILE_WRITERS:
        raise InvalidInputError(f"expected a file path, found the folder {path}; add a file name")
    root, found = root.resolve(), path.resolve()
    if is_there and path.is_dir() and any(found in (folder, *folder.parents) for folder in (root, Path.cwd())):
        raise InvalidInputError(f"{path} contains the repository or the working directory; choose another folder")
    if root / ".stockroom" in (found, *found.parents):
        raise InvalidInputError(f"{path} is inside the repository's own folder; choose another folder")
    if not path.parent.is_dir():
        raise InvalidInputError(f"{path}: the folder {path.parent} does not exist; create it first")
    return path


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Yield a path to write to; moves it to `path`, replacing an old target, if the block succeeds.

    In a folder, only files that an earlier export made are replaced.
    """
    part = path.with_name(f".stockroom-{secrets.token_hex(8)}.part")
    try:
        yield part
        if part.is_dir():
            if path.is_symlink() or path.is_file():
                path.unlink()
            publish_folder(part, path)
        else:
            sync_path(part)
            part.replace(path)
    except BaseException:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)
        raise
