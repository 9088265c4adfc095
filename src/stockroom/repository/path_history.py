"""The history of some paths: the commits that changed them, with git's simplification of merges. Reads no sample."""

from __future__ import annotations

from collections.abc import Sequence

from stockroom.content.places import Version, read_version
from stockroom.content.snapshot import Snapshot
from stockroom.digest import CommitId, compute_digest
from stockroom.refs.commit import CommitRecord
from stockroom.repository.repository import Repository


class PathHistory:
    """Chooses the way of a walk: of a merge whose paths equal those of one parent, only that parent's history."""

    def __init__(self, repository: Repository, paths: Sequence[str]) -> None:
        self._repository = repository
        self._paths = paths
        self._versions: dict[bytes, bytes] = {}
        self._nothing = _digest([()] * len(paths))
        self._changed: set[CommitId] = set()

    def has(self, commit: CommitId) -> bool:
        """Return whether a commit that the walk has met changed one of the paths."""
        return commit in self._changed

    def follow(self, commit: CommitId, record: CommitRecord, parents: Sequence[CommitId]) -> Sequence[CommitId]:
        """Return the parents to continue with, of those on the walk, and note whether the commit changed a path."""
        here = self._read(record)
        for parent in parents:
            if self._read(self._repository.refs.get_commit(parent)) == here:
                return [parent]
        if parents or self._differs_from_hidden(record, here):
            self._changed.add(commit)
        return parents

    def _differs_from_hidden(self, record: CommitRecord, here: bytes) -> bool:
        """Return whether a commit without parents on the walk differs from its parents, or has the paths at all."""
        refs = self._repository.refs
        known = [parent for parent in record.parent_ids if refs.has_commit(parent)]
        if not known:
            return here != self._nothing
        return any(self._read(refs.get_commit(parent)) != here for parent in known)

    def _read(self, record: CommitRecord) -> bytes:
        """Return the digest of what a commit has at the paths; of a long history that is little to keep."""
        if record.tree not in self._versions:
            snapshot = Snapshot(self._repository.nodes, record.tree_digest)
            self._versions[record.tree] = _digest([read_version(snapshot, path) for path in self._paths])
        return self._versions[record.tree]


def _digest(versions: Sequence[Version]) -> bytes:
    return compute_digest(repr(versions).encode("utf-8", "surrogatepass"))
