"""Follows refs, stages, HEAD and the operation log down to chunks, and collects damage on the way.

Each commit, record and node is checked once, on the first path to it; damage is reported as needed by that path.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stockroom.content.column import STR, ColumnRecord
from stockroom.content.nodes import measure_leaf
from stockroom.content.snapshot import Snapshot
from stockroom.content.state import STATE_ENTRIES, StateRecord
from stockroom.content.walk import Walk
from stockroom.digest import CommitId, ObjectDigest
from stockroom.errors import CorruptionError, LostChunksError, StockroomError
from stockroom.refs import ObjectStore, Stage
from stockroom.repository.repository import Repository
from stockroom.repository.upkeep.lost_chunks import LostChunks
from stockroom.repository.upkeep.roots import iter_heads
from stockroom.store.entry import EntryFormat, EntryKind
from stockroom.store.index.chunk_search import make_lost_error
from stockroom.store.upkeep.verify import REPAIR, Damage, Unchecked, describe_unchecked, says_damage
from stockroom.trees import NodeCache, iter_range

_MOST_NAMED: Final = 5
_COMMITS_AT_ONCE: Final = 256
_RESTORE_ADVICE: Final = (
    "add a remote that has it and run `stock fsck --repair`, or write the same samples again from a backup"
)


class Connectivity:
    """One walk. `lost` says which chunks are damaged; None if there is no catalog to look chunks up in."""

    def __init__(self, repository: Repository, lost: LostChunks | None) -> None:
        self.damage: list[Damage] = []
        self.unchecked: list[Unchecked] = []
        self._repository = repository
        self._lost = lost
        self._commits: set[CommitId] = set()
        self._objects = _ReadObjects(repository.objects)
        self._nodes = NodeCache(self._objects)  # a new cache: the bytes on disk are to be checked
        self._shallow: frozenset[CommitId] = frozenset()
        self._walk = Walk(
            self._nodes,
            on_values=self._check_values,
            on_chunks=self._check_chunks,
            once=True,
            tells_again=lost is not None and not lost.is_empty,  # to name everything that needs a lost chunk
        )
        self._chunks = self._operations = 0
        self._way: list[str] = []
        self._dependents: dict[str, dict[str, None]] = defaultdict(dict)

    @property
    def counts(self) -> tuple[int, int, int]:
        """The numbers of commits, chunks and operations checked."""
        return len(self._commits), self._chunks, self._operations

    @property
    def checked_objects(self) -> Set[bytes]:
        """The objects that were read from disk, and match their digests."""
        return self._objects.checked

    def run(self) -> None:
        """Check everything."""
        refs = self._repository.refs
        self._guard("shallow commits", self._read_shallow, REPAIR)
        self._guard("branches", lambda: self._check_refs("branch", refs.branches()), REPAIR)
        self._guard("tags", lambda: self._check_refs("tag", refs.tags()), REPAIR)
        self._guard("remote-tracking refs", lambda: self._check_refs("remote", refs.remotes()), "run `stock fetch`")
        self._guard("HEAD", self._check_head, "run `stock checkout BRANCH`")
        self._guard("other work trees and git's history", self._check_other_heads, REPAIR)
        self._guard("stage", self._check_stages, "drop it with `stock reset`")
        self._guard("operation log", self._check_operations, "history does not need it; only undo and reflog do")

    def name_dependents(self, damage: Damage) -> Damage:
        """Return the same damage with the things that were found to need it."""
        found = list(self._dependents.get(damage.where, ()))
        if len(found) > _MOST_NAMED:
            found = [*found[:_MOST_NAMED], f"{len(found) - _MOST_NAMED} more"]
        return replace(damage, needed_by=tuple(found))

    def _read_shallow(self) -> None:
        self._shallow = self._repository.refs.shallow()

    def _check_refs(self, kind: str, refs: dict[str, CommitId]) -> None:
        mend = {"branch": "stock branch -D", "tag": "stock tag -d"}
        for name, commit in refs.items():
            repair = f"{REPAIR}, or drop it (`{mend[kind]} {name}`)" if kind in mend else "run `stock fetch`"
            with self._on_the_way(f"{kind} {name}"):
                self._guard(f"{kind} {name}", lambda commit=commit: self._walk_history(commit), repair)  # type: ignore[misc]

    def _check_head(self) -> None:
        commit = self._repository.read_head().commit
        if commit is not None:
            with self._on_the_way("HEAD"):
                self._walk_history(commit)

    def _check_other_heads(self) -> None:
        """Check the commits that gc keeps for other work trees and for git's history, if they are here."""
        for name, commit in iter_heads(self._repository):
            if self._repository.refs.has_commit(commit):
                with self._on_the_way(name):
                    self._guard(name, lambda commit=commit: self._walk_history(commit), REPAIR)  # type: ignore[misc]

    def _check_stages(self) -> None:
        for name, stage in self._repository.refs.stages().items():
            with self._on_the_way(f"stage {name}"):
                repair = "drop it with `stock reset`"
                self._guard(f"stage {name}", lambda stage=stage: self._check_stage(stage), repair)  # type: ignore[misc]

    def _check_stage(self, stage: Stage) -> None:
        commits, roots = self._walk.follow_stage(stage)
        for root in roots:
            self._check_root(root)
        for commit in commits:
            self._walk_history(commit)

    def _check_operations(self) -> None:
        """Raise if the log cannot be read or has a gap. Operations may name commits that gc has deleted."""
        expected = None
        for operation in self._repository.refs.iter_operations():
            self._operations += 1
            if expected is not None and operation.number != expected:
                raise CorruptionError(f"operation {expected} is missing")
            expected = operation.number - 1
        if expected:
            raise CorruptionError(f"operation {expected} is missing")

    def _walk_history(self, start: CommitId) -> None:
        self._repository.read_commit(start)  # if it is missing, the ref is at fault
        waiting = [start]
        while waiting:
            self._repository.objects.read_at_once(lambda: self._check_some(waiting))

    def _check_some(self, waiting: list[CommitId]) -> None:
        """Check some of the waiting commits, and replace them by their parents; their reads share one transaction."""
        for _ in range(_COMMITS_AT_ONCE):
            commit = waiting.pop() if waiting else None
            if commit is not None and commit not in self._commits:
                name = f"commit {commit.hex()}"
                self._guard(name, lambda c=commit: waiting.extend(self._check_commit(c)), REPAIR)  # type: ignore[misc]

    def _check_commit(self, commit: CommitId) -> tuple[CommitId, ...]:
        """Check the content of a commit and return its parents, which a shallow commit does not have here."""
        refs = self._repository.refs
        self._commits.add(commit)
        record = refs.get_commit(commit)
        name = f"commit {commit.hex()}"
        self._guard(f"link of {name}", lambda: refs.check_link(commit), REPAIR)
        with self._on_the_way(name):
            self._guard(f"content of {name}", lambda: self._check_root(record.tree_digest), REPAIR)
        return () if commit in self._shallow else record.parent_ids

    def _check_root(self, root: ObjectDigest) -> None:
        snapshot = Snapshot(self._nodes, root)
        for path, digest, _ in self._walk.iter_records(root):
            with self._on_the_way(path):
                self._guard(path, lambda d=digest, path=path: self._check_record(snapshot, d, path), REPAIR)  # type: ignore[misc]
                self._guard(path, self._walk.flush, REPAIR)
            self._walk.skip(digest)

    def _check_record(self, snapshot: Snapshot, digest: ObjectDigest, path: str) -> None:
        record = self._walk.add_record(digest, path=path)
        if isinstance(record, StateRecord):
            self._check_leaves(snapshot, record)

    def _check_leaves(self, snapshot: Snapshot, record: StateRecord) -> None:
        """Raise `CorruptionError` unless a state's structure and its tree have the same leaves."""
        where = f"structure {record.structure.hex()[:16]}"
        expected = {path: measure_leaf(leaf) for path, leaf in snapshot.read_structure(record).stored.items()}
        for paths, values in iter_range(snapshot.open_tree(record)):
            for path, value in zip(paths, values, strict=True):
                nbytes = STATE_ENTRIES.decode(value.tobytes()).nbytes
                if path not in expected or expected.pop(path) not in (None, nbytes):
                    raise CorruptionError(f"{where}: leaf {path!r} of {nbytes} bytes does not fit it")
        if expected:
            raise CorruptionError(f"{where}: leaf {next(iter(expected))!r} is not in the tree")

    def _check_values(self, record: ColumnRecord | StateRecord, values: NDArray[np.uint8]) -> None:
        record.entry_format.check(values)
        if isinstance(record, ColumnRecord) and record.dtype == STR:
            _check_texts(record.entry_format, values)

    def _check_chunks(self, digests: NDArray[np.uint8], lengths: NDArray[np.int64]) -> None:
        self._chunks += len(digests)
        if self._lost is None:
            return
        tensors = self._repository.tensors
        if not self._lost.is_empty:
            packs, is_lost = self._lost.find(tensors, digests)
            for pack in packs:
                self._depend(f"pack {pack}")
            if is_lost.any():
                if not packs:
                    raise make_lost_error(digests[is_lost])
                digests, lengths = digests[~is_lost], lengths[~is_lost]
        tensors.locate(digests, lengths)

    def _depend(self, where: str) -> None:
        """Record that the thing being checked needs something."""
        self._dependents[where][" of ".join(reversed(self._way))] = None

    @contextmanager
    def _on_the_way(self, step: str) -> Iterator[None]:
        self._way.append(step)
        try:
            yield
        finally:
            self._way.pop()

    def _guard(self, where: str, check: Callable[[], None], repair: str) -> None:
        try:
            check()
        except (StockroomError, OSError, MemoryError) as error:
            if not says_damage(error):
                self.unchecked.append(describe_unchecked(where, error))
                return
            found = getattr(error, "where", "") or ""
            if found.startswith("metadata object "):
                self._depend(found.removeprefix("metadata "))
            repair = _RESTORE_ADVICE if isinstance(error, LostChunksError) else repair
            needed_by = (" of ".join(reversed(self._way)),) if self._way else ()
            self.damage.append(Damage(where, str(error), repair, needed_by))


class _ReadObjects:
    """The objects on disk, and which of them were read and match their digests."""

    def __init__(self, objects: ObjectStore) -> None:
        self._store = objects
        self.checked: set[bytes] = set()

    def get_object(self, digest: ObjectDigest) -> bytes:
        """Return the bytes of an object; raises `CorruptionError` if it is missing or damaged."""
        data = self._store.get_object(digest)
        self.checked.add(digest)
        return data

    def get_objects(self, digests: Sequence[ObjectDigest]) -> list[bytes]:
        """Return the bytes of objects, as `get_object`."""
        data = self._store.get_objects(digests)
        self.checked.update(digests)
        return data

    def put_object(self, data: bytes) -> ObjectDigest:
        """Put an object, as a `NodeStore` does."""
        return self._store.put_object(data)


def _check_texts(entries: EntryFormat, values: NDArray[np.uint8]) -> None:
    """Raise `CorruptionError` if an inline text among the values is not UTF-8."""
    payloads = entries.slice_digests(values)
    is_inline = entries.decode_kinds(values) == EntryKind.INLINE
    for value in values[is_inline & (payloads >= 0x80).any(axis=1)]:
        try:
            entries.decode(value.tobytes()).payload.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise CorruptionError(f"expected UTF-8 text, found other bytes ({error.reason})") from error
