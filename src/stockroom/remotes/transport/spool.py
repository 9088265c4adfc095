"""Whole files of a server that cannot send parts of one: each is streamed to disk once, and ranges are read there."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Final

_MAX_FILES: Final = 64
_MAX_NBYTES: Final = 4 << 30


@dataclass(slots=True)
class _File:
    """A file: its content once `is_whole`, in a temporary file that has no name."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    content: IO[bytes] | None = None
    nbytes: int = 0


class Spool:
    """The files used last, at most 64 and some 4 GiB of them. Threads may share it.

    `download` writes a whole file, by its path, to an open file.
    """

    def __init__(self, download: Callable[[str, IO[bytes]], None]) -> None:
        self._download = download
        self._lock = threading.Lock()
        self._files: OrderedDict[str, _File] = OrderedDict()

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Return the bytes from `start` up to `stop`, fewer at the file's end; downloads the file if need be."""
        with self._lock:
            file = self._files.setdefault(path, _File())
            self._files.move_to_end(path)
        with file.lock:
            if file.content is None:
                self._fill(path, file)
            content = file.content
        assert content is not None
        return os.pread(content.fileno(), stop - start, start)

    def _fill(self, path: str, file: _File) -> None:
        content = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with its last reader
        try:
            self._download(path, content)
            content.flush()
        except BaseException:
            content.close()
            raise
        file.content, file.nbytes = content, os.fstat(content.fileno()).st_size
        with self._lock:
            while len(self._files) > 1 and self._is_full():
                self._files.popitem(last=False)

    def _is_full(self) -> bool:
        return len(self._files) > _MAX_FILES or sum(file.nbytes for file in self._files.values()) > _MAX_NBYTES
