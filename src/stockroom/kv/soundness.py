"""Checks an LMDB file without opening it in LMDB, which trusts the bytes that it maps.

Wrong bytes in a meta page would make LMDB read outside the file, and the system would end the process. Meta pages are
checked at every opening: the magic, where the trees begin, and how far they reach. Other pages are checked only by
`list_damage`, which reads the whole file.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from stockroom.errors import CorruptionError, ReadOnlyError
from stockroom.locks import FileLock

WRITE_LOCK_NAME: Final = "write.lock"
WRITE_PATIENCE_S: Final = 60.0
"""A transaction takes milliseconds, or seconds where gc or a repair deletes many things."""
_MAGIC: Final = 0xBEEFC0DE
_VERSION: Final = 1
_PAGE: Final = struct.Struct("=QHHI")
_META: Final = struct.Struct("=IIQQ" + 2 * "IHHQQQQQ" + "QQ")
_META_PAGE_FLAG: Final = 0x08
_KEPT_FLAGS: Final = 0x08
"""The flags of an environment that LMDB writes into a meta page: integer keys, for its list of free pages. Any other
one would change how the file is mapped."""
_NO_PAGE: Final = (1 << 64) - 1
_MAX_DEPTH: Final = 32
_PAGE_SIZES: Final = frozenset(1 << shift for shift in range(8, 17))
_HEAD_NBYTES: Final = 2 << 12
"""Two pages of the usual size; they may have up to 64 KiB."""
_MAX_HEAD_NBYTES: Final = 2 << 16
_LOOKS: Final = 3
_PAUSE_S: Final = 0.01


def list_damage(path: Path) -> list[str]:
    """Return the damage to the structure of the environment at `path`; empty if it is sound.

    Reads the whole file, and holds for that moment only: keep writers out. Needs py-lmdb 3; an older one finds nothing.
    """
    try:
        from lmdb import verify as verifier
    except ImportError:
        return []
    verify: Callable[[str], list[str]] = vars(verifier)["verify"]  # it carries no types
    try:
        return verify(str(path))
    except verifier.VerifyError as error:
        return [str(error)]


def check_structure(path: Path) -> None:
    """Raise `CorruptionError` if the structure of the environment at `path` is damaged. Reads the whole file.

    Raises `LockedError` if another process writes there all the time.
    """
    data = path / "data.mdb"
    if not data.exists():
        return
    with ExitStack() as stack:
        with suppress(ReadOnlyError):  # then no writer of this user is kept out
            lock = stack.enter_context(FileLock(path / WRITE_LOCK_NAME))
            lock.take(WRITE_PATIENCE_S, busy=f"{path}: another process is writing there")
        damage = list_damage(path)
    if damage:
        more = f", and {len(damage) - 1} more problems" if len(damage) > 1 else ""
        message = f"{data}: expected a sound LMDB file, found it damaged: {damage[0]}{more}"
        raise CorruptionError(message, where=str(data))


@dataclass(frozen=True, slots=True)
class _Meta:
    """One of a file's two meta pages: which says where the trees of free pages and of databases begin."""

    page_nbytes: int
    flags: tuple[int, int]
    depths: tuple[int, int]
    roots: tuple[int, int]
    last_page: int
    transaction: int

    @classmethod
    def parse(cls, page: bytes) -> Self | None:
        """Return the meta in a page, or None if it is none."""
        if len(page) < _PAGE.size + _META.size:
            return None
        magic, version, _, _, *rest = _META.unpack_from(page, _PAGE.size)
        if not _PAGE.unpack_from(page)[2] & _META_PAGE_FLAG or magic != _MAGIC or version != _VERSION:
            return None
        free, main, (last_page, transaction) = rest[:8], rest[8:16], rest[16:]
        return cls(free[0], (free[1], main[1]), (free[2], main[2]), (free[7], main[7]), last_page, transaction)

    @property
    def is_empty(self) -> bool:
        """Whether no transaction has written anything yet."""
        return self.roots == (_NO_PAGE, _NO_PAGE) and self.last_page <= 1

    def find_fault(self) -> str | None:
        """Return the defect that would take LMDB out of the file, or None."""
        if self.page_nbytes not in _PAGE_SIZES:
            return f"a page size of {self.page_nbytes} bytes"
        if self.flags[0] & ~_KEPT_FLAGS or self.flags[1]:
            return f"the flags {self.flags[0]:#x} and {self.flags[1]:#x}"
        for root, depth in zip(self.roots, self.depths, strict=True):
            if root != _NO_PAGE and not 2 <= root <= self.last_page:
                return f"a tree that begins at page {root} of {self.last_page}"
            if depth > _MAX_DEPTH or (depth == 0) != (root == _NO_PAGE):
                return f"a tree of {depth} levels"
        return None


def check_file(path: Path, *, readonly: bool) -> None:
    """Raise `CorruptionError` if LMDB must not map the file in the folder `path`.

    Unless `readonly`, a sound file that ends before its last page, which is a free one, is extended.
    """
    data = path / "data.mdb"
    for look in range(_LOOKS):  # a page that is just being written may look wrong
        fault = _find_fault(data, readonly=readonly)
        if fault is None:
            return
        if look + 1 < _LOOKS:
            time.sleep(_PAUSE_S)
    raise CorruptionError(f"{data}: expected a sound LMDB file, found {fault}; run `stock fsck`", where=str(data))


def _find_fault(data: Path, *, readonly: bool) -> str | None:
    try:
        with data.open("rb") as file:
            nbytes, head = os.fstat(file.fileno()).st_size, file.read(_HEAD_NBYTES)
            first = _Meta.parse(head)
            if first is None or first.page_nbytes >= _HEAD_NBYTES:
                head += file.read(_MAX_HEAD_NBYTES - len(head))
    except FileNotFoundError:
        return None
    if nbytes == 0:
        return None
    metas = _read_metas(head)
    newest = max((meta for meta in metas if meta is not None), key=lambda meta: meta.transaction, default=None)
    if newest is None:
        return None  # LMDB names the defect
    return newest.find_fault() or _check_length(data, nbytes, newest, readonly=readonly)


def _read_metas(head: bytes) -> list[_Meta | None]:
    first = _Meta.parse(head)
    sizes = [first.page_nbytes] if first is not None and first.page_nbytes in _PAGE_SIZES else sorted(_PAGE_SIZES)
    second = next((meta for nbytes in sizes if (meta := _Meta.parse(head[nbytes:])) is not None), None)
    return [first, second]


def is_unwritten(data: Path) -> bool:
    """Return whether the file is missing, or a power cut kept even the two first pages of it from the disk."""
    try:
        nbytes = data.stat().st_size
        if nbytes > 2 * os.sysconf("SC_PAGE_SIZE"):
            return False
        head = data.read_bytes() if nbytes else b""
    except FileNotFoundError:
        return True
    first, second = _read_metas(head)
    if first is None:
        return not head.strip(b"\0")
    return second is None and first.is_empty and not head[first.page_nbytes :].strip(b"\0")


def _check_length(data: Path, nbytes: int, meta: _Meta, *, readonly: bool) -> str | None:
    """Return a fault if the file was truncated: reading past its end would kill the process (SIGBUS).

    A sound file can end early too, if its last pages were allocated and freed within one transaction. Its structure
    tells the two apart; a sound file is then extended to its stated length.
    """
    end = (meta.last_page + 1) * meta.page_nbytes
    if nbytes >= end:
        return None
    if list_damage(data.parent):
        return f"{nbytes} of {end} bytes: it was cut off"
    if not readonly:
        _extend(data, end)
    return None


def _extend(data: Path, nbytes: int) -> None:
    """Extend the file to at least `nbytes`; never shorten it, so another process may write at the same time."""
    if not hasattr(os, "posix_fallocate"):
        return
    fd = os.open(data, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_fallocate(fd, nbytes - 1, 1)
    finally:
        os.close(fd)
