"""Reads whole tensors into memory that is the caller's own: mapped copy-on-write where they lie raw and in one piece.

A mapped tensor costs no copy and no memory until it is read, and whoever changes it changes private pages only: the
pack's file stays as it is.
"""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stockroom.store.location_table import ROW_BITS, ROW_MASK
from stockroom.store.pack import Pack
from stockroom.store.tensor_store import TensorStore

_MAP_AT_LEAST: Final = 64 << 10
"""Below this many bytes a copy is cheaper than a map of their own."""

_GAP: Final = 1 << 20
"""Tensors no further apart in one pack are mapped together."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """The chunks of one tensor in order: digests `(n, 32)`, and their lengths in bytes `(n,)`."""

    digests: NDArray[np.uint8]
    lengths: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return int(self.lengths.sum())


@dataclass(frozen=True, slots=True)
class _Run:
    """Which tensor lies in one piece at `offset` of a pack's shard."""

    tensor: int
    offset: int
    nbytes: int

    @property
    def end(self) -> int:
        return self.offset + self.nbytes


def read_private(tensors: TensorStore, wanted: Sequence[StoredTensor]) -> list[NDArray[np.uint8]]:
    """The raw bytes of each tensor, `(nbytes,)` uint8, writable and nobody else's.

    What is not on this machine is fetched in one request; `AbsentDataError` if nothing brings it.
    """
    return tensors.retry_when_moved(lambda: _read(tensors, wanted))


def _read(tensors: TensorStore, wanted: Sequence[StoredTensor]) -> list[NDArray[np.uint8]]:
    out = [np.empty(0, np.uint8)] * len(wanted)
    if not wanted:
        return out
    lengths = np.concatenate([tensor.lengths for tensor in wanted])
    locations = tensors.locate(np.concatenate([tensor.digests for tensor in wanted]), lengths)
    tensors.ensure_located(locations)
    starts = np.cumsum([0, *(len(tensor.lengths) for tensor in wanted)]).tolist()
    runs: dict[int, list[_Run]] = {}
    for tensor, (start, stop) in enumerate(itertools.pairwise(starts)):
        mine = locations[start:stop]
        offset = _find_run(tensors, mine, lengths[start:stop])
        if offset is None:
            out[tensor] = _copy(tensors, mine, lengths[start:stop])
        else:
            runs.setdefault(int(mine[0] >> ROW_BITS), []).append(_Run(tensor, offset, wanted[tensor].nbytes))
    for number, mapped in runs.items():
        _map_runs(tensors.cache.get(number), mapped, out)
    return out


def _find_run(tensors: TensorStore, locations: NDArray[np.uint64], lengths: NDArray[np.int64]) -> int | None:
    """Where a tensor's bytes begin in a raw pack's shard, if they lie there in one piece."""
    numbers = locations >> ROW_BITS
    pack = tensors.cache.get(int(numbers[0]))
    if not pack.is_raw or (numbers != numbers[0]).any():
        return None
    offsets = np.array([pack.find_span(row)[0] for row in (locations & ROW_MASK).astype(np.int64).tolist()])
    if (offsets[:-1] + lengths[:-1] != offsets[1:]).any():
        return None
    return int(offsets[0])


def _copy(tensors: TensorStore, locations: NDArray[np.uint64], lengths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The chunks one after the other, each copied or decoded into its place."""
    out = np.empty(int(lengths.sum()), np.uint8)
    start = 0
    for location, nbytes in zip(locations.tolist(), lengths.tolist(), strict=True):
        out[start : start + nbytes] = tensors.view(location)
        start += nbytes
    return out


def _map_runs(pack: Pack, runs: list[_Run], out: list[NDArray[np.uint8]]) -> None:
    """Map neighbours together, and copy what is too small to be worth a map."""
    runs.sort(key=lambda run: run.offset)
    first = 0
    for position in range(1, len(runs) + 1):
        if position < len(runs) and runs[position].offset - runs[position - 1].end <= _GAP:
            continue
        group = runs[first:position]
        start, stop = group[0].offset, max(run.end for run in group)
        first = position
        if sum(run.nbytes for run in group) < _MAP_AT_LEAST:
            for run in group:
                out[run.tensor] = pack.mapping[run.offset : run.end].copy()
            continue
        page = start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        mapped = _map_private(pack, page, stop - page)
        for run in group:
            out[run.tensor] = mapped[run.offset - page : run.end - page]


def _map_private(pack: Pack, offset: int, nbytes: int) -> NDArray[np.uint8]:
    fd = pack.open_shard()
    try:
        return np.frombuffer(mmap.mmap(fd, nbytes, access=mmap.ACCESS_COPY, offset=offset), np.uint8)
    finally:
        os.close(fd)
