"""Plans the content of a push: everything that new commits reach and that the remote does not have yet."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stockroom.content.bulk_walk import BulkWalk
from stockroom.digest import CommitId, ObjectDigest, PackDigest
from stockroom.refs import RefStore, sort_parents_first
from stockroom.refs.objects import decode_object
from stockroom.remotes.format.bundle import BundleWriter, RecordKind
from stockroom.repository.repository import Repository
from stockroom.store.index.chunk_search import iter_by_pack

_OBJECTS_AT_ONCE: Final = 512
_COMMITS_AT_ONCE: Final = 256


@dataclass(slots=True)
class PushContents:
    """Commits, parents first; metadata objects; and the packs that hold the chunks they newly refer to.

    Each pack comes with `(rows,)`: whether a row is one of these chunks.
    """

    commits: list[CommitId] = field(default_factory=list)
    objects: dict[ObjectDigest, None] = field(default_factory=dict)
    packs: dict[PackDigest, NDArray[np.bool_]] = field(default_factory=dict)


def plan_push(
    repository: Repository,
    tips: Sequence[CommitId],
    known: Collection[CommitId],
    *,
    avoid: Collection[PackDigest] = (),
) -> PushContents:
    """Return everything that `tips` reach and the remote lacks. It has `known` commits and all behind them.

    Packs to `avoid` are only taken for chunks that no others hold.
    """
    contents = PushContents()
    leaving, tensors = {*repository.marks.read_leaving(), *avoid}, repository.tensors

    def add_objects(digests: Iterable[ObjectDigest]) -> None:
        contents.objects.update(dict.fromkeys(digests))

    def add_chunks(digests: NDArray[np.uint8], _: object) -> None:
        for number, rows, _ in iter_by_pack(tensors.locate_outside(digests, avoid=leaving)):
            pack = tensors.cache.get(number)
            contents.packs.setdefault(pack.digest, np.zeros(pack.rows, bool))[rows] = True

    walk = BulkWalk(repository.nodes, on_objects=add_objects, on_chunks=add_chunks)
    bases = list_new_commits(repository.refs, tips, known)
    contents.commits += bases
    if known:
        for commit, base in bases.items():
            before = None if base is None else repository.read_commit(base).tree_digest
            walk.add_content(repository.read_commit(commit).tree_digest, before)
    else:
        _add_whole_history(repository, list(reversed(bases)), walk)
    walk.flush()
    return contents


def _add_whole_history(repository: Repository, commits: Sequence[CommitId], walk: BulkWalk) -> None:
    """Follow all content of some commits, newest first."""

    def add(some: Sequence[CommitId]) -> None:
        walk.add_contents([repository.refs.get_commit(commit).tree_digest for commit in some])

    for start in range(0, len(commits), _COMMITS_AT_ONCE):
        some = commits[start : start + _COMMITS_AT_ONCE]
        repository.objects.read_at_once(partial(add, some))


def write_metadata(repository: Repository, contents: PushContents, writer: BundleWriter) -> None:
    """Add the objects and commits to a bundle, verified: a damaged one must not spread."""
    digests = list(contents.objects)
    for start in range(0, len(digests), _OBJECTS_AT_ONCE):
        some = digests[start : start + _OBJECTS_AT_ONCE]
        for digest, value in zip(some, repository.objects.get_encoded(some), strict=True):
            decode_object(value, digest)
            writer.add(RecordKind.OBJECT, digest, value)
    for commit in contents.commits:
        writer.add(RecordKind.COMMIT, commit, repository.refs.get_commit(commit).encode())


def list_new_commits(
    refs: RefStore, tips: Sequence[CommitId], known: Collection[CommitId]
) -> dict[CommitId, CommitId | None]:
    """Return the commits reachable from `tips` but not from `known`, parents first, each with its first parent.

    Walks from both sides at once, newest first, until only commits behind `known` are left, so the cost follows the new
    commits. If clocks were wrong, some known commits may be included.
    """
    shallow = refs.shallow()
    is_known = dict.fromkeys(tips, False) | dict.fromkeys(known, True)
    found: dict[CommitId, tuple[CommitId, ...]] = {}
    waiting: list[tuple[int, CommitId]] = []
    fresh: set[CommitId] = set()  # those that are waiting and not known

    def visit(commit: CommitId) -> None:
        record = refs.get_commit(commit)
        found[commit] = () if commit in shallow else record.parent_ids
        heapq.heappush(waiting, (-record.time_ns, commit))
        if not is_known[commit]:
            fresh.add(commit)

    for commit in is_known:
        visit(commit)
    while fresh:
        _, commit = heapq.heappop(waiting)
        fresh.discard(commit)
        for parent in found[commit]:
            if parent not in found:
                is_known[parent] = is_known[commit]
                visit(parent)
            elif is_known[commit] and not is_known[parent]:
                fresh.difference_update(_spread_known(parent, found, is_known))
    new = {commit: parents for commit, parents in found.items() if not is_known[commit]}
    return {commit: next(iter(new[commit]), None) for commit in sort_parents_first(new)}


def _spread_known(
    start: CommitId, found: Mapping[CommitId, tuple[CommitId, ...]], is_known: dict[CommitId, bool]
) -> Iterator[CommitId]:
    """Mark as known a commit that was taken for new, and all such commits behind it; yield them."""
    waiting = [start]
    while waiting:
        commit = waiting.pop()
        is_known[commit] = True
        yield commit
        waiting += [parent for parent in found.get(commit, ()) if not is_known.get(parent, True)]
