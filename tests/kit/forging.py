"""Remotes put together by hand, of what no honest push would make: everything has the digest it is kept under."""

from __future__ import annotations

import functools
import re
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from blake3 import blake3
from numcodecs import zstd

from stockroom.digest import CommitId, ObjectDigest
from stockroom.refs.commit import CommitRecord
from stockroom.remotes.format.bundle import BundleWriter, RecordKind
from stockroom.remotes.format.ref_state import RefState, new_write_id
from stockroom.store.codecs import decode_block, encode_block
from stockroom.store.pack.pack import Pack

EMPTY_NODE = struct.pack("<4sBBBBHHI", b"SRnd", 1, 0, 2, 0, 32, 0, 0)


def make_record(magic: bytes, fields: Any) -> bytes:
    """A record of version 1, whatever its fields are."""
    return magic + b"\x01" + msgspec.msgpack.encode(fields)


def make_leaf(entries: Mapping[str, bytes] | Mapping[int, bytes], width: int, *, count: int | None = None) -> bytes:
    """A node of level 0; its header claims `count` items."""
    return _make_node(0, list(entries), [*entries.values()], width, count)


def make_parent(children: list[tuple[str | int, bytes, int]], width: int, *, level: int = 1) -> bytes:
    """A node above others: key, digest and number of keys of each child."""
    keys, values = [child[0] for child in children], [child[1] + struct.pack("<Q", child[2]) for child in children]
    return _make_node(level, keys, values, width, None)


def _make_node(level: int, keys: list[Any], values: list[bytes], width: int, count: int | None) -> bytes:
    is_int = bool(keys) and isinstance(keys[0], int)
    number = len(keys) if count is None else count
    parts = [struct.pack("<4sBBBBHHI", b"SRnd", 1, level, 1 if is_int else 2, 0, width, 0, number)]
    if is_int:
        parts += [struct.pack("<Q", (b - a) % (1 << 64)) for a, b in zip([0, *keys], keys, strict=False)]
    else:
        texts = [key.encode("utf-8", "surrogatepass") for key in keys]
        parts += [struct.pack("<I", sum(map(len, texts[: n + 1]))) for n in range(len(texts))]
        parts += texts
    return b"".join([*parts, *values])


class Forge:
    """Objects and commits to be served, and the remote's folder that `publish` makes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects: dict[ObjectDigest, bytes] = {}
        self.commits: dict[CommitId, bytes] = {}

    def put(self, data: bytes, *, at_rest: bytes | None = None) -> ObjectDigest:
        """Serve an object, as zstd, or as `at_rest` says."""
        digest = ObjectDigest(blake3(data).digest())
        self.objects[digest] = at_rest or struct.pack("<BI", 1, len(data)) + bytes(zstd.compress(data, 1))
        return digest

    def put_column(self, root: bytes, *, dtype: str = "float64", shape: list[Any], keys: str = "int") -> ObjectDigest:
        """Serve the record of a column."""
        fields = {"dtype": dtype, "shape": shape, "key_type": keys, "codec": "auto", "root": root, "attrs": {}}
        return self.put(make_record(b"SRco", fields))

    def commit(self, content: Mapping[str, bytes], *, parents: tuple[bytes, ...] = (), **fields: Any) -> CommitId:
        """Serve a commit of these records by path."""
        tree = fields.pop("tree", None) or self.put(make_leaf(dict(sorted(content.items())), 32))
        given = {"author": "Mallory", "email": "", "time_ns": 0, "offset_minutes": 0, "message": "m", "metadata": {}}
        record = CommitRecord(tree=tree, parents=parents, **given | fields).encode()
        digest = CommitId(blake3(record).digest())
        self.commits[digest] = record
        return digest

    def publish(self, tip: bytes, **fields: Any) -> str:
        """Make the remote's folder; its URL."""
        (self.folder / "refs").mkdir(parents=True)
        part = self.folder / "part"
        writer = BundleWriter(part)
        for digest, at_rest in self.objects.items():
            writer.add(RecordKind.OBJECT, digest, at_rest)
        for commit, record in self.commits.items():
            writer.add(RecordKind.COMMIT, commit, record)
        entry = writer.finish()
        place = self.folder / entry.path
        place.parent.mkdir(parents=True)
        part.rename(place)
        state = {"head": "main", "branches": {"main": tip}, "tags": {}, "bundles": (entry,)} | fields
        encoded = RefState(number=1, write_id=new_write_id(), time_ns=0, **state).encode()
        (self.folder / "refs/00000001").write_bytes(encoded)
        return str(self.folder)


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """The URL of a web server for the files of a folder, by range too."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_FileHandler, folder=folder))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _FileHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, folder: Path) -> None:
        self.folder = folder
        super().__init__(*args)

    def do_GET(self) -> None:
        path = self.folder / self.path.lstrip("/")
        content = path.read_bytes() if path.is_file() else None
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if content is None:
            self._answer(404, b"", {})
        elif asked is None:
            self._answer(200, content, {})
        else:
            first, last = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
            if first >= len(content):
                self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            self._answer(206, content[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(content)}"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in {
            "Content-Length": str(len(body)),
            "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def forge_block(pack: Pack, encoded: bytes, *, at: int) -> bytes:
    """An encoded block of the same length whose raw bytes differ in one, a little after `at`."""
    layout = pack.layout
    raw = decode_block(layout.codec, encoded, layout.block_nbytes, where="")
    for offset, value in product(range(at, min(at + 2000, layout.block_nbytes), 50), range(1, 256)):
        changed = bytearray(raw)
        changed[offset] ^= value
        forged = bytes(encode_block(layout.codec, changed, layout.itemsize))
        if len(forged) == len(encoded):
            return forged
    raise AssertionError("no other value is encoded in as many bytes")


def forge_row(pack: Pack, whole: bytes) -> tuple[bytes, list[int], int]:
    """A shard in which one row is wrong, by the first of the blocks it takes; these blocks; and the row."""
    size = pack.layout.block_nbytes
    for row in range(pack.rows):
        offset, nbytes = pack.get_span(row)
        if 2000 < size - offset % size < nbytes:
            blocks = pack.list_units(np.array([row])).tolist()
            start, length = pack.spans[blocks[0]].tolist()
            block = forge_block(pack, whole[start : start + length], at=offset % size)
            return whole[:start] + block + whole[start + length :], blocks, row
    raise AssertionError("no row takes several blocks")
