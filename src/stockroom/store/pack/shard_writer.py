"""Streams raw bytes into a shard file, block by block, and reads back the bytes written so far.

Knows nothing of rows or digests. Memory is bounded by one write buffer, or by one block if the codec encodes.
"""

from __future__ import annotations

import os
from concurrent.futures import Executor, Future
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import Buffer, view_bytes
from stockroom.files import FILE_MODE, give_to_owner
from stockroom.store.codecs import AUTO, Codec, choose_codec, decode_block, encode_block
from stockroom.store.pack.layout import PackLayout
from stockroom.store.pack.shard import encode_index

_WRITE_BUFFER_NBYTES = 1 << 20
_AUTO_SAMPLE_NBYTES = 256 << 10
_PIECE_NBYTES = 1 << 20
_LARGE_ROW_NBYTES = 16 << 10


class ShardWriter:
    """One shard file being written; `nbytes` counts the raw bytes taken so far."""

    def __init__(self, path: Path, layout: PackLayout, codec: str, *, executor: Executor) -> None:
        self.path = path
        self._executor = executor
        # Pieces of 1 MiB are copied into the page cache twice as fast as 16 MiB at once. But the thread needs the
        # interpreter between two pieces, and the thread that hashes small rows does not release it.
        self._piece_nbytes = _PIECE_NBYTES if layout.unit_nbytes >= _LARGE_ROW_NBYTES else 1 << 30
        self._behind: Future[None] | None = None
        self.nbytes = 0
        self.codec: Codec | None = None if codec == AUTO else Codec(codec)
        self._itemsize = layout.itemsize
        self._block_nbytes = layout.block_nbytes
        self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, FILE_MODE)
        give_to_owner(path)
        self._buffer = bytearray()
        self._file_nbytes = 0
        self._spans: list[tuple[int, int]] = []

    def write(self, data: Buffer) -> None:
        """Append raw bytes. Large ones are written in the background: they must not change before `wait`."""
        view = view_bytes(data)
        self.nbytes += len(view)
        if self.codec is None and len(self._buffer) + len(view) >= _AUTO_SAMPLE_NBYTES:
            missing = _AUTO_SAMPLE_NBYTES - len(self._buffer)
            self.codec = choose_codec(self._buffer + view[:missing], self._itemsize)
        if self.codec is Codec.RAW and len(view) >= _WRITE_BUFFER_NBYTES:
            self._flush_raw()
            self._write_behind(view)
            return
        if self.codec is not None and self.codec is not Codec.RAW:
            self._encode(view)
            return
        self._buffer += view
        if self.codec is not None:
            self._drain(final=False)

    def _write_behind(self, view: memoryview) -> None:
        try:
            self._behind = self._executor.submit(self._append, view)
        except RuntimeError:  # the program is ending, and its threads with it
            self._append(view)

    def wait(self) -> None:
        """Wait until the writer no longer reads the caller's memory."""
        if self._behind is not None:
            self._behind.result()

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return raw bytes written earlier."""
        if self.codec is None:
            return bytes(self._buffer[offset : offset + nbytes])
        if self.codec is Codec.RAW:
            self._flush_raw()
            self.wait()
            return os.pread(self._file(), nbytes, offset)
        first, last = offset // self._block_nbytes, (offset + nbytes - 1) // self._block_nbytes
        joined = b"".join(bytes(self._read_block(block)) for block in range(first, last + 1))
        start = offset - first * self._block_nbytes
        return joined[start : start + nbytes]

    def finish(self, layout: PackLayout, units: int) -> int:
        """Write padding and the index for `units` units; returns the size of the file."""
        self.resolve_codec()
        self.wait()
        blocks = layout.count_blocks(units)
        padding = blocks * layout.block_nbytes - self.nbytes
        self._buffer += bytes(padding)
        self._drain(final=True)
        if self.codec is Codec.RAW:
            starts = np.arange(blocks, dtype=np.uint64) * np.uint64(layout.block_nbytes)
            spans = np.stack([starts, np.full(blocks, layout.block_nbytes, np.uint64)], axis=1)
        else:
            spans = np.array(self._spans, np.uint64).reshape(-1, 2)
        self._append(encode_index(self._check_spans(spans, blocks)))
        return self._file_nbytes

    def sync(self) -> None:
        """Sync everything written to disk."""
        os.fsync(self._file())

    def rest(self) -> None:
        """Write out what can be written, and close the file until it is needed again."""
        if self.codec is Codec.RAW:
            self._flush_raw()
        self.close()

    def close(self) -> None:
        """Close the file; calling it again is harmless."""
        with suppress(OSError):
            self.wait()
        if self._fd >= 0:
            fd, self._fd = self._fd, -1  # first: after an interrupt, a second close must not close another file
            os.close(fd)

    def resolve_codec(self) -> None:
        """Resolve `auto` to a codec, from the bytes taken so far."""
        if self.codec is None:
            self.codec = choose_codec(self._buffer[:_AUTO_SAMPLE_NBYTES], self._itemsize)

    def _drain(self, *, final: bool) -> None:
        if self.codec is Codec.RAW:
            if final or len(self._buffer) >= _WRITE_BUFFER_NBYTES:
                self._flush_raw()
            return
        buffer, self._buffer = self._buffer, bytearray()
        self._encode(memoryview(buffer))

    def _encode(self, data: memoryview) -> None:
        """Encode the blocks that the buffer and `data` fill, without copying `data`; the rest is buffered."""
        size = self._block_nbytes
        if len(self._buffer) >= size:  # from before a codec was chosen
            self._drain(final=False)
        start = min(size - len(self._buffer), len(data)) if self._buffer else 0
        if start:
            self._buffer += data[:start]
            if len(self._buffer) < size:
                return
            block, self._buffer = self._buffer, bytearray()
            self._append_block(block)
        while start + size <= len(data):
            self._append_block(data[start : start + size])
            start += size
        self._buffer += data[start:]

    def _append_block(self, block: Buffer) -> None:
        assert self.codec is not None
        encoded = encode_block(self.codec, block, self._itemsize)
        self._spans.append((self._file_nbytes, len(encoded)))
        self._append(encoded)

    def _flush_raw(self) -> None:
        self.wait()
        if self._buffer:
            self._append(self._buffer)
            self._buffer = bytearray()

    def _append(self, data: Buffer) -> None:
        view = view_bytes(data)
        while view:
            written = os.pwrite(self._file(), view[: self._piece_nbytes], self._file_nbytes)
            self._file_nbytes += written
            view = view[written:]

    def _file(self) -> int:
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        return self._fd

    def _read_block(self, block: int) -> Buffer:
        if block >= len(self._spans):
            start = (block - len(self._spans)) * self._block_nbytes
            return self._buffer[start : start + self._block_nbytes]
        assert self.codec is not None
        offset, nbytes = self._spans[block]
        return decode_block(
            self.codec, os.pread(self._file(), nbytes, offset), self._block_nbytes, where=str(self.path)
        )

    def _check_spans(self, spans: NDArray[np.uint64], blocks: int) -> NDArray[np.uint64]:
        assert len(spans) == blocks, f"{self.path}: {len(spans)} blocks written, {blocks} expected"
        assert blocks == 0 or int(spans[-1].sum()) == self._file_nbytes, f"{self.path}: blocks do not fill the file"
        return spans
