"""A pack's folder: opens its files through one handle, and tells them from others that take their place.

It knows names and identities of files, not their content.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import CorruptionError
from stockroom.file_map import map_shared
from stockroom.files import FileIdentity, identify, refuse_unreadable
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


def open_folder(directory: Path) -> int:
    """Open a pack's folder; the caller closes it.

    Raises:
        CorruptionError: there is none.
        UnreadableError: it cannot be opened now.
    """
    try:
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        refuse_unreadable(error, directory)
        raise CorruptionError(f"{directory}: pack is missing; run `stock fsck`", where=str(directory)) from error


def open_file(folder: int, name: str, directory: Path) -> tuple[int, os.stat_result]:
    """Open a file of the folder open as `folder`, and return its status too; raises as `open_folder` does."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        path = directory / name
        refuse_unreadable(error, path)
        raise CorruptionError(f"{path}: cannot be read ({error}); run `stock fsck`", where=str(path)) from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        path = directory / name
        raise CorruptionError(f"{path}: expected a file, found something else; run `stock fsck`", where=str(path))
    return fd, status


def map_file(folder: int, name: str, directory: Path) -> tuple[NDArray[np.uint8], FileIdentity]:
    """Map a file of the folder open as `folder`; returns its bytes and its identity. Keeps no file open."""
    fd, status = open_file(folder, name, directory)
    try:
        if not status.st_size:
            path = directory / name
            raise CorruptionError(f"{path}: cannot be read (it is empty); run `stock fsck`", where=str(path))
        return map_shared(fd, status.st_size), identify(status)
    except OSError as error:
        refuse_unreadable(error, directory / name)
        raise
    finally:
        os.close(fd)


def read_head(folder: int, name: str, directory: Path, max_nbytes: int) -> tuple[bytes, int]:
    """Return the first `max_nbytes` of a file of the folder open as `folder`, and its size."""
    fd, status = open_file(folder, name, directory)
    try:
        return os.pread(fd, max_nbytes, 0), status.st_size
    except OSError as error:
        refuse_unreadable(error, directory / name)
        raise
    finally:
        os.close(fd)


def read_file(directory: Path, name: str) -> bytes:
    """Return the content of a small file of a pack; raises as `open_folder` does."""
    folder = open_folder(directory)
    try:
        file = ReadFile(open_file(folder, name, directory)[0], directory / name)
    finally:
        os.close(folder)
    return file[0 : file.nbytes].tobytes()


class ReadFile:
    """An open file that is read and not mapped: an unreadable part is an error, where a map would end the process.

    Slices are read-only arrays of their own. Threads may share it.
    """

    def __init__(self, fd: int, path: Path) -> None:
        self._file = os.fdopen(fd, "rb", buffering=0)
        self._path = path
        status = os.fstat(fd)
        self.nbytes = status.st_size
        self.identity = identify(status)

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        """Return these bytes.

        Raises:
            UnreadableError: some cannot be read; names the first and the last asked for.
            CorruptionError: the file is shorter than it was.
        """
        start, stop, _ = part.indices(self.nbytes)
        parts: list[bytes] = []
        while start < stop:
            try:
                content = os.pread(self._file.fileno(), stop - start, start)
            except OSError as error:
                refuse_unreadable(error, self._path, start=start, stop=stop)
                raise
            if not content:
                raise CorruptionError(
                    f"{self._path}: ends at byte {start}, before byte {stop}; run `stock fsck`", where=str(self._path)
                )
            parts.append(content)
            start += len(content)
        return np.frombuffer(parts[0] if len(parts) == 1 else b"".join(parts), np.uint8)
