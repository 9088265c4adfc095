"""Finds chunks by digest: location tables name candidates, and the packs' own manifests confirm them.

It knows neither the chunks' bytes nor whether they are on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import DIGEST_NBYTES
from stockroom.errors import CorruptionError, LostChunksError, StockroomError, UnreadableError
from stockroom.files import is_exhaustion
from stockroom.store.index.location_index import LocationIndex
from stockroom.store.index.location_table import ROW_BITS, ROW_MASK
from stockroom.store.pack.pack import StalePackError
from stockroom.store.pack.pack_cache import PackCache

Explain: TypeAlias = Callable[[LostChunksError], StockroomError]
_MaySkip: TypeAlias = Callable[[CorruptionError | UnreadableError], bool]
NOWHERE = np.uint64(0xFFFFFFFFFFFFFFFF)
"""The location of a chunk that no pack holds."""


class _Failure(NamedTuple):
    """A pack that cannot be opened, and the positions of the chunks that it may hold."""

    pack: int
    positions: NDArray[np.int64]
    error: CorruptionError | UnreadableError


class ChunkSearch:
    """Finds the locations `(n,)` uint64 of chunks by their digests `(n, 32)` uint8; `TensorStore` defines both."""

    def __init__(self, index: LocationIndex, cache: PackCache, *, explain: Explain | None = None) -> None:
        """Search `index`; `explain` returns the error to raise instead of that for lost chunks."""
        self._index = index
        self._cache = cache
        self._explain: Explain = explain or (lambda error: error)
        self._avoided: frozenset[int] = frozenset()

    def find(
        self, digests: NDArray[np.uint8], *, outside: Collection[int] = (), skip_damaged: bool = False
    ) -> NDArray[np.uint64]:
        """Return the location of each chunk as far as this process knows, or `NOWHERE` if no pack holds it.

        Of several, a pack that is entirely on this machine is preferred, then the newest. Packs `outside` are excluded.
        A damaged pack, or one that cannot be read, does not hide the copies in others; it raises if it may hold the
        only copy, unless `skip_damaged`.
        """
        failures: list[_Failure] = []
        found = np.full(len(digests), NOWHERE, np.uint64)
        skipped = np.fromiter(outside, np.uint64)
        for positions, candidates in self._index.iter_candidates(digests):
            if len(skipped):
                is_open = ~np.isin(candidates >> ROW_BITS, skipped)
                positions, candidates = positions[is_open], candidates[is_open]
            confirmed, failed = self._confirm(digests[positions], candidates, may_skip=_is_closed)
            failures += [_Failure(each.pack, positions[each.positions], each.error) for each in failed]
            positions, candidates = positions[confirmed], candidates[confirmed]
            is_better = found[positions] == NOWHERE
            if not is_better.all():
                is_better |= self._is_whole(candidates) & ~self._is_whole(found[positions])
            found[positions[is_better]] = candidates[is_better]
        for failure in () if skip_damaged else failures:
            if (found[failure.positions] == NOWHERE).any():
                raise failure.error
        self._avoided |= {failure.pack for failure in failures}  # each attempt to open one takes a while
        return found

    def locate_all(self, digests: NDArray[np.uint8], *renewals: Callable[[], object]) -> NDArray[np.uint64]:
        """Return the location of every chunk, preferring packs that are not avoided.

        While some chunks are not found, each of `renewals` loads additions of other processes and returns whether there
        were any. Raises `LostChunksError`, or the error that explains it, if chunks are still not found.
        """
        locations = self.find(digests, outside=self._avoided)
        if not (locations == NOWHERE).any():
            return locations
        found = self._locate_renewed(digests, renewals)
        missing = digests[found == NOWHERE]
        if len(missing):
            raise self._explain(make_lost_error(missing))
        return np.where(locations == NOWHERE, found, locations)

    def iter_copies(
        self, digests: NDArray[np.uint8], *, skip_unreadable: bool = False
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint64]]]:
        """Yield batches of `(positions in digests, locations)`: every copy in sound packs that this process knows.

        Packs that cannot be read raise `UnreadableError`, or are skipped with `skip_unreadable`.
        """
        may_skip = _is_closed if skip_unreadable else _is_damaged
        for positions, candidates in self._index.iter_candidates(digests):
            confirmed, _ = self._confirm(digests[positions], candidates, may_skip=may_skip)
            yield positions[confirmed], candidates[confirmed]

    def check_lengths(
        self, digests: NDArray[np.uint8], locations: NDArray[np.uint64], expected: NDArray[np.int64] | int
    ) -> None:
        """Raise `CorruptionError` unless the chunks at `locations` have the expected lengths in bytes."""
        wanted = np.broadcast_to(np.asarray(expected, np.int64), len(digests))
        for number, rows, where in iter_by_pack(locations):
            lengths = self._cache.get(number).measure_rows(rows)
            wrong = np.flatnonzero(lengths != wanted[where])
            if len(wrong):
                name = digests[where[wrong[0]]].tobytes().hex()
                raise CorruptionError(
                    f"chunk {name}: its entry says {wanted[where[wrong[0]]]} bytes, found "
                    f"{lengths[wrong[0]]}; run `stock fsck`",
                    where=name,
                )

    def avoid(self, wanted: Mapping[int, NDArray[np.uint8]]) -> bool:
        """Avoid packs, by number, if other packs hold all chunks wanted of them; returns whether there are any."""
        outside = self._avoided | wanted.keys()
        found = {
            number
            for number, digests in wanted.items()
            if (self.find(digests, outside=outside, skip_damaged=True) != NOWHERE).all()
        }
        self._avoided |= found
        return bool(found)

    def _locate_renewed(
        self, digests: NDArray[np.uint8], renewals: Collection[Callable[[], object]]
    ) -> NDArray[np.uint64]:
        for renew in renewals:
            if renew():
                locations = self.find(digests)
                if not (locations == NOWHERE).any():
                    return locations
        return self.find(digests)

    def _is_whole(self, locations: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return whether the pack of each location, or `NOWHERE`, can be opened and is entirely on this machine."""
        numbers, which = np.unique(locations >> ROW_BITS, return_inverse=True)
        is_whole = np.zeros(len(numbers), bool)
        for index, number in enumerate(numbers.tolist()):
            if number != NOWHERE >> ROW_BITS:
                with suppress(CorruptionError, UnreadableError, StalePackError):
                    is_whole[index] = self._cache.get(number).presence is None
        return is_whole[which]

    def _confirm(
        self, digests: NDArray[np.uint8], candidates: NDArray[np.uint64], *, may_skip: _MaySkip
    ) -> tuple[NDArray[np.bool_], list[_Failure]]:
        """Return whether each candidate really holds its digest, by the packs' own manifests; and the packs skipped."""
        confirmed = np.zeros(len(candidates), bool)
        failures: list[_Failure] = []
        for number, rows, where in iter_by_pack(candidates):
            try:
                manifest = self._cache.get_manifest(number)
            except StalePackError:
                continue
            except (CorruptionError, UnreadableError) as error:
                if not may_skip(error):
                    raise
                failures.append(_Failure(number, where, error))
                continue
            is_inside = rows < manifest.rows
            inside = where[is_inside]
            kept = manifest.digests[rows[is_inside]]
            confirmed[inside] = (kept == digests[inside]).reshape(-1, DIGEST_NBYTES).all(axis=1)
        return confirmed, failures


def _is_damaged(error: Exception) -> bool:
    return isinstance(error, CorruptionError)


def _is_closed(error: Exception) -> bool:
    """Return whether only this pack cannot be opened; otherwise no other could be opened either."""
    return not (isinstance(error, UnreadableError) and is_exhaustion(error))


def make_lost_error(digests: NDArray[np.uint8]) -> LostChunksError:
    """Return the error for chunks `(n, 32)`, at least one, that no pack holds."""
    first = digests[0].tobytes().hex()
    which = f"chunk {first} is" if len(digests) == 1 else f"chunk {first} and {len(digests) - 1} more are"
    return LostChunksError(f"{which} in no pack; run `stock fsck`", where=first)


def iter_by_pack(locations: NDArray[np.uint64]) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield for each pack in `locations` its number, the rows there, and the positions of these in `locations`."""
    numbers, rows = (locations >> ROW_BITS).astype(np.int64), (locations & ROW_MASK).astype(np.int64)
    if not len(numbers):
        return
    if (numbers == numbers[0]).all():  # as for a single location
        yield int(numbers[0]), rows, np.arange(len(rows))
        return
    order = np.argsort(numbers, kind="stable")
    numbers, rows = numbers[order], rows[order]
    bounds = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist(), len(order)]
    for start, stop in pairwise(bounds):
        yield int(numbers[start]), rows[start:stop], order[start:stop]
