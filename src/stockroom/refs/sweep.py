"""Deletes unreachable commits and objects. A `Liveness` from the layer above decides, inside the transaction.

Commits and old dropped stages are deleted first, in one transaction: after it, no ref or stage can be moved to one of
them. Their objects follow.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from stockroom.digest import CommitId, ObjectDigest
from stockroom.kv import Environment, ReadTxn, WriteTxn
from stockroom.refs.anchors import Anchors, read_anchors
from stockroom.refs.dropped import DATABASE as DROPPED
from stockroom.refs.dropped import list_old
from stockroom.refs.links import DATABASE as LINKS
from stockroom.refs.marks import MarkKind, is_marked, note_collected, unmark
from stockroom.refs.objects import DATABASE as OBJECTS

_OBJECTS_AT_ONCE: Final = 4096


class Liveness(Protocol):
    """Decides which commits and objects are reachable."""

    def look_again(self, anchors: Anchors, unmarked: Collection[CommitId]) -> None:
        """Load the current anchors, and commits that were to be deleted and are used again."""

    def is_reachable(self, digest: bytes) -> bool:
        """Return whether a commit or an object is reachable."""


@dataclass(frozen=True, slots=True)
class Swept:
    """The numbers of commits and objects deleted."""

    commits: int = 0
    objects: int = 0


class Sweeper:
    """Deletes commits and objects that are not live."""

    def __init__(self, env: Environment, liveness: Liveness, *, since_ns: int, after: int) -> None:
        """Keep the commits and stages of operations from `since_ns` on; `liveness` knows those up to number `after`."""
        self._env = env
        self._liveness = liveness
        self._since_ns = since_ns
        self._after = after

    def read_anchors(self) -> Anchors:
        """Return the current anchors."""
        return self._env.view(self._look)

    def sweep(self, commits: Sequence[CommitId], objects: Sequence[ObjectDigest]) -> Swept:
        """Delete these, except those that are needed or have lost their marks by then."""
        is_needed = bool(commits) or self._env.view(lambda txn: bool(self._list_old_stages(txn)))
        gone = self._env.update(lambda txn: self._sweep_commits(txn, commits)) if is_needed else 0
        taken = 0
        for some in _split(objects):
            taken += self._env.update(lambda txn, some=some: self._sweep_objects(txn, some))  # type: ignore[misc]
        return Swept(gone, taken)

    def _look(self, txn: ReadTxn) -> Anchors:
        return read_anchors(txn, since_ns=self._since_ns, after=self._after)

    def _list_old_stages(self, txn: ReadTxn) -> set[bytes]:
        return list_old(txn, since_ns=self._since_ns)

    def _sweep_commits(self, txn: WriteTxn, commits: Sequence[CommitId]) -> int:
        self._liveness.look_again(self._look(txn), [c for c in commits if not is_marked(txn, MarkKind.COMMIT, c)])
        for digest in self._list_old_stages(txn):
            txn.delete(DROPPED, digest)
        gone = [commit for commit in commits if not self._liveness.is_reachable(commit)]
        for commit in gone:
            txn.delete("commits", commit)
            txn.delete(LINKS, commit)
            txn.delete("shallow", commit)
            unmark(txn, MarkKind.COMMIT, commit)
        note_collected(txn, gone, now_ns=time.time_ns())
        return len(gone)

    def _sweep_objects(self, txn: WriteTxn, objects: Sequence[ObjectDigest]) -> int:
        self._liveness.look_again(self._look(txn), ())
        marked = [digest for digest in objects if is_marked(txn, MarkKind.OBJECT, digest)]
        gone = [digest for digest in marked if not self._liveness.is_reachable(digest)]
        for digest in gone:
            txn.delete(OBJECTS, digest)
            unmark(txn, MarkKind.OBJECT, digest)
        return len(gone)


def _split(objects: Sequence[ObjectDigest]) -> Iterator[Sequence[ObjectDigest]]:
    for start in range(0, len(objects), _OBJECTS_AT_ONCE):
        yield objects[start : start + _OBJECTS_AT_ONCE]
