"""Every decoder of bytes from a disk or a network, with bytes to begin from and the errors that it may raise.

Both fuzzers use the table: Hypothesis, short, in the suite (`test_every_decoder.py`), and atheris, for as long as one
likes, in `nox -s fuzz` (`coverage_guided.py`).
"""

from __future__ import annotations

import json
import socket
import struct
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import google_crc32c
import msgspec
import numpy as np
from blake3 import blake3

from stockroom.content.column import decode_column
from stockroom.content.merge.unfinished import read_merging
from stockroom.content.snapshot import decode_record
from stockroom.content.state import STATE_ENTRIES, decode_value
from stockroom.content.state import decode_state as decode_state_record
from stockroom.content.structure import decode_structure
from stockroom.digest import CommitId, ObjectDigest
from stockroom.errors import CorruptionError, FormatVersionError, InvalidInputError, RepositoryNotFoundError
from stockroom.importers.npy import read_npy_header
from stockroom.refs import links, marks
from stockroom.refs.commit import decode_commit
from stockroom.refs.objects import decode_object
from stockroom.refs.operations import decode_operation
from stockroom.refs.stage import decode_stage
from stockroom.remotes.agent import protocol
from stockroom.remotes.agent.protocol import ConnectionLostError
from stockroom.remotes.format.bundle import (
    BundleEntry,
    BundlePack,
    BundleWriter,
    RecordKind,
    decode_pack_files,
    open_bundle,
)
from stockroom.remotes.format.marks import decode_marks
from stockroom.remotes.format.ref_state import RefState, decode_state
from stockroom.remotes.format.remote_file import parse_remote
from stockroom.remotes.settings import read_remotes
from stockroom.repository.head import HeadFile, parse_head
from stockroom.repository.paths import RepositoryPaths
from stockroom.store.chunking import decode_chunk_list
from stockroom.store.codecs import Codec, decode_block, encode_block
from stockroom.store.entry import EntryFormat
from stockroom.store.index.catalog import TableRecord, decode_table_record
from stockroom.store.index.location_table import decode_table
from stockroom.store.pack.manifest import decode_manifest
from stockroom.store.pack.presence import PRESENCE_NAME, PresenceMap
from stockroom.store.pack.shard import decode_index, encode_index
from stockroom.trees.node import decode_node

GOLDEN = Path(__file__).parent.parent / "golden"
REFUSALS = (CorruptionError, FormatVersionError)
DAMAGE_GOLDEN = GOLDEN / "data" / "damage_v1"
"""Bytes that once made a decoder fail, a folder for each decoder."""

SLACK_NBYTES = 2 << 20
TIMES_INPUT = 40


@dataclass(frozen=True)
class Decoder:
    """How bytes are decoded.

    `seeds` are sound. `limit_nbytes` is what an input may make it allocate whatever its own size: the decoded size that
    a compressed format allows.
    """

    seeds: list[bytes]
    decode: Callable[[bytes], Any]
    errors: tuple[type[Exception], ...] = REFUSALS
    limit_nbytes: int = 0


class Overrun(Exception):
    """More memory was taken than a small multiple of the input."""


def run(decoder: Decoder, data: bytes) -> bool:
    """Whether `data` was decoded; False where it was refused as it should be. Anything else is raised."""
    tracemalloc.start()
    try:
        decoder.decode(data)
    except decoder.errors:
        return False
    else:
        return True
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        if peak > SLACK_NBYTES + TIMES_INPUT * len(data) + decoder.limit_nbytes:
            raise Overrun(f"{peak} bytes for an input of {len(data)}")


def _read(*names: str) -> list[bytes]:
    return [(GOLDEN / "data" / name).read_bytes() for name in names]


def _read_all(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((GOLDEN / "data").glob(pattern))]


COMMIT_BYTES = _read("history_v1/commit")[0]
COMMIT_DIGEST = ObjectDigest(blake3(COMMIT_BYTES).digest())
OPERATION_KEY = struct.pack(">Q", 300)
BLOCK = np.arange(1024, dtype="<u4").tobytes()
SPANS = np.array([[0, 100], [100, 7], [107, 893]], np.uint64)
NODES = [bytes.fromhex((GOLDEN / f"tree_{kind}_node_v1.hex").read_text()) for kind in ("int", "str", "parent")]
MESSAGES = [
    msgspec.msgpack.encode(message)
    for message in (
        protocol.Fetch([(bytes(32), struct.pack("<qq", 0, 9))], 3.5),
        protocol.Hint([(bytes(32), b"")], True),
        protocol.Drop([bytes(32)]),
        protocol.Measure(),
    )
]
ANSWERS = [
    msgspec.msgpack.encode(message)
    for message in (protocol.Welcome(2, 77), protocol.Working(5, "slow"), protocol.Failed("X", "text", "origin", "ab"))
]


STATE_FIELDS: dict[str, Any] = {
    "number": 3,
    "write_id": bytes(16),
    "time_ns": 1,
    "head": None,
    "branches": {"a/b": bytes(32)},
    "tags": {},
    "bundles": (),
}


def _seal(body: bytes) -> bytes:
    return body + int(google_crc32c.value(body)).to_bytes(4, "little")


class _Objects:
    """Gives out the bytes to be fuzzed as whatever object is asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def get_object(self, digest: bytes) -> bytes:
        return self._data


def _decode_presence(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / PRESENCE_NAME).write_bytes(data)
        PresenceMap.open(Path(folder), 21).list_absent(np.arange(21))


def _make_bundle() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        writer = BundleWriter(Path(folder, "bundle"))
        writer.add(RecordKind.COMMIT, COMMIT_DIGEST, COMMIT_BYTES)
        writer.add(RecordKind.OBJECT, bytes(32), b"\0\1\0\0\0x")
        writer.finish()
        return Path(folder, "bundle").read_bytes()


def _decode_bundle(data: bytes) -> None:
    entry = BundleEntry(blake3(data).digest(), len(data), 1, 1, 0)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bundle").write_bytes(data)
        with open_bundle(Path(folder, "bundle"), entry, where="here") as bundle:
            for record in bundle.iter_records():
                if record.kind is RecordKind.PACK:
                    decode_pack_files(record.payload, where="here")


def _decode_file(name: str, read: Callable[[RepositoryPaths], Any]) -> Callable[[bytes], Any]:
    def decode(data: bytes) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            paths = RepositoryPaths(Path(folder))
            paths.folder.mkdir()
            (paths.root / name).write_bytes(data)
            return read(paths)

    return decode


def _receive(data: bytes, receive: Callable[[socket.socket], Any]) -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)
        ours.sendall(struct.pack("<I", len(data)) + data[:60_000])  # more might not fit between the two
        ours.shutdown(socket.SHUT_WR)
        return receive(theirs)


def _receive_request(data: bytes) -> None:
    request = _receive(data, protocol.receive_request)
    if isinstance(request, protocol.Fetch | protocol.Hint):
        protocol.parse_wanted(request.wanted, max_units=1 << 12)


def _make_npy() -> bytes:
    file = BytesIO()
    np.save(file, np.arange(6, dtype=np.int16).reshape(2, 3))
    return file.getvalue()


DECODERS: dict[str, Decoder] = (
    {
        "manifest": Decoder(_read_all("store_v1/*/*/chunks"), lambda data: decode_manifest(data, where="here")),
        "shard index": Decoder([encode_index(SPANS)], lambda data: decode_index(data, body_nbytes=1000, where="here")),
        "shard index, sealed": Decoder(
            [encode_index(SPANS)[:-4]], lambda data: decode_index(_seal(data), body_nbytes=1000, where="here")
        ),
        "chunk list": Decoder(_read("store_v1/chunk_list"), lambda data: decode_chunk_list(data, where="here")),
        "location table": Decoder(_read("store_v1/locations.table"), lambda data: decode_table(data, where="here")),
        "table record": Decoder(
            [*_read("history_v1/table_record"), msgspec.msgpack.encode(TableRecord(1, 0, None, b"x"))],
            decode_table_record,
        ),
        "presence map": Decoder(_read("store_v1/present"), _decode_presence),
        "node": Decoder(NODES, decode_node),
        "object at rest": Decoder(
            _read("history_v1/object_raw", "history_v1/object_zstd"),
            lambda data: decode_object(data, COMMIT_DIGEST),
            limit_nbytes=2 * (64 << 20),
        ),
        "commit": Decoder([COMMIT_BYTES], decode_commit),
        "link": Decoder(
            [struct.pack("<I", 1), struct.pack("<I", 2) + bytes(64)],
            lambda data: links._decode(data, CommitId(bytes(32))),
        ),
        "mark": Decoder([struct.pack("<QQ", 5, 6)], marks.decode_mark),
        "operation": Decoder(_read("history_v1/operation"), lambda data: decode_operation(OPERATION_KEY, data)),
        "stage": Decoder(
            _read("history_v1/stage", "history_v1/first_stage", "history_v1/merging_stage"),
            lambda data: decode_stage(data, where="here"),
        ),
        "merge": Decoder(
            _read("history_v1/merging"),
            lambda data: read_merging(_Objects(data), ObjectDigest(bytes(32))).conflicts,  # type: ignore[arg-type]
        ),
        "head.stock": Decoder(
            _read("history_v1/head.stock", "history_v1/detached.stock", "history_v1/fresh.stock"),
            _decode_file("head.stock", lambda paths: HeadFile(paths.root, paths.folder).read()),
        ),
        "head text": Decoder(
            _read("history_v1/head.stock"), lambda data: parse_head(data.decode("utf-8", "replace"), where="here")
        ),
        "remote.stock": Decoder(
            [b"stockroom remote 1\nurl s3://bucket/pets\nendpoint -\nregion eu-west-1\n"],
            lambda data: parse_remote(data.decode("utf-8", "replace"), where="here"),
        ),
        "remotes.json": Decoder(
            [json.dumps({"origin": {"url": "/a/b", "endpoint_url": None, "region": None}}).encode()],
            _decode_file(".stockroom/remotes.json", read_remotes),
        ),
        "config.json": Decoder(
            [b'{"name": "Ada", "email": "ada@example.org"}'],
            _decode_file(".stockroom/config.json", lambda paths: paths.read_identity()),
            (*REFUSALS, RepositoryNotFoundError),
        ),
        "column": Decoder(
            _read("history_v1/column", "history_v1/column_of_arrays", "state_v1/series"),
            lambda data: decode_column(data, where="here"),
        ),
        "state": Decoder(_read("state_v1/state"), lambda data: decode_state_record(data, where="here")),
        "value": Decoder(_read("state_v1/value"), lambda data: decode_value(data, where="here").list_leaves()),
        "structure": Decoder(_read("state_v1/structure"), lambda data: decode_structure(data, where="here")),
        "any record": Decoder(
            _read("state_v1/state", "state_v1/value", "history_v1/column"),
            lambda data: decode_record(data, where="here"),
        ),
        "entry of a state": Decoder(
            [struct.pack("<BQ", 0, 5) + b"hello".ljust(32, b"\0"), struct.pack("<BQ", 1, 50) + bytes(32)],
            lambda data: STATE_ENTRIES.decode(data[:41].ljust(41, b"\0")),
        ),
        "entry of a column": Decoder(
            [struct.pack("<BQQ", 1, 5, 3) + bytes(32)],
            lambda data: EntryFormat(8, (None, 3)).decode(data[:49].ljust(49, b"\0")),
        ),
        "ref state": Decoder(
            [
                *_read("remote_v1/refs/00000003"),
                *(RefState(**STATE_FIELDS, marks=marks).encode() for marks in (None, bytes(32))),
            ],
            lambda data: decode_state(data, number=3, where="here"),
        ),
        "table of marks on a remote": Decoder(
            _read_all("remote_v2/marks/*/*"), lambda d: decode_marks(d, where="here")
        ),
        "bundle": Decoder([_make_bundle()], _decode_bundle),
        "pack in a bundle": Decoder(
            [BundlePack(b"{}", b"chunks", b"index").encode()],
            lambda data: decode_pack_files(memoryview(data), where="here"),
        ),
        "request to the agent": Decoder(MESSAGES, _receive_request, (ConnectionLostError,)),
        "answer of the agent": Decoder(
            ANSWERS, lambda data: _receive(data, protocol.receive_answer), (ConnectionLostError,)
        ),
        "npy header": Decoder(
            [_make_npy()],
            lambda data: read_npy_header(BytesIO(data), nbytes=len(data), where="here"),  # type: ignore[arg-type]
            (*REFUSALS, InvalidInputError),
        ),
    }
    | {
        f"block, {codec}": Decoder(
            [bytes(encode_block(codec, BLOCK, 4))[:-4]],
            lambda data, codec=codec: decode_block(codec, _seal(data), len(BLOCK), where="here"),  # type: ignore[misc]
        )
        for codec in (Codec.LZ4, Codec.ZSTD, Codec.BLOSC)
    }
)
