"""Downloads one whole file of a remote, in pieces in parallel."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from stockroom.digest import view_bytes
from stockroom.remotes.transport.protocol import Transport

_PIECE_NBYTES: Final = 16 << 20
_PIECES_AT_ONCE: Final = 4


def download_file(
    transport: Transport, path: str, target: Path, nbytes: int, *, on_piece: Callable[[int], None] | None = None
) -> None:
    """Write the `nbytes` of a remote's file to `target`. The caller verifies them."""
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def fetch_part(start: int) -> None:
        stop = min(start + _PIECE_NBYTES, nbytes)
        view, offset = view_bytes(transport.get_range(path, start, stop)), start
        while view:
            written = os.pwrite(fd, view, offset)
            view, offset = view[written:], offset + written
        if on_piece is not None:
            on_piece(stop - start)

    try:
        starts = range(0, nbytes, _PIECE_NBYTES)
        if starts:
            fetch_part(starts[-1])  # first: a remote may claim a size that its file does not have
        with ThreadPoolExecutor(_PIECES_AT_ONCE) as pool:
            for _ in pool.map(fetch_part, starts[:-1]):
                pass
    finally:
        os.close(fd)
