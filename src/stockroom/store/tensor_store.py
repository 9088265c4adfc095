"""Finds (`locate`) and reads (`gather`) chunks by digest; requests absent units of packs from a `Fetcher`."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import PackDigest
from stockroom.errors import AbsentDataError, CorruptionError, RemoteError
from stockroom.files import make_folder
from stockroom.store.fetcher import Fetcher, NoFetcher, Wanted
from stockroom.store.index.catalog import Catalog
from stockroom.store.index.chunk_search import NOWHERE, ChunkSearch, Explain, iter_by_pack
from stockroom.store.index.location_index import LocationIndex
from stockroom.store.index.location_table import ROW_BITS, ROW_MASK
from stockroom.store.index.shared_vectors import open_shared_vector
from stockroom.store.index.unregistered import list_unregistered
from stockroom.store.pack.layout import SHARD_NAME, locate_pack
from stockroom.store.pack.manifest import Manifest
from stockroom.store.pack.map_budget import BUDGET
from stockroom.store.pack.pack import Pack, StalePackError, raise_absent
from stockroom.store.pack.pack_cache import GatherPlan, OpenPacks, PackCache
from stockroom.store.pack.pack_lock import lock_packs
from stockroom.store.pack.presence import PRESENCE_NAME
from stockroom.store.pack.window import copy_rows

T = TypeVar("T")
_MOVES_AT_MOST = 10
_FETCHES_AT_MOST = 2  # units may be dropped again just after they were fetched


class TensorStore:
    """The chunks under one repository folder, for reading.

    Digests are `(n, 32)` uint8. Locations are `(n,)` uint64: pack number in the high 32 bits, row in the low 32.
    """

    def __init__(self, root: Path, *, fetcher: Fetcher | None = None) -> None:
        self.packs_directory = root / "packs"
        self.tmp_directory = root / "tmp"
        for directory in (self.packs_directory, self.tmp_directory, root / "index"):
            if not directory.is_dir():  # checked first: the folder may be read-only
                make_folder(directory)
        self._vectors_directory = root / "vectors"
        self.catalog = Catalog(root / "catalog")
        self.index = LocationIndex(root / "index", self.catalog, self.packs_directory)
        self.cache = PackCache(
            self.packs_directory, find_digest=self.catalog.find_digest, forget_digest=self.catalog.forget
        )
        self.fetcher: Fetcher = NoFetcher() if fetcher is None else fetcher
        self._search = ChunkSearch(self.index, self.cache)

    def explain_losses(self, explain: Explain) -> TensorStore:
        """Return this store for readers: `explain` returns the error that they get for lost chunks."""
        store = copy(self)
        store._search = ChunkSearch(self.index, self.cache, explain=explain)
        return store

    def close(self) -> None:
        """Close the catalog and release every map; arrays returned as views stay valid."""
        self.cache.forget()
        self.catalog.close()
        self.fetcher.close()

    def contains(self, digests: NDArray[np.uint8], *, outside: Collection[int] = ()) -> NDArray[np.bool_]:
        """Return whether a pack holds each chunk, as `(n,)`, as far as this process knows now.

        Packs `outside` do not count, nor do packs that are lost or cannot be opened: their chunks must be put again.
        """
        return np.not_equal(self.find(digests, outside=outside), NOWHERE)

    def find(self, digests: NDArray[np.uint8], *, outside: Collection[int] = ()) -> NDArray[np.uint64]:
        """Return the location of each chunk that `contains` finds, as `(n,)`; `NOWHERE` for the others."""
        return self._search.find(digests, outside=outside, skip_damaged=True)

    def iter_copies(
        self, digests: NDArray[np.uint8], *, skip_unreadable: bool = False
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint64]]]:
        """Yield batches of `(positions in digests, locations)`: every copy in sound packs that this process knows.

        Packs that cannot be read raise `UnreadableError`, or are skipped with `skip_unreadable`.
        """
        return self._search.iter_copies(digests, skip_unreadable=skip_unreadable)

    def locate(
        self, digests: NDArray[np.uint8], row_nbytes: NDArray[np.int64] | int | None = None
    ) -> NDArray[np.uint64]:
        """Return each chunk's location; raises `CorruptionError` if no pack holds it, or it is not of `row_nbytes`.

        Only locations found with `row_nbytes` may be passed to `gather`.
        """
        return self.retry_when_moved(lambda: self._locate(digests, row_nbytes))

    def _locate(self, digests: NDArray[np.uint8], row_nbytes: NDArray[np.int64] | int | None) -> NDArray[np.uint64]:
        locations = self._search.locate_all(digests, self.index.refresh, self.recover)
        if row_nbytes is not None:
            self._search.check_lengths(digests, locations, row_nbytes)
        return locations

    def share_vector(self, depends_on: bytes, nbytes: int) -> NDArray[np.uint8] | None:
        """Return zeros `(nbytes,)` that all processes of this user fill, as far as they have; None if impossible."""
        identity = self.catalog.read_identity()
        if identity is None:
            return None
        return open_shared_vector(self._vectors_directory, b"%s %s" % (depends_on, identity), nbytes)

    def gather(self, locations: NDArray[np.uint64], row_nbytes: int) -> NDArray[np.uint8]:
        """Return a copy of chunks of one length, located by `locate`, as `(n, row_nbytes)`.

        Each block is decoded at most once. Raises `AbsentDataError` if bytes are absent and cannot be fetched.
        """
        numbers = (locations >> ROW_BITS).view(np.int64)
        opened = self.cache.opened
        starts = opened.find_starts(numbers)
        if starts is None:
            del opened  # so that packs can make room
            return self._gather_groups(numbers, locations, row_nbytes)
        opened.used[numbers] = BUDGET.clock
        return copy_rows(starts + (locations & ROW_MASK).view(np.int64) * row_nbytes, row_nbytes)

    def plan_gather(
        self, locations: NDArray[np.uint64], row_nbytes: int, *, among: NDArray[np.int64]
    ) -> GatherPlan | None:
        """Return a plan to gather any of these chunks, all in the packs `among`; None unless all of them are open.

        A partial or encoded pack allows no plan. Opens no pack.
        """
        numbers, rows = (locations >> ROW_BITS).view(np.int64), (locations & ROW_MASK).view(np.int64)
        return self.cache.plan_gather(numbers, rows, row_nbytes, among=among)

    def iter_packs(self) -> Iterator[Pack]:
        """Yield every pack, opened for this iteration only."""
        for digest in self.catalog.read_packs().values():
            yield Pack(locate_pack(self.packs_directory, digest), digest)

    def iter_sizes(self) -> Iterator[tuple[int, int]]:
        """Yield every pack's shard size, and roughly how many of its bytes are present; whole packs are not opened."""
        for digest in self.catalog.read_packs().values():
            directory = locate_pack(self.packs_directory, digest)
            try:
                files = {entry.name: entry.stat().st_size for entry in os.scandir(directory)}
            except FileNotFoundError:  # lost, or being moved
                continue
            nbytes = sum(size for name, size in files.items() if name.startswith(f"{SHARD_NAME}."))
            yield nbytes, Pack(directory, digest).measure_present() if PRESENCE_NAME in files else nbytes

    def iter_partial_packs(self) -> Iterator[Pack]:
        """Return the packs that are not entirely on this machine."""
        return (pack for pack in self.iter_packs() if pack.presence is not None)

    def check_present(self, wanted: Wanted, *, why: str) -> None:
        """Raise `AbsentDataError`, saying why, unless these units of packs are on this machine."""
        for digest, units in wanted:
            pack = Pack(locate_pack(self.packs_directory, digest), digest)
            absent = pack.list_absent_units(units)
            if len(absent):
                raise_absent(pack, absent, why=why)

    def list_packs(self, digests: NDArray[np.uint8], *, avoid: Collection[bytes] = ()) -> list[PackDigest]:
        """Return the packs that hold these chunks; packs to `avoid` only for chunks that no others hold."""
        numbers = np.unique(self.locate_outside(digests, avoid=avoid) >> ROW_BITS)
        return [self.cache.get(int(number)).digest for number in numbers]

    def locate_outside(self, digests: NDArray[np.uint8], *, avoid: Collection[bytes]) -> NDArray[np.uint64]:
        """Return the location of each chunk as `locate`, in packs to `avoid` only if no others hold it."""
        avoided = [number for number, pack in self.catalog.read_packs().items() if pack in avoid] if avoid else []
        locations = self._search.find(digests, outside=avoided) if avoided else self.locate(digests)
        is_left = locations == NOWHERE
        if is_left.any():
            locations[is_left] = self.locate(digests[is_left])
        return locations

    def read(self, location: int) -> bytearray:
        """Return a copy of the raw bytes of one chunk."""
        pack, row = self._open_row(location)
        return pack.read_row(row)

    def view(self, location: int) -> NDArray[np.uint8]:
        """Return the raw bytes of one chunk, read-only; a view if the pack is raw, else a copy."""
        pack, row = self._open_row(location)
        if pack.is_raw:
            return pack.view_row(row)
        copied = np.frombuffer(pack.read_row(row), np.uint8)
        copied.flags.writeable = False
        return copied

    def view_rows(self, number: int) -> NDArray[np.uint8] | None:
        """Return a view of a pack's rows, read-only `(rows, row_nbytes)`; None unless it is raw, uniform and whole."""
        pack = self.cache.get(number)
        if not (pack.is_raw and pack.is_mapped) or pack.layout.is_ragged or pack.presence is not None:
            return None
        row_nbytes = pack.layout.unit_nbytes
        return pack.mapping[: pack.rows * row_nbytes].reshape(pack.rows, row_nbytes)

    def read_many(self, locations: NDArray[np.uint64]) -> list[bytearray]:
        """Return the raw bytes of chunks of any lengths, decoding each block at most once."""
        out: list[bytearray] = [bytearray()] * len(locations)
        self._ensure_all_present(locations)
        for pack, rows, where in self._iter_packs(locations):
            for position, data in zip(where.tolist(), pack.read_rows(rows.tolist()), strict=True):
                out[position] = data
        return out

    def retry_when_moved(self, read: Callable[[], T]) -> T:
        """Return the result of `read`; try again if a pack is rewritten between locating and reading its chunks."""
        for _ in range(_MOVES_AT_MOST):
            try:
                return read()
            except StalePackError:
                self.cache.forget()  # a pack may have been replaced by another folder of the same name
                self.index.refresh()
        return read()

    def is_present(self, digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return whether each chunk's bytes are on this machine, as `(n,)`."""
        return self.retry_when_moved(lambda: self._mask_present(self.locate(digests)))

    def _mask_present(self, locations: NDArray[np.uint64]) -> NDArray[np.bool_]:
        present = np.zeros(len(locations), bool)
        for pack, rows, where in self._iter_packs(locations):
            present[where] = ~pack.mask_absent(rows)
        return present

    def ensure_present(self, digests: NDArray[np.uint8]) -> None:
        """Fetch absent chunks; raises `AbsentDataError` if they cannot be fetched."""
        self.retry_when_moved(lambda: self._ensure_all_present(self.locate(digests)))

    def ensure_located(self, locations: NDArray[np.uint64]) -> None:
        """Fetch absent chunks whose locations are known, as `ensure_present` does."""
        self._ensure_all_present(locations)

    def hint(self, locations: NDArray[np.uint64], *, goes_on: bool = False) -> None:
        """Announce that chunks will be read soon, and whether more will follow; they may be fetched meanwhile."""
        with suppress(StalePackError):
            for partial in self._group_partial(locations):
                if wanted := _list_absent(partial):
                    self.fetcher.hint([(pack.digest, units) for pack, units in wanted], goes_on=goes_on)

    def is_partial(self) -> bool:
        """Return whether any pack here has a presence map; a pack without one is whole."""
        with suppress(OSError):  # a folder that cannot be read has no pack to fetch
            return any(
                os.access(f"{pack.path}/{PRESENCE_NAME}", os.F_OK)  # no Path: there may be very many packs
                for parent in os.scandir(self.packs_directory)
                if parent.is_dir()
                for pack in os.scandir(parent.path)
            )
        return False

    def list_absent(self, digests: NDArray[np.uint8]) -> list[tuple[PackDigest, NDArray[np.int64]]]:
        """Return the absent units of packs that these chunks need."""
        return self.retry_when_moved(lambda: self._list_absent(self.locate(digests)))

    def _list_absent(self, locations: NDArray[np.uint64]) -> list[tuple[PackDigest, NDArray[np.int64]]]:
        found = [(pack.digest, pack.list_absent(rows)) for pack, rows, _ in self._iter_packs(locations)]
        return [(pack, units) for pack, units in found if len(units)]

    def register(self, packs: Sequence[tuple[PackDigest, Manifest]], *, may_join: bool = True) -> None:
        """Make synced packs findable, except packs already rewritten into others, which hold their chunks.

        Without `may_join`, writers leave small ones as they are: a remote holds them too.
        """
        if not packs:
            return
        with lock_packs(self.packs_directory, alone=False):
            here = [(digest, manifest) for digest, manifest in packs if self._is_in_place(digest)]
            self.index.register(here, may_join=may_join)
        self.index.merge_due()
        registered = {digest for digest, _ in here}
        for digest, manifest in packs:
            if digest not in registered and not self.contains(manifest.digests).all():
                raise CorruptionError(
                    f"pack {digest.hex()}: was removed before registration; write its samples again",
                    where=digest.hex(),
                )

    def recover(self) -> int:
        """Register every pack on disk that the catalog lacks; returns their number."""
        found = list_unregistered(self.packs_directory, set(self.catalog.read_packs().values()))
        self.register(found)
        return len(found)

    def _is_in_place(self, digest: PackDigest) -> bool:
        return locate_pack(self.packs_directory, digest).is_dir()

    def _open_row(self, location: int) -> tuple[Pack, int]:
        number, row = int(location) >> 32, int(location) & 0xFFFFFFFF
        pack = self.cache.get(number)
        if pack.presence is not None:
            self._ensure_present([(pack, np.array([row], np.int64))])
        return pack, row

    def _iter_packs(self, locations: NDArray[np.uint64]) -> Iterator[tuple[Pack, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield each pack that holds some of `locations`, the rows there, and the positions of these in `locations`."""
        for number, rows, where in iter_by_pack(locations):
            yield self.cache.get(number), rows, where

    def _gather_groups(
        self, numbers: NDArray[np.int64], locations: NDArray[np.uint64], row_nbytes: int
    ) -> NDArray[np.uint8]:
        """Gather, opening packs that are not open, as many at a time as may be."""
        out = np.empty((len(locations), row_nbytes), np.uint8)
        order = np.argsort(numbers, kind="stable")
        unique, starts = np.unique(numbers[order], return_index=True)
        for first in range(0, len(unique), self.cache.limit):
            group = unique[first : first + self.cache.limit]
            opened = self.cache.open_packs(group.tolist())
            stop = starts[first + len(group)] if first + len(group) < len(unique) else len(order)
            self._gather_open(opened, numbers, locations, out, order[starts[first] : stop])
        return out

    def _gather_open(
        self,
        opened: OpenPacks,
        numbers: NDArray[np.int64],
        locations: NDArray[np.uint64],
        out: NDArray[np.uint8],
        where: NDArray[np.int64],
    ) -> None:
        """Gather the chunks at the positions `where` into `out`, from packs that are all open."""
        row_nbytes = out.shape[1]
        starts = opened.starts[numbers[where]]
        rows = (locations[where] & ROW_MASK).view(np.int64)
        others = np.flatnonzero(starts <= 0)
        mine = [(number, some, others[at]) for number, some, at in iter_by_pack(locations[where[others]])]
        self._ensure_present([(opened.packs[number], some) for number, some, _ in mine])
        for number, some, at in mine:
            starts[at] = opened.open_partial(number)
            if starts[at[0]] <= 0:
                read = opened.packs[number].read_rows(some.tolist())
                for position, data in zip(where[at].tolist(), read, strict=True):
                    out[position] = np.frombuffer(data, np.uint8)
        direct = np.flatnonzero(starts > 0)
        if len(direct):
            out[where[direct]] = copy_rows(starts[direct] + rows[direct] * row_nbytes, row_nbytes)

    def _ensure_all_present(self, locations: NDArray[np.uint64]) -> None:
        """Fetch the absent units of these chunks in one request, or in as few as the limit on open packs allows."""
        for partial in self._group_partial(locations):
            self._ensure_present(partial)

    def _group_partial(self, locations: NDArray[np.uint64]) -> Iterator[list[tuple[Pack, NDArray[np.int64]]]]:
        """Yield the partial packs and the rows there, in groups small enough to be open beside the cached packs."""
        group: list[tuple[Pack, NDArray[np.int64]]] = []
        for pack, rows, _ in self._iter_packs(locations):
            if pack.presence is not None:
                group.append((pack, rows))
            if len(group) == 2 * self.cache.limit:
                yield group
                group = []
        if group:
            yield group

    def _ensure_present(self, needed: Sequence[tuple[Pack, NDArray[np.int64]]]) -> None:
        """Fetch the absent rows of all these packs in one request."""
        wanted = _list_absent(needed)
        for _ in range(_FETCHES_AT_MOST):
            if not wanted:
                return
            try:
                self.fetcher.fetch([(pack.digest, absent) for pack, absent in wanted])
            except (AbsentDataError, RemoteError):
                numbers = {digest: number for number, digest in self.catalog.read_packs().items()}
                known = [(pack, rows) for pack, rows in needed if pack.digest in numbers]
                if not self._search.avoid({numbers[pack.digest]: pack.manifest.digests[rows] for pack, rows in known}):
                    raise
                raise StalePackError(wanted[0][0].digest) from None
            wanted = _list_absent(needed)
        if not wanted:
            return
        for pack, absent in wanted:
            if len(Pack(pack.directory, pack.digest).list_absent_units(absent)):
                raise_absent(pack, absent, why=self.fetcher.why)
        self.cache.forget()  # the folder that this process has open was dropped and replaced by another
        raise StalePackError(wanted[0][0].digest)


def _list_absent(needed: Sequence[tuple[Pack, NDArray[np.int64]]]) -> list[tuple[Pack, NDArray[np.int64]]]:
    absent = [(pack, pack.list_absent(rows)) for pack, rows in needed if pack.presence is not None]
    return [(pack, units) for pack, units in absent if len(units)]
