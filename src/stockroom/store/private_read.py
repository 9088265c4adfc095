"""Reads whole tensors into private memory: mapped copy-on-write if they are raw and contiguous in one pack.

A mapped tensor costs no copy, and no memory until it is read. Writing to it changes private pages only, never the pack.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stockroom.file_map import map_private
from stockroom.store.index.chunk_search import iter_by_pack
from stockroom.store.index.location_table import ROW_BITS
from stockroom.store.pack.pack import Pack
from stockroom.store.tensor_store import TensorStore

_MAP_AT_LEAST: Final = 64 << 10
"""Below this many bytes, a copy is cheaper than a map."""

_GAP: Final = 1 << 20
"""Tensors of one pack are mapped together if no gap between them is larger."""

_IN_PARTS: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """The chunks of one tensor in order: digests `(n, 32)`, and lengths in bytes `(n,)`."""

    digests: NDArray[np.uint8]
    lengths: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class LocatedTensor:
    """The place of a tensor: contiguous at `offset` of the raw pack `number`, or, if that is -1, chunk by chunk."""

    nbytes: int
    number: int
    offset: int
    locations: NDArray[np.uint64]
    lengths: NDArray[np.int64]

    @property
    def end(self) -> int:
        """The end of a contiguous tensor in its pack."""
        return self.offset + self.nbytes


def read_private(tensors: TensorStore, wanted: Sequence[StoredTensor]) -> list[NDArray[np.uint8]]:
    """Return the raw bytes of each tensor, `(nbytes,)` uint8, writable and private to the caller.

    Absent bytes are fetched in one request; raises `AbsentDataError` if they cannot be fetched.
    """
    return tensors.retry_when_moved(lambda: read_located(tensors, locate_tensors(tensors, wanted)))


def locate_tensors(tensors: TensorStore, wanted: Sequence[StoredTensor]) -> list[LocatedTensor]:
    """Return the place of each tensor; reads and fetches nothing."""
    if not wanted:
        return []
    lengths = np.concatenate([tensor.lengths for tensor in wanted])
    locations = tensors.locate(np.concatenate([tensor.digests for tensor in wanted]), lengths)
    starts = np.cumsum([0, *(len(tensor.lengths) for tensor in wanted)])
    offsets = _get_offsets(tensors, locations)
    numbers = (locations >> ROW_BITS).astype(np.int64)
    breaks = (offsets[:-1] + lengths[:-1] != offsets[1:]) | (numbers[:-1] != numbers[1:])
    broken = np.cumsum(np.concatenate([[0], breaks]))  # breaks before each chunk; a tensor without any has equal ends
    first, last = starts[:-1], starts[1:] - 1
    whole = (offsets[first] != _IN_PARTS) & (broken[first] == broken[last])
    at = np.where(whole, offsets[first], _IN_PARTS).tolist()
    sums = np.add.reduceat(lengths, first).tolist()
    spans = itertools.pairwise(starts.tolist())
    return [
        LocatedTensor(nbytes, number, offset, locations[start:stop], lengths[start:stop])
        for nbytes, number, offset, (start, stop) in zip(sums, numbers[first].tolist(), at, spans, strict=True)
    ]


def read_located(tensors: TensorStore, located: Sequence[LocatedTensor]) -> list[NDArray[np.uint8]]:
    """Do as `read_private` for tensors whose places are known; raises `StalePackError` if they have moved since."""
    _fetch(tensors, located)
    out = [np.empty(0, np.uint8)] * len(located)
    mapped: dict[int, list[int]] = {}
    for position, tensor in enumerate(located):
        if tensor.offset == _IN_PARTS:
            out[position] = _join(tensors, tensor)
        else:
            mapped.setdefault(tensor.number, []).append(position)
    for number, positions in mapped.items():
        _map_tensors(tensors.cache.get(number), located, positions, out)
    return out


def _get_offsets(tensors: TensorStore, locations: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the offset of each chunk in its pack's shard; -1 if the pack is encoded."""
    offsets = np.full(len(locations), _IN_PARTS, np.int64)
    for number, rows, where in iter_by_pack(locations):
        pack = tensors.cache.get(number)
        if pack.is_raw:
            offsets[where] = pack.get_offsets(rows)
    return offsets


def _fetch(tensors: TensorStore, located: Sequence[LocatedTensor]) -> None:
    """Fetch absent bytes, all in one request."""
    numbers = {number for tensor in located for number in _list_packs(tensor)}
    partial = {number for number in numbers if tensors.cache.get(number).presence is not None}
    needed = [tensor.locations for tensor in located if partial.intersection(_list_packs(tensor))]
    if needed:
        tensors.ensure_located(np.concatenate(needed))


def _list_packs(tensor: LocatedTensor) -> list[int]:
    if tensor.offset != _IN_PARTS:
        return [tensor.number]
    packs: list[int] = np.unique(tensor.locations >> ROW_BITS).tolist()
    return packs


def _join(tensors: TensorStore, tensor: LocatedTensor) -> NDArray[np.uint8]:
    """Return the chunks joined, each copied or decoded into its place."""
    out = np.empty(tensor.nbytes, np.uint8)
    start = 0
    for location, nbytes in zip(tensor.locations.tolist(), tensor.lengths.tolist(), strict=True):
        out[start : start + nbytes] = tensors.view(location)
        start += nbytes
    return out


def _map_tensors(
    pack: Pack, located: Sequence[LocatedTensor], positions: Sequence[int], out: list[NDArray[np.uint8]]
) -> None:
    """Map tensors that are neighbors in a pack together, and copy those too small for a map."""
    for group in _group_neighbours(located, positions):
        start, stop = located[group[0]].offset, located[group[-1]].end
        memory = None
        if pack.is_mapped and sum(located[position].nbytes for position in group) >= _MAP_AT_LEAST:
            memory = _map_part(pack, start, stop - start)
        for position in group:
            tensor = located[position]
            if memory is None:
                out[position] = pack.read_bytes(tensor.offset, tensor.end).copy()
            else:
                out[position] = memory[tensor.offset - start : tensor.end - start]


def _group_neighbours(located: Sequence[LocatedTensor], positions: Sequence[int]) -> list[list[int]]:
    """Group tensors that follow each other in one pack. Equal ones share a place there, but must not share memory."""
    groups: list[list[int]] = []
    apart: list[list[int]] = []
    end = -_GAP - 1
    for position in sorted(positions, key=lambda position: located[position].offset):
        tensor = located[position]
        if tensor.offset < end:
            apart.append([position])
            continue
        if tensor.offset - end > _GAP:
            groups.append([])
        groups[-1].append(position)
        end = tensor.end
    return groups + apart


def _map_part(pack: Pack, offset: int, nbytes: int) -> NDArray[np.uint8] | None:
    fd = pack.open_shard()
    try:
        return map_private(fd, offset, nbytes)
    finally:
        os.close(fd)
