"""A pack's folder: opens its files through one handle, and tells them from others that take their place.

It knows names and identities of files, not their content.
"""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import CorruptionError, StockroomError
from stockroom.files import FileIdentity, identify
from stockroom.store.pack.presence import PRESENCE_NAME


class PackFiles(NamedTuple):
    """The files of a folder that change: the shard, and the presence map if there is one."""

    shard: FileIdentity
    presence: FileIdentity | None


def find_files(folder: int, shard_name: str) -> PackFiles | None:
    """Return the identities of the files in an open folder; None if it has no shard."""
    presence = None
    with suppress(FileNotFoundError):
        presence = identify(os.stat(PRESENCE_NAME, dir_fd=folder))
    try:
        return PackFiles(identify(os.stat(shard_name, dir_fd=folder)), presence)
    except FileNotFoundError:
        return None


def refuse_exhaustion(error: Exception) -> None:
    """Raise `StockroomError` if this process ran out of a resource: no file is damaged then."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        raise StockroomError(
            f"no pack can be opened any more: {error.strerror}; let go of views (`column.view`), each of which holds "
            "its pack open, or raise the limit (ulimit -n)"
        ) from error


def open_folder(directory: Path) -> int:
    """Open a pack's folder; the caller closes it."""
    try:
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise CorruptionError(f"{directory}: pack is missing; run `stock fsck`", where=str(directory)) from error
    except OSError as error:
        refuse_exhaustion(error)
        raise CorruptionError(
            f"{directory}: cannot be opened ({error}); run `stock fsck`", where=str(directory)
        ) from error


def map_file(folder: int, name: str, directory: Path) -> tuple[NDArray[np.uint8], FileIdentity]:
    """Map a file of the folder open as `folder`; returns its bytes and its identity."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
        try:
            mapped, identity = mmap.mmap(fd, 0, access=mmap.ACCESS_READ), identify(os.fstat(fd))
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        refuse_exhaustion(error)
        path = directory / name
        raise CorruptionError(f"{path}: cannot be read ({error}); run `stock fsck`", where=str(path)) from error
    return np.frombuffer(mapped, np.uint8), identity
