"""The commits, objects and rows of packs reachable from commits and stages. Reads metadata; packs may be absent.

Memory grows with the metadata, not the samples: a digest for each object, a byte for each row of a pack.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stockroom.content.bulk_walk import BulkWalk
from stockroom.digest import CommitId, ObjectDigest, PackDigest
from stockroom.errors import CorruptionError
from stockroom.refs import Stage, iter_history
from stockroom.refs.commit import CommitRecord
from stockroom.repository.repository import Repository
from stockroom.store.index.chunk_search import iter_by_pack
from stockroom.store.pack.pack import StalePackError

_COMMITS_AT_ONCE: Final = 256


class Reachable:
    """Grows with every commit and stage added to it; adding something twice is free.

    Raises `CorruptionError` if anything on the way is missing or damaged. Everything reached before counts as reached,
    and adding the same again raises again.
    """

    def __init__(self, repository: Repository) -> None:
        self.commits: set[CommitId] = set()
        self._refs = repository.refs
        self._objects = repository.objects
        self._tensors = repository.tensors
        self._live: dict[int, NDArray[np.bool_]] = {}
        self._walk = BulkWalk(repository.nodes, on_chunks=self._add_chunks)

    def add_commits(self, commits: Iterable[CommitId]) -> None:
        """Add commits and all their history that is here."""
        history = iter_history(self._refs, commits, skip=self.commits)
        try:
            while self._objects.read_at_once(lambda: self._add_some(history)):
                pass
        except CorruptionError:
            self._walk.flush()  # the chunks found before the damage are reached
            raise
        self._walk.flush()

    def add_stage(self, stage: Stage) -> None:
        """Add a stage, its base, and its unfinished merge."""
        commits, roots = self._walk.follow_stage(stage)
        for root in roots:
            self._walk.add_content(root)
        self.add_commits(commits)

    def has_object(self, digest: bytes) -> bool:
        """Return whether an object is reachable."""
        return self._walk.has(digest)

    def find_live(self, number: int) -> NDArray[np.bool_] | None:
        """Return `(rows,)` whether each row of a pack is reachable; None if no row is."""
        return self._live.get(number)

    def _add_some(self, history: Iterator[tuple[CommitId, CommitRecord]]) -> bool:
        """Add the next commits of a history; return whether there were any. Their reads share one transaction."""
        roots: dict[CommitId, ObjectDigest] = {}
        try:
            for commit, record in islice(history, _COMMITS_AT_ONCE):
                self.commits.add(commit)
                roots[commit] = record.tree_digest
        finally:  # if the next commit is damaged, these are reached
            self._add_contents(roots)
        return bool(roots)

    def _add_contents(self, roots: Mapping[CommitId, ObjectDigest]) -> None:
        """Add the content of commits. If one fails, neither it nor those after it are reached."""
        left = list(roots)
        try:
            try:
                self._walk.add_contents(roots.values())
            except CorruptionError:  # all that is intact is reached
                while left:
                    self._walk.add_content(roots[left[0]])
                    del left[0]
        except BaseException:
            self.commits.difference_update(left)
            raise

    def _add_chunks(self, digests: NDArray[np.uint8], _: object) -> None:
        """Add all copies of chunks. Raises `LostChunksError` if a chunk is in no pack."""
        is_found = np.zeros(len(digests), bool)
        for positions, locations in self._tensors.iter_copies(digests):
            is_found[positions] = True
            self._add_live(locations)
        if not is_found.all():
            self._add_live(self._tensors.locate(digests[~is_found]))  # raises if a chunk is nowhere

    def _add_live(self, locations: NDArray[np.uint64]) -> None:
        for number, rows, _ in iter_by_pack(locations):
            with suppress(StalePackError):  # a writer has joined it with others since
                live = self._live.get(number)
                if live is None:
                    live = self._live[number] = np.zeros(self._tensors.cache.get(number).rows, bool)
                live[rows] = True


def count_needed(repository: Repository, packs: Collection[PackDigest]) -> int:
    """Return how many of `packs` are reachable from branches, tags and stages, but not remote-tracking refs."""
    reach = Reachable(repository)
    reach.add_commits([*repository.refs.branches().values(), *repository.refs.tags().values()])
    for stage in repository.refs.stages().values():
        reach.add_stage(stage)
    known = repository.tensors.catalog.read_packs().items()
    return sum(1 for number, digest in known if digest in packs and reach.find_live(number) is not None)
