"""An open repository: its names and history, its tensors, its HEAD. It is not pinned to a commit."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from stockroom.content.snapshot import Snapshot
from stockroom.digest import CommitId, ObjectDigest, PackDigest
from stockroom.errors import (
    CollectedError,
    CollectedRefError,
    InvalidInputError,
    LockedError,
    LostChunksError,
    ReadOnlyError,
    RefNotFoundError,
    StockroomError,
)
from stockroom.kv import Environment, ReadTxn
from stockroom.refs import DATABASES, ObjectStore, Ref, RefStore, resolve
from stockroom.refs.commit import CommitRecord, MetadataValue
from stockroom.refs.marks import MarkKind, MarkStore
from stockroom.refs.resolve import MIN_PREFIX_DIGITS
from stockroom.repository.claim import Claim
from stockroom.repository.git.tie import Tie, describe_for_commit, find_tie
from stockroom.repository.head import HEAD_NAME, Head
from stockroom.repository.held_objects import HeldObjects
from stockroom.repository.holds import Hold
from stockroom.repository.lease import acquire_lease
from stockroom.repository.paths import Identity, RepositoryPaths, locate_repository, open_paths
from stockroom.trees import NodeCache

if TYPE_CHECKING:
    from stockroom.store.fetcher import Fetcher
    from stockroom.store.tensor_store import TensorStore
    from stockroom.store.tensor_writer import TensorWriter

_HEAD_SPEC: Final = re.compile(r"(HEAD|@)([~^]|$)")
_HEX: Final = re.compile(r"[0-9a-f]{1,64}")


class Repository:
    """An open repository. Opening reads a few small files; it uses no network and runs no program.

    `fetcher` fetches absent chunks; without one they stay absent.
    """

    def __init__(self, paths: RepositoryPaths, *, fetcher: Fetcher | None = None) -> None:
        self.paths = paths
        self._fetcher = fetcher
        self.env = Environment.open(paths.refs, databases=DATABASES)
        self.refs = RefStore(self.env)
        self.marks = MarkStore(self.env)
        self.objects = ObjectStore(self.env)
        self.nodes = NodeCache(self.objects)
        self._holds: WeakSet[Hold] = WeakSet()
        self._writer: TensorWriter | None = None
        self._writer_pid = 0
        self._seen_round = 0
        self._marked_packs: list[PackDigest] = []

    @classmethod
    def locate(
        cls, path: Path | None, *, make_fetcher: Callable[[RepositoryPaths], Fetcher] | None = None
    ) -> Repository:
        """Return the repository at `path`, or, for None, the one that contains the working directory."""
        paths = locate_repository(Path.cwd() if path is None else path)
        return cls(paths, fetcher=None if make_fetcher is None else make_fetcher(paths))

    @classmethod
    def open(cls, root: Path) -> Repository:
        """Return the repository whose work tree is exactly `root`."""
        return cls(open_paths(root))

    @cached_property
    def tensors(self) -> TensorStore:
        """The chunks; opened on first use, since history does not need them."""
        from stockroom.store.tensor_store import TensorStore  # here for start-up time

        return TensorStore(self.paths.folder, fetcher=self._fetcher)

    @cached_property
    def reader_tensors(self) -> TensorStore:
        """The same chunks for readers of commits: for those that gc has deleted, they get `CollectedError`."""
        return self.tensors.explain_losses(self._explain_loss)

    def open_writer(self) -> TensorWriter:
        """Return the writer of chunks, made once per process and kept for the next workspace."""
        from stockroom.store.tensor_writer import TensorWriter  # here for start-up time

        if self._writer is None or self._writer_pid != os.getpid():
            self._writer, self._writer_pid = TensorWriter(self.tensors), os.getpid()
        self._writer.avoid(self._marked_packs, lambda pack: self.marks.unmark(MarkKind.PACK, pack))
        return self._writer

    def join_packs(self) -> None:
        """Join small packs of earlier commits if enough have gathered; what was committed is safe whatever happens."""
        if "tensors" in self.__dict__:
            from stockroom.store.upkeep.join import join_packs  # here for start-up time

            join_packs(
                self.tensors,
                list_spared=lambda: self.marks.read_marked_packs()[1],
                on_made=lambda pack: self.marks.unmark(MarkKind.PACK, pack),
            )

    def avoid_marked(self, claim: Claim) -> None:
        """Rely on no pack that gc has marked, or removed since the last call. For the writer that has this claim.

        Marks are read first: a pack whose mark is gone has left the catalog already.
        """
        self._marked_packs = claim.packs
        if claim.round != self._seen_round:
            tensors = self.__dict__.get("tensors")
            if tensors is not None:
                tensors.index.refresh()
                tensors.cache.forget()
            self._seen_round = claim.round

    def close(self) -> None:
        """Close all files."""
        if self._writer is not None and self._writer_pid == os.getpid():
            self._writer.close()
        self._writer = None
        for hold in list(self._holds):
            hold.release()
        self.forget_tensors()
        self.env.close()

    def forget_tensors(self) -> None:
        """Close the chunks' files; they are opened again when needed."""
        self.__dict__.pop("reader_tensors", None)
        tensors = self.__dict__.pop("tensors", None)
        if tensors is not None:
            tensors.close()

    def read_head(self) -> Head:
        """Return HEAD, after finishing a move that a killed process left unfinished."""
        head = self.paths.head.read()
        prepared = self._find_effective(head)
        if prepared is None:
            return head
        try:
            lease = acquire_lease(self.paths.lease, timeout_s=0)
        except (LockedError, ReadOnlyError):  # its writer is alive, or nothing can be written here
            return prepared
        with lease:
            return self.complete_head(self.find_tie())

    def complete_head(self, tie: Tie | None) -> Head:
        """Return HEAD, with git's branch in the tie, after finishing a move of it. Only for the lease's holder."""
        head = self.paths.head.read()
        prepared = self._find_effective(head)
        if prepared is not None:
            with suppress(OSError):  # where the file cannot be replaced, the prepared one keeps saying where HEAD is
                self.paths.head.complete()
        return _follow(prepared or head, tie)

    def find_tie(self) -> Tie | None:
        """Return the tie to git if it is in force now."""
        return find_tie(self.paths.root)

    def follow(self, head: Head) -> Head:
        """Return a HEAD read from its file with its actual branch, which in the tie is git's."""
        return _follow(head, self.find_tie())

    def resolve(self, spec: str, head: Head | None = None) -> CommitId:
        """Return the commit that `spec` names, as in git. Raises `RefNotFoundError` or `AmbiguousRefError`."""
        if not isinstance(spec, str):
            raise InvalidInputError(f"expected the name of a branch, tag or commit, found {spec!r}")
        if head is None and _HEAD_SPEC.match(spec):  # a damaged HEAD must not block other specs
            head = self.read_head()
        try:
            return resolve(self.refs, spec, head=None if head is None else head.commit)
        except RefNotFoundError as error:
            self._refuse_collected(error.ref)
            raise

    def read_commit(self, commit: CommitId) -> CommitRecord:
        """Return the record of a commit. Raises `RefNotFoundError` if this repository does not have it."""
        if not self.refs.has_commit(commit):
            self._refuse_collected(commit.hex())
            raise RefNotFoundError(
                f"commit {commit.hex()} is not in this repository: run `stock fetch`, or, if {HEAD_NAME} names it, "
                "restore that file, or write `commit -` in it and run `stock checkout BRANCH`",
                ref=commit.hex(),
            )
        return self.refs.get_commit(commit)

    def find_collected(self, commit: CommitId) -> CollectedError | None:
        """Return the error for a commit that gc has deleted; None if it is here, or is not known to have been."""
        found = None if self.refs.has_commit(commit) else self.marks.find_collected(commit.hex())
        return None if found is None else CollectedError(_explain_collected(*found), commit=commit.hex())

    def make_commit(
        self,
        tree: ObjectDigest,
        parents: Sequence[CommitId],
        *,
        message: str,
        metadata: Mapping[str, MetadataValue],
        author: Identity | None = None,
        tie: Tie | None = None,
    ) -> CommitRecord:
        """Return a commit made now by `author` or the repository's identity; in the tie it records git's state."""
        signed = author or self.paths.read_identity()
        described = {} if tie is None else describe_for_commit(tie)
        return CommitRecord(
            tree=tree,
            parents=tuple(parents),
            author=signed.name,
            email=signed.email,
            time_ns=time.time_ns(),
            offset_minutes=time.localtime().tm_gmtoff // 60,
            message=message,
            metadata=described | dict(metadata),
        )

    def open_snapshot(self, commit: CommitId | None, nodes: NodeCache | None = None) -> Snapshot:
        """Return the content at a commit, empty for None; read through a writer's `nodes` if given.

        A reader holds the commit as long as anything opened from the snapshot exists. A commit that is opened is in
        use again, so gc's mark on it is removed.
        """
        if commit is None:
            return Snapshot.empty(self.nodes if nodes is None else nodes)
        return self._open_held(commit) if nodes is None else self.open_snapshots([commit], nodes)[commit]

    def open_snapshots(self, commits: Sequence[CommitId], nodes: NodeCache) -> dict[CommitId, Snapshot]:
        """Return the content at each commit for a writer, as `open_snapshot` does, read in one transaction."""
        marked, records = self._read_marked(commits)
        for commit in marked:
            self.marks.unmark(MarkKind.COMMIT, commit)
        if marked:  # gc may have been faster
            records = [self.read_commit(commit) for commit in commits]
        return {commit: Snapshot(nodes, record.tree_digest) for commit, record in zip(commits, records, strict=True)}

    def _open_held(self, commit: CommitId) -> Snapshot:
        hold = Hold(self.paths.folder, commit)  # before looking whether gc has marked it (design note 17)
        self._holds.add(hold)
        marked, [record] = self._read_marked([commit])
        if marked:
            with suppress(StockroomError, OSError):  # nothing can be written here
                self.marks.unmark(MarkKind.COMMIT, commit)
            record = self.read_commit(commit)
        objects = HeldObjects(self.objects, hold, find_collected=self.find_collected)
        return Snapshot(NodeCache(objects, sharing=self.nodes), record.tree_digest)

    def _read_marked(self, commits: Sequence[CommitId]) -> tuple[list[CommitId], list[CommitRecord]]:
        """Return the commits that gc has marked, and the records of all, read in one transaction."""

        def read(_: ReadTxn) -> tuple[list[CommitId], list[CommitRecord]]:
            marked = [commit for commit in commits if self.marks.has(MarkKind.COMMIT, commit)]
            return marked, [self.read_commit(commit) for commit in commits]

        return self.env.view(read)

    def _explain_loss(self, error: LostChunksError) -> StockroomError:
        """Return the error for a reader of lost chunks: the commit that it reads may have been deleted by gc."""
        held = {hold.commit for hold in list(self._holds)}
        return next(filter(None, map(self.find_collected, held)), error)

    def _refuse_collected(self, digits: str) -> None:
        """Raise `CollectedRefError` if gc has deleted a commit whose hex digest begins with `digits`."""
        is_digest = len(digits) >= MIN_PREFIX_DIGITS and _HEX.fullmatch(digits) is not None
        found = self.marks.find_collected(digits) if is_digest else None
        if found is not None:
            raise CollectedRefError(_explain_collected(*found), ref=digits, commit=found[0].hex())

    def _find_effective(self, head: Head) -> Head | None:
        """Return the prepared HEAD if the refs have already moved to it from `head`, otherwise None."""
        prepared = self.paths.head.find_prepared()
        if prepared is None or prepared == head or prepared.branch is None:
            return None
        if prepared.branch != head.branch and self.find_tie() is None:  # git's branch need not be the one in the file
            return prepared if self._is_renamed(head, prepared) else None
        ref = str(Ref("branch", prepared.branch))
        last = next((operation for operation in self.refs.iter_operations() if operation.ref == ref), None)
        if last is None or (last.old, last.new) != (head.commit, prepared.commit):
            return None
        return prepared

    def _is_renamed(self, head: Head, prepared: Head) -> bool:
        """Return whether the newest change of refs renamed the branch of `head` to that of `prepared`."""
        last = list(islice(self.refs.iter_operations(), 2))
        ends = {str(Ref("branch", one.branch)) for one in (head, prepared) if one.branch is not None}
        is_pair = len(last) == 2 and {one.ref for one in last} == ends and last[0].time_ns == last[1].time_ns
        return is_pair and head.commit == prepared.commit and self.refs.find_branch(head.branch) is None


def _explain_collected(commit: CommitId, time_ns: int) -> str:
    when = datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return (
        f"commit {commit.hex()} was deleted by `stock gc` on {when}, since no branch, tag or stage reached it; open a "
        "branch, or call `refresh()`"
    )


def _follow(head: Head, tie: Tie | None) -> Head:
    return head if tie is None else Head(tie.branch, head.commit)
