"""The staged content: a root tree, and the changes of paths that are not in it yet.

A change costs no tree node. All changes since the last look at the tree go into it together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from stockroom.content.snapshot import ROOT_FORMAT, Snapshot
from stockroom.digest import DIGEST_NBYTES, ObjectDigest


class StagedRoot:
    """The records by path. An interrupt between two steps of a method loses no change."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._changes: dict[str, ObjectDigest | None] = {}
        self._counts: dict[str, int] = {}

    def apply(self) -> Snapshot:
        """Return the content with all changes in its tree."""
        if self._changes:
            puts = {path: digest for path, digest in self._changes.items() if digest is not None}
            values = np.frombuffer(b"".join(puts.values()), np.uint8).reshape(-1, DIGEST_NBYTES)
            deletes = [path for path, digest in self._changes.items() if digest is None]
            tree = self._snapshot.tree.edit(list(puts), values, deletes=deletes)
            self._snapshot = Snapshot(self._snapshot.nodes, tree.root)
            self._changes = {}  # last: after an interrupt the next call repeats it all
        return self._snapshot

    def change(self, puts: Mapping[str, ObjectDigest], deletes: Iterable[str] = ()) -> None:
        """Set the records at some paths and delete others; raises `InvalidInputError` if one cannot be a path."""
        changes = {str(ROOT_FORMAT.check_key(path)): digest for path, digest in puts.items()}
        both: dict[str, ObjectDigest | None] = {**changes, **dict.fromkeys(deletes)}
        counts, self._counts = self._counts, {}  # an interrupt leaves none, so names are counted again
        for path, digest in both.items() if counts else ():
            shelf = path.partition("/")[0]
            if shelf in counts:
                counts[shelf] += (digest is not None) - (self.find_digest(path) is not None)
        self._changes.update(both)
        self._counts = counts

    def find_digest(self, path: str) -> ObjectDigest | None:
        """Return the digest of the record at a path, or None."""
        if path in self._changes:
            return self._changes[path]
        return self._snapshot.find_digest(path)

    def count_names(self, shelf: str) -> int:
        """Return the number of names on a shelf. The first call counts in the tree, and changes adjust the result."""
        if shelf not in self._counts:
            self._counts[shelf] = self.apply().count_names(shelf)
        return self._counts[shelf]
