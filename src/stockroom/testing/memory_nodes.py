"""A node store in a dictionary that counts its requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from stockroom.digest import ObjectDigest, compute_digest

T = TypeVar("T")


class MemoryNodes:
    """Objects by digest, in memory. `gets` and `puts` count objects; `objects` holds them."""

    def __init__(self) -> None:
        self.objects: dict[bytes, bytes] = {}
        self.gets = 0
        self.puts = 0

    def get_object(self, digest: ObjectDigest) -> bytes:
        """Return the bytes stored under `digest`. Raises `KeyError` if there are none."""
        self.gets += 1
        return self.objects[digest]

    def get_objects(self, digests: Sequence[ObjectDigest]) -> list[bytes]:
        """Return the bytes stored under each of `digests`, in their order."""
        return [self.get_object(digest) for digest in digests]

    def read_at_once(self, fn: Callable[[], T]) -> T:
        """Return the result of `fn`: there are no transactions here."""
        return fn()

    def put_object(self, data: bytes) -> ObjectDigest:
        """Store `data` and return its digest."""
        self.puts += 1
        digest = ObjectDigest(compute_digest(data))
        self.objects[digest] = data
        return digest

    def reset_counts(self) -> None:
        """Reset the counts to zero."""
        self.gets = self.puts = 0
