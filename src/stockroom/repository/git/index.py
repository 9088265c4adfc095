"""Whether git tracks a file, read from git's index.

The format is git's own (gitformat-index): a header, entries in order of their names, extensions, a checksum.

    offset  size  type    field
    0       4     bytes   magic "DIRC"
    4       4     u32 BE  version: 2, 3 or 4
    8       4     u32 BE  number of entries

Each entry is 40 bytes of `stat` data, a digest of 20 or 32 bytes, flags, the name. In version 4 a name gives how many
bytes to drop from the end of the previous name, then the rest.
"""

from __future__ import annotations

import functools
import os
import re
import struct
from pathlib import Path
from typing import Final

from stockroom.files import find_regular
from stockroom.repository.git.work_tree import GitWorkTree

_HEADER: Final = struct.Struct(">4sII")
_MAX_NBYTES: Final = 1 << 30
_MAX_CONFIG_NBYTES: Final = 1 << 20
_STAT_NBYTES: Final = 40
_EXTENDED: Final = 0x4000
_NAME_MASK: Final = 0xFFF
_MAX_PATH_NBYTES: Final = 1 << 16
_SHA256: Final = re.compile(rb"^[ \t]*objectformat[ \t]*=[ \t]*sha256\b", re.IGNORECASE | re.MULTILINE)


def is_tracked(work_tree: GitWorkTree, path: str) -> bool | None:
    """Return whether a path, with slashes from the work tree's top, is in the index; None if only git can tell."""
    index = work_tree.git_dir / "index"
    try:
        found = index.stat()
    except OSError:
        return False
    return _search_file(index, (found.st_mtime_ns, found.st_ino, found.st_size), work_tree.common_dir, path)


@functools.lru_cache(64)
def _search_file(index: Path, stamp: tuple[int, ...], common_dir: Path, path: str) -> bool | None:  # noqa: ARG001
    content = find_regular(index, max_nbytes=_MAX_NBYTES)
    if content is None:
        return None
    config = find_regular(common_dir / "config", max_nbytes=_MAX_CONFIG_NBYTES) or b""
    return search_index(content, os.fsencode(path), digest_nbytes=32 if _SHA256.search(config) else 20)


def search_index(content: bytes, name: bytes, *, digest_nbytes: int) -> bool | None:
    """Return whether a name is in the index `content`; None if it is split or malformed."""
    if len(content) < _HEADER.size:
        return None
    magic, version, count = _HEADER.unpack_from(content)
    if magic != b"DIRC" or version not in (2, 3, 4):
        return None
    scan = _scan_prefixed if version == 4 else _scan_padded
    try:
        end = scan(content, count, name, _STAT_NBYTES + digest_nbytes)
        return True if end is None else _check_rest(content, end, digest_nbytes)
    except (IndexError, ValueError, struct.error):
        return None


def _scan_padded(content: bytes, count: int, name: bytes, flags_at: int) -> int | None:
    """Return the end of the entries, each padded to a multiple of 8 bytes; None if `name` is among them."""
    at = _HEADER.size
    for _ in range(count):
        flags = (content[at + flags_at] << 8) | content[at + flags_at + 1]
        start = at + flags_at + (4 if flags & _EXTENDED else 2)
        nbytes = flags & _NAME_MASK
        end = start + nbytes if nbytes < _NAME_MASK else content.index(0, start + _NAME_MASK)
        if content[start:end] == name:
            return None
        at += (end - at + 8) & ~7
    return at


def _scan_prefixed(content: bytes, count: int, name: bytes, flags_at: int) -> int | None:
    """Do as `_scan_padded`, for names that share a prefix with the previous one."""
    at, found = _HEADER.size, b""
    for _ in range(count):
        flags = (content[at + flags_at] << 8) | content[at + flags_at + 1]
        at += flags_at + (4 if flags & _EXTENDED else 2)
        dropped, at = _read_varint(content, at)
        end = content.index(0, at)
        if dropped > len(found) or end - at > _MAX_PATH_NBYTES:
            raise ValueError("not a name that git would write")
        found = (found[: len(found) - dropped] + content[at:end])[:_MAX_PATH_NBYTES]
        if found == name:
            return None
        at = end + 1
    return at


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    """Return a number in git's own encoding of lengths, and where it ends."""
    value = content[at] & 0x7F
    while content[at] & 0x80:
        at += 1
        value = ((value + 1) << 7) | (content[at] & 0x7F)
        if value > _MAX_PATH_NBYTES:
            raise ValueError("not a length that git would write")
    return value, at + 1


def _check_rest(content: bytes, at: int, digest_nbytes: int) -> bool | None:
    """Return False if the rest is sound and refers to no other index that might have the name, otherwise None."""
    while at < len(content) - digest_nbytes:
        signature = content[at : at + 4]
        (nbytes,) = struct.unpack_from(">I", content, at + 4)
        if signature == b"link":
            return None
        at += 8 + nbytes
    return False if at == len(content) - digest_nbytes else None
