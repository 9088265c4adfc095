"""Compares packs here with a remote's copies of them, before the ones here are given up.

A store's own checksum says that a copy is equal without reading it. Otherwise the present bytes are read from the
remote, once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import Buffer, PackDigest, view_bytes
from stockroom.errors import CorruptionError, UnreadableError
from stockroom.remotes.format.pack_files import LocalPack, has_all, list_pack_files
from stockroom.remotes.transport.protocol import PART_NBYTES, MissingFileError, StoredFile, Transport
from stockroom.repository.repository import Repository
from stockroom.store.pack.pack import StalePackError
from stockroom.store.upkeep.verify import check_open_pack

_AT_ONCE: Final = 8
_PIECE_NBYTES: Final = 8 << 20
_GAP_NBYTES: Final = 32 << 10
"""A gap up to this size is read through: a separate request costs about as much as this many bytes."""


def list_equal_copies(
    transport: Transport, packs: Sequence[LocalPack], on_pack: Callable[[int], None] = lambda _: None
) -> set[PackDigest]:
    """Return those of `packs` with an equal copy on the remote, as far as they are present here.

    `on_pack` is called with the number of packs compared so far.
    """
    stored = list_pack_files(transport, [pack.digest for pack in packs])
    equal: set[PackDigest] = set()
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="compare") as pool:
        for count, (pack, is_equal) in enumerate(
            zip(packs, pool.map(partial(_is_equal, transport, stored), packs), strict=True), 1
        ):
            if is_equal:
                equal.add(pack.digest)
            on_pack(count)
    return equal


def list_verified_copies(
    repository: Repository, transport: Transport, among: Collection[PackDigest] | None = None
) -> set[PackDigest]:
    """Return the packs that are whole and sound here, and equal to the remote's copies by its own checksums.

    Reads packs here (`among` None: all), and nothing from the remote except its listing.
    """
    stored = {file.path: file for file in transport.iter_files("packs/")}
    if not any(file.checksum for file in stored.values()):
        return set()
    here = [each for each in repository.tensors.catalog.read_packs().values() if among is None or each in among]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="compare") as pool:
        found = list(pool.map(partial(_is_verified, repository, stored), here))
    return {digest for digest, is_verified in zip(here, found, strict=True) if is_verified}


def _is_verified(repository: Repository, stored: Mapping[str, StoredFile], digest: PackDigest) -> bool:
    try:
        pack = LocalPack.open(repository, digest)
        if pack.pack.presence is not None or not has_all(stored, pack.sizes):
            return False
        for path, content in pack.iter_files():
            checksum = stored[path].checksum
            if checksum is None or _compute_checksum(view_bytes(content), checksum) != checksum:
                return False
        check_open_pack(pack.pack)
    except (FileNotFoundError, StalePackError, CorruptionError, UnreadableError):  # moved by gc, damaged, unreadable
        return False
    return True


def _is_equal(transport: Transport, stored: Mapping[str, StoredFile], pack: LocalPack) -> bool:
    sizes = pack.sizes
    if not has_all(stored, sizes):
        return False
    contents: tuple[Buffer, ...] = (pack.zarr_json, pack.chunks, pack.pack.mapping)
    spans = [np.array([[0, nbytes]]) for nbytes in sizes.values()]
    spans[-1] = pack.pack.list_present_spans()
    try:
        return all(
            _is_content(transport, stored[path], content, some)
            for path, content, some in zip(sizes, contents, spans, strict=True)
        )
    except MissingFileError:
        return False


def _is_content(transport: Transport, file: StoredFile, content: Buffer, spans: NDArray[np.int64]) -> bool:
    """Return whether a file holds the bytes of `content` at `spans`, `(n, 2)`."""
    view = view_bytes(content)
    is_whole = spans.tolist() == [[0, file.nbytes]]
    if is_whole and file.checksum is not None and _compute_checksum(view, file.checksum) == file.checksum:
        return True
    here = np.frombuffer(view, np.uint8)  # numpy compares faster than memoryviews do
    for run in _group(spans):
        start, stop = int(run[0, 0]), int(run[-1, 1])
        there = np.frombuffer(view_bytes(transport.get_range(file.path, start, stop)), np.uint8)
        if not all(np.array_equal(there[a - start : b - start], here[a:b]) for a, b in run.tolist()):
            return False
    return True


def _compute_checksum(view: memoryview, like: str) -> str:
    """Return the checksum of a content, in parts if `like` was computed in parts."""
    if "-" not in like:
        return _compute_md5(view).hex()
    parts = [_compute_md5(view[at : at + PART_NBYTES]) for at in range(0, len(view), PART_NBYTES)]
    return f"{_compute_md5(b''.join(parts)).hex()}-{len(parts)}"


def _compute_md5(content: Buffer) -> bytes:
    return hashlib.md5(view_bytes(content), usedforsecurity=False).digest()


def _group(spans: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield runs of spans that are worth one request, with spans cut into pieces."""
    pieces = [
        [start, min(start + _PIECE_NBYTES, stop)]
        for begin, stop in spans.tolist()
        for start in range(begin, stop, _PIECE_NBYTES)
    ]
    run: list[list[int]] = []
    for piece in pieces:
        if run and (piece[0] - run[-1][1] > _GAP_NBYTES or piece[1] - run[0][0] > _PIECE_NBYTES):
            yield np.array(run)
            run = []
        run.append(piece)
    if run:
        yield np.array(run)
