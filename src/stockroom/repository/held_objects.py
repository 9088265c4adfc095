"""The objects of a repository as a reader of one commit sees them.

Kept apart: `holds.py` knows files and locks, and no objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from stockroom.digest import CommitId, ObjectDigest
from stockroom.errors import CollectedError, CorruptionError
from stockroom.refs import ObjectStore
from stockroom.repository.holds import Hold


class HeldObjects:
    """A `NodeStore` that holds its commit. If gc has deleted it, missing objects raise `CollectedError`."""

    def __init__(
        self, objects: ObjectStore, hold: Hold, *, find_collected: Callable[[CommitId], CollectedError | None]
    ) -> None:
        self._objects = objects
        self._hold = hold
        self._find_collected = find_collected

    def get_object(self, digest: ObjectDigest) -> bytes:
        """Return the bytes stored under `digest`."""
        try:
            return self._objects.get_object(digest)
        except CorruptionError as error:
            self._refuse(error)

    def get_objects(self, digests: Sequence[ObjectDigest]) -> list[bytes]:
        """Return the bytes stored under each of `digests`, in their order."""
        try:
            return self._objects.get_objects(digests)
        except CorruptionError as error:
            self._refuse(error)

    def put_object(self, data: bytes) -> ObjectDigest:
        """Store `data` and return its digest."""
        return self._objects.put_object(data)

    def _refuse(self, error: CorruptionError) -> NoReturn:
        """Raise `CollectedError` if gc deleted the commit, otherwise the error itself."""
        collected = self._find_collected(self._hold.commit)
        if collected is None:
            raise error
        raise collected from error
