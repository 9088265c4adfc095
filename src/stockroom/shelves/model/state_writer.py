"""Puts a nested state into a workspace: its leaves as chunks, its structure, and the record that refers to both.

Leaves are written in windows of about 64 MiB, hashed in parallel, two windows at a time. So memory stays bounded even
if the bytes are not on the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from stockroom.content.attrs import check_json
from stockroom.content.nodes import StateNode, measure_element, name_storage
from stockroom.content.state import MAX_VALUE_NBYTES, STATE_ENTRIES, STATE_TREE, StateRecord, ValueRecord
from stockroom.content.structure import encode_structure
from stockroom.digest import ObjectDigest, view_bytes
from stockroom.errors import InvalidInputError
from stockroom.repository.writing.workspace import Workspace
from stockroom.shelves.model.flatten import LeafBytes, flatten
from stockroom.store.chunk_run import ChunkRun, Hashing, Stream, make_chunk_list
from stockroom.store.chunking import measure_chunk
from stockroom.store.codecs import AUTO
from stockroom.store.dtypes import format_storage
from stockroom.store.entry import EntryKind, choose_kind
from stockroom.trees import Tree

_WINDOW_NBYTES: Final = 64 << 20
_WINDOW_RUNS: Final = 4096
_MAX_VALUE_STRUCTURE_NBYTES: Final = 512 << 10
"""A larger structure, such as that of a million times None, does not fit into a value record."""
_EMPTY: Final = np.empty(0, np.uint8)


def write_state(
    workspace: Workspace, state: object, *, where: str, metadata: Mapping[str, Any] | None = None
) -> StateRecord:
    """Put a state of any size, and return the record to stage; raises `SchemaError` naming `where`.

    The tensors must not change during the call.
    """
    checked = check_json(dict(metadata or {}), where=where, name="metadata")
    flat = flatten(state, where=where)
    with workspace.lock:
        return write_leaves(workspace, flat.structure, flat.leaves, checked)


def write_value(workspace: Workspace, value: object, *, where: str) -> StateRecord | ValueRecord:
    """Put a value: a small one whole in its record, any other as `write_state` does."""
    flat = flatten(value, where=where)
    is_small = sum(leaf.nbytes for leaf in flat.leaves) <= MAX_VALUE_NBYTES
    if is_small and len(encode_structure(flat.structure)) <= _MAX_VALUE_STRUCTURE_NBYTES:
        payloads = tuple(b"".join(piece.tobytes() for piece in leaf.pieces) for leaf in flat.leaves)
        return ValueRecord(flat.structure, payloads)
    with workspace.lock:
        return write_leaves(workspace, flat.structure, flat.leaves, {})


def write_leaves(
    workspace: Workspace, structure: StateNode, leaves: Iterable[LeafBytes], metadata: dict[str, Any]
) -> StateRecord:
    """Put leaves and their structure, and return the record that refers to both."""
    encoded = encode_structure(structure)  # first: puts nothing if the structure cannot be recorded
    writer = _LeafWriter(workspace)
    try:
        entries = writer.put_all(leaves)
    finally:
        workspace.wait_for_writes()  # after the return the caller may change the tensors
    values = np.frombuffer(b"".join(entries.values()), np.uint8).reshape(len(entries), STATE_TREE.value_width)
    tree = Tree.build(workspace.nodes, STATE_TREE, keys=list(entries), values=values)
    return StateRecord(workspace.objects.put_object(encoded), tree.root, metadata)


def put_leaf(workspace: Workspace, leaf: LeafBytes) -> bytes:
    """Put the bytes of one leaf, and return its entry."""
    entries = _LeafWriter(workspace).put_all([leaf])
    workspace.wait_for_writes()
    return entries[leaf.path]


@dataclass(slots=True, eq=False)
class _Large:
    """A leaf of several chunks, put one window at a time."""

    leaf: LeafBytes
    chunk_nbytes: int
    whole: blake3 = field(default_factory=blake3)
    digests: list[bytes] = field(default_factory=list)
    is_begun: bool = False


_Window: TypeAlias = list[tuple[ChunkRun, LeafBytes | _Large]]


class _LeafWriter:
    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._entries: dict[str, bytes] = {}
        self._window: _Window = []
        self._started: tuple[_Window, Hashing] | None = None
        self._nbytes = 0

    def put_all(self, leaves: Iterable[LeafBytes]) -> dict[str, bytes]:
        """Put the chunks of all leaves, and return the entries by path."""
        for leaf in leaves:
            self._put(leaf)
        self._start_window()
        self._put_started()
        return self._entries

    def _put(self, leaf: LeafBytes) -> None:
        kind = choose_kind(leaf.nbytes)
        if kind is EntryKind.CHUNK_LIST:
            self._put_large(leaf)
            return
        pieces = list(leaf.pieces)
        data = pieces[0] if len(pieces) == 1 else np.concatenate([_EMPTY, *pieces])
        if len(data) != leaf.nbytes:
            raise _changed(leaf)
        if kind is EntryKind.INLINE:
            self._entries[leaf.path] = STATE_ENTRIES.encode(kind, (leaf.nbytes,), data.tobytes())
        else:
            self._add(ChunkRun([view_bytes(data)], _choose_stream(leaf)), leaf)

    def _put_large(self, leaf: LeafBytes) -> None:
        chunk_nbytes = measure_chunk(leaf.shape, measure_element(leaf.dtype))
        large, stream = _Large(leaf, chunk_nbytes), _choose_stream(leaf)
        if self._nbytes + leaf.nbytes > _WINDOW_NBYTES:
            self._start_window()  # keeps a tensor that fits into one pack together
        chunks: list[memoryview] = []
        nbytes = taken = 0
        for chunk in _cut(leaf.pieces, chunk_nbytes):
            chunks.append(chunk)
            nbytes += len(chunk)
            taken += len(chunk)
            if nbytes >= _WINDOW_NBYTES:
                self._add(ChunkRun(chunks, stream, whole=large.whole), large)
                chunks, nbytes = [], 0
        if chunks:
            self._add(ChunkRun(chunks, stream, whole=large.whole), large)
        if taken != leaf.nbytes:
            raise _changed(leaf)

    def _add(self, run: ChunkRun, owner: LeafBytes | _Large) -> None:
        self._window.append((run, owner))
        self._nbytes += run.nbytes
        if self._nbytes >= _WINDOW_NBYTES or len(self._window) >= _WINDOW_RUNS:
            self._start_window()

    def _start_window(self) -> None:
        """Start hashing the window; put the previous one meanwhile, and let the next one fill."""
        window, self._window, self._nbytes = self._window, [], 0
        if any(isinstance(owner, _Large) and owner.is_begun for _, owner in window):
            self._put_started()  # a tensor's digest takes its bytes in order
        before, self._started = self._started, None
        if window:
            for _, owner in window:
                if isinstance(owner, _Large):
                    owner.is_begun = True
            self._started = window, self._workspace.tensors.start_hashing([run for run, _ in window])
        if before is not None:
            self._put_hashed(*before)

    def _put_started(self) -> None:
        started, self._started = self._started, None
        if started is not None:
            self._put_hashed(*started)

    def _put_hashed(self, window: _Window, hashing: Hashing) -> None:
        self._workspace.tensors.put_hashed(hashing)
        for run, owner in window:
            if isinstance(owner, LeafBytes):
                self._entries[owner.path] = STATE_ENTRIES.encode(EntryKind.CHUNK, (owner.nbytes,), run.digests[0])
                continue
            owner.digests += run.digests
            if len(owner.digests) * owner.chunk_nbytes >= owner.leaf.nbytes:
                self._finish(owner)

    def _finish(self, large: _Large) -> None:
        leaf = large.leaf
        chunks = make_chunk_list(leaf.nbytes, large.chunk_nbytes, large.whole, large.digests)
        digest: ObjectDigest = self._workspace.objects.put_object(chunks.encode())
        self._entries[leaf.path] = STATE_ENTRIES.encode(EntryKind.CHUNK_LIST, (leaf.nbytes,), digest)


def _choose_stream(leaf: LeafBytes) -> Stream:
    return Stream(format_storage(name_storage(leaf.dtype)), None, AUTO)


def _cut(pieces: Iterable[NDArray[np.uint8]], chunk_nbytes: int) -> Iterator[memoryview]:
    """Yield flat pieces of any length cut into chunks; a view if a chunk is in one piece."""
    rest = np.empty(0, np.uint8)
    for piece in pieces:
        joined = np.concatenate([rest, piece]) if len(rest) else piece
        whole = len(joined) // chunk_nbytes * chunk_nbytes
        for start in range(0, whole, chunk_nbytes):
            yield view_bytes(joined[start : start + chunk_nbytes])
        rest = joined[whole:]
    if len(rest):
        yield view_bytes(rest)


def _changed(leaf: LeafBytes) -> InvalidInputError:
    return InvalidInputError(f"leaf {leaf.path!r} changed size during the save; save it again")
