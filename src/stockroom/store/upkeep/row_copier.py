"""Copies rows of packs into new packs, kind by kind, and registers those."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import PackDigest, check_digest
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.pack import Pack
from stockroom.store.pack.pack_writer import PackWriter
from stockroom.store.pack.writer_folder import PUBLISHING_SUFFIX, create_writer_folder
from stockroom.store.tensor_store import TensorStore

_BATCH_NBYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class PlannedPack:
    """A pack to be rewritten with `codec`; `nbytes` counts its raw bytes."""

    number: int
    digest: PackDigest
    dtype: str
    item_shape: tuple[int, ...] | None
    codec: str
    rows: int
    nbytes: int

    @property
    def kind(self) -> tuple[str, tuple[int, ...] | None, str]:
        """The properties that packs must share for their rows to go into one: dtype, item shape, codec."""
        return self.dtype, self.item_shape, self.codec


def describe_pack(number: int, pack: Pack, codec: str | None = None) -> PlannedPack:
    """Return the plan to rewrite an open pack with `codec`, None for its own."""
    layout = pack.layout
    nbytes = pack.manifest.units * layout.unit_nbytes
    wanted = str(layout.codec) if codec is None else codec
    return PlannedPack(number, pack.digest, layout.dtype, layout.item_shape, wanted, pack.rows, nbytes)


class RowCopier:
    """Takes rows of packs; fills one new pack at a time. Packs of one kind must follow each other.

    Args:
        store: the store of all these packs.
        on_made: called with each new pack before it is in its place.
        may_join: whether writers may join the new packs with others.
    """

    def __init__(
        self, store: TensorStore, *, on_made: Callable[[PackDigest], None] = lambda _: None, may_join: bool = True
    ) -> None:
        self.made: list[PackDigest] = []
        self._store = store
        self._on_made = on_made
        self._may_join = may_join
        self.directory, self._lock = create_writer_folder(store.tmp_directory)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="stockroom-repack")
        self._writer: PackWriter | None = None
        self._kind: tuple[str, tuple[int, ...] | None, str] | None = None

    @property
    def unfinished(self) -> Collection[bytes]:
        """The digests of the rows in the pack that is not full yet."""
        return () if self._writer is None else self._writer.digests

    def copy(self, planned: PlannedPack, pack: Pack, rows: NDArray[np.int64], skip: set[bytes]) -> None:
        """Write these rows of `pack`, opened `careful`, unless their digests are in `skip`, where they are added.

        Raises `DigestMismatchError` if a row does not match its digest, and `UnreadableError` if it cannot be read.
        """
        if planned.kind != self._kind:
            self.finish()
            self._kind = planned.kind
        for batch in _split_rows(pack, rows):
            for row, data in zip(batch, pack.read_rows(batch), strict=True):
                digest = pack.manifest.digests[row].tobytes()
                check_digest(data, digest, where=f"pack {planned.digest.hex()} row {row}")
                if digest not in skip:
                    skip.add(digest)
                    self._take(bytes(data), digest, planned)

    def finish(self) -> None:
        """Publish and register the pack being filled."""
        if self._writer is None:
            return
        sealed = self._writer.seal()
        (self.directory / f"{sealed.digest.hex()}{PUBLISHING_SUFFIX}").touch()
        self._on_made(sealed.digest)
        self._writer.publish(sealed, locate_pack(self._store.packs_directory, sealed.digest))
        self._writer = None
        self._store.register([(sealed.digest, sealed.manifest)], may_join=self._may_join)
        self.made.append(sealed.digest)

    def close(self) -> None:
        """Remove unfinished packs, and release the lock."""
        if self._writer is not None:
            self._writer.abort()
        self._executor.shutdown()
        shutil.rmtree(self.directory, ignore_errors=True)
        self._lock.release()

    def _take(self, data: bytes, digest: bytes, planned: PlannedPack) -> None:
        if self._writer is not None and self._writer.count_room(len(data)) <= 0:
            self.finish()
        if self._writer is None:
            self._writer = PackWriter(
                self.directory / str(len(self.made)),
                dtype=planned.dtype,
                item_shape=planned.item_shape,
                codec=planned.codec,
                executor=self._executor,
            )
        self._writer.append_row(data, digest)


def _split_rows(pack: Pack, rows: NDArray[np.int64]) -> Iterator[list[int]]:
    """Yield runs of `rows` of about 8 MiB each."""
    if pack.body_nbytes <= _BATCH_NBYTES:
        yield rows.tolist()
        return
    batches = np.cumsum(pack.measure_rows(rows)) // _BATCH_NBYTES
    for batch in np.split(rows, np.flatnonzero(np.diff(batches)) + 1):
        if len(batch):
            yield batch.tolist()
