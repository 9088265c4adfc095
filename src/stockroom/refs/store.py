"""Commits, branches, tags, stages and the operation log, in one LMDB environment.

Refs change in one way only: by `RefStore.apply`, in one transaction.

    database    key                    value
    objects     object digest          see `objects`
    commits     commit id              commit record
    links       commit id              parents and generation, see `links`
    branches    name, UTF-8            commit id
    tags        name, UTF-8            commit id
    remotes     remote/branch, UTF-8   commit id
    shallow     commit id              nothing
    stage       name, UTF-8            stage record
    dropped     digest of the record   stage record, see `dropped`
    operations  number, u64 BE         operation record
    marks       kind and digest        see `marks`
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from stockroom.digest import DIGEST_NBYTES, CommitId, ObjectDigest, check_digest
from stockroom.errors import CorruptionError, FormatVersionError
from stockroom.kv import MAX_KEY_NBYTES, Environment, ReadTxn, WriteTxn
from stockroom.refs.changes import RefChange
from stockroom.refs.commit import CommitRecord, decode_commit
from stockroom.refs.dropped import DATABASE as DROPPED
from stockroom.refs.dropped import find_stage
from stockroom.refs.links import DATABASE as LINKS
from stockroom.refs.links import FindLink, check_link, make_finder, rebuild_links
from stockroom.refs.marks import DATABASE as MARKS
from stockroom.refs.objects import DATABASE as OBJECTS
from stockroom.refs.objects import ObjectStore, VanishedError, check_known, decode_object
from stockroom.refs.operations import DATABASE as OPERATIONS
from stockroom.refs.operations import Operation, decode_operation, encode_number
from stockroom.refs.ref import Ref
from stockroom.refs.stage import Stage, decode_stage
from stockroom.refs.transition import DATABASE_OF_KIND, apply_change

DATABASES: Final = (
    *(OBJECTS, "commits", LINKS, "branches", "tags", "remotes", "shallow", "stage", DROPPED, OPERATIONS, MARKS),
)
"""The databases with which a refs environment must be opened."""

_OPERATIONS_PER_READ: Final = 256

T = TypeVar("T")


class RefStore:
    """Names and history. Any number of readers and writers: moves are compare-and-swap."""

    def __init__(self, env: Environment) -> None:
        self._env = env

    def get_commit(self, commit_id: CommitId) -> CommitRecord:
        """Return the record of a commit, verified.

        Raises:
            CorruptionError: the commit is missing or damaged.
        """
        return _checked_commit(commit_id, self._env.view(lambda txn: txn.get("commits", commit_id)))

    def get_commits(self, commit_ids: Sequence[CommitId]) -> list[CommitRecord]:
        """Return many records, read in one transaction; raises as `get_commit` does."""
        values = self._env.view(lambda txn: [txn.get("commits", commit_id) for commit_id in commit_ids])
        return [_checked_commit(commit_id, value) for commit_id, value in zip(commit_ids, values, strict=True)]

    def view_links(self, fn: Callable[[FindLink], T]) -> T:
        """Call `fn` with a function that finds the links of commits, in one transaction; returns its result."""
        return self._env.view(lambda txn: fn(make_finder(txn)))

    def check_link(self, commit_id: CommitId) -> None:
        """Raise `CorruptionError` if the stored link of a commit contradicts its record."""
        self._env.view(lambda txn: check_link(txn, commit_id))

    def rebuild_links(self) -> int:
        """Rebuild all links; returns their number."""
        return self._env.update(rebuild_links)

    def take_damaged(self, db: str, digest: bytes, keep: Callable[[bytes], None]) -> bool:
        """Remove an object or a commit that does not match its digest, after `keep` has its database value.

        Returns whether there was one. `keep` may be called twice.
        """

        def take(txn: WriteTxn) -> bool:
            value = txn.get(db, digest)
            if value is None or not _is_damaged(db, digest, value):
                return False
            keep(value)
            return txn.delete(db, digest)

        return self._env.update(take)

    def has_commit(self, commit_id: CommitId) -> bool:
        """Return whether the commit is in this repository."""
        return self._env.view(lambda txn: txn.get("commits", commit_id)) is not None

    def search_commits(self, hex_prefix: str, *, n: int) -> list[CommitId]:
        """Return at most `n` commit ids, in order, whose hex form begins with `hex_prefix` (lower case)."""
        whole = bytes.fromhex(hex_prefix[: len(hex_prefix) // 2 * 2])

        def search(txn: ReadTxn) -> list[CommitId]:
            keys = (key for key, _ in txn.iterate("commits", prefix=whole))
            fitting = (CommitId(key) for key in keys if key.hex().startswith(hex_prefix))
            return [commit_id for _, commit_id in zip(range(n), fitting, strict=False)]

        return self._env.view(search)

    def iter_commit_ids(self) -> Iterator[CommitId]:
        """Yield the ids of all commits, in order."""
        yield from self._env.view(lambda txn: [CommitId(key) for key, _ in txn.iterate("commits")])

    def branches(self) -> dict[str, CommitId]:
        """Return name -> commit, in order of name."""
        return self._env.view(lambda txn: _read_refs(txn, "branches"))

    def tags(self) -> dict[str, CommitId]:
        """Return name -> commit, in order of name."""
        return self._env.view(lambda txn: _read_refs(txn, "tags"))

    def remotes(self) -> dict[str, CommitId]:
        """Return remote-tracking branches, "origin/main" -> the last commit seen of that branch, in order of name."""
        return self._env.view(lambda txn: _read_refs(txn, "remotes"))

    def shallow(self) -> frozenset[CommitId]:
        """Return the commits whose parents are left out on purpose."""
        return self._env.view(lambda txn: frozenset(CommitId(key) for key, _ in txn.iterate("shallow")))

    def find_ref(self, ref: Ref) -> CommitId | None:
        """Return the commit of a ref; None if there is no such ref."""
        key = ref.name.encode("utf-8", "surrogatepass")
        if not 0 < len(key) <= MAX_KEY_NBYTES:
            return None
        value = self._env.view(lambda txn: txn.get(DATABASE_OF_KIND[ref.kind], key))
        return None if value is None else _checked_ref(value, where=str(ref))

    def find_branch(self, name: str | None) -> CommitId | None:
        """Return the commit of a branch; None if there is no such branch, or for the None of a detached HEAD."""
        return None if name is None else self.find_ref(Ref("branch", name))

    def get_stage(self, name: str = "work") -> Stage | None:
        """Return the stage of that name; None if nothing is staged."""
        value = self._env.view(lambda txn: txn.get("stage", name.encode()))
        return None if value is None else decode_stage(value, where=f"stage {name}")

    def stages(self) -> dict[str, Stage]:
        """Return name -> stage, for all stages that are set."""
        found = self._env.view(lambda txn: list(txn.iterate("stage")))
        return {key.decode(): decode_stage(value, where=f"stage {key!r}") for key, value in found}

    def list_stage_names(self) -> list[str]:
        """Return the names of all stages that are set, without reading them."""
        return self._env.view(lambda txn: [key.decode("utf-8", "replace") for key, _ in txn.iterate("stage")])

    def find_dropped(self, digest: bytes) -> Stage | None:
        """Return the dropped stage whose record has that digest, or None if gc has deleted it."""
        return self._env.view(lambda txn: find_stage(txn, digest))

    def find_operation(self, number: int) -> Operation | None:
        """Return the operation of that number, or None."""
        key = encode_number(number)
        value = self._env.view(lambda txn: txn.get(OPERATIONS, key))
        return None if value is None else decode_operation(key, value)

    def iter_operations(self) -> Iterator[Operation]:
        """Yield the operation log, newest first; in batches, so no transaction stays open."""
        start = b""
        while True:
            batch = self._env.view(lambda txn, at=start: _read_operations(txn, at))  # type: ignore[misc]
            yield from batch
            if len(batch) < _OPERATIONS_PER_READ or batch[-1].number == 1:
                return
            start = encode_number(batch[-1].number - 1)

    def see_last_change(self) -> None:
        """Make reads here see the last change, even if its process was killed right after it reached the disk.

        LMDB shows such a change to no reader until the next writer looks for it.
        """
        self._env.update(lambda _: None)

    def apply(self, change: RefChange, *, objects: ObjectStore | None = None) -> tuple[Operation, ...]:
        """Apply all of `change`, and write the unflushed `objects`, durably; or change nothing.

        Returns the operations added to the log, one for each move.

        Raises:
            RefChangedError: a ref is not where the change expects it.
            InvalidNameError: a new ref breaks the rules for names.
            NotFoundError: a commit, a tree or a parent that the change refers to is not here.
        """
        records = {record.commit_id: record for record in change.commits}
        now_ns = time.time_ns()
        while True:
            encoded = objects.encode_unflushed() if objects is not None else {}
            known = objects.list_unflushed(but=encoded) if objects is not None else []

            def run(txn: WriteTxn) -> tuple[list[int], tuple[Operation, ...]]:
                check_known(txn, known)  # noqa: B023 - run in this round
                return apply_change(txn, change, records=records, encoded=encoded, time_ns=now_ns)  # noqa: B023

            with suppress(VanishedError):  # an object was collected meanwhile: write it in the next round
                sizes, done = self._env.update(run)
                break
        if objects is not None:
            objects.forget_written(sizes)
        return done


def _is_damaged(db: str, digest: bytes, value: bytes) -> bool:
    try:
        decode_object(value, ObjectDigest(digest)) if db == OBJECTS else _checked_commit(CommitId(digest), value)
    except FormatVersionError:  # written by a newer Stockroom: not damage
        return False
    except CorruptionError:
        return True
    return False


def _checked_commit(commit_id: CommitId, value: bytes | None) -> CommitRecord:
    where = f"commit {commit_id.hex()}"
    if value is None:
        raise CorruptionError(
            f"{where}: missing from this repository; run `stock fsck` to list the damage", where=where
        )
    check_digest(value, commit_id, where=where)
    return decode_commit(value, where=where)


def _read_refs(txn: ReadTxn, db: str) -> dict[str, CommitId]:
    return {
        key.decode("utf-8", "replace"): _checked_ref(value, where=f"{db}, {key!r}") for key, value in txn.iterate(db)
    }


def _checked_ref(value: bytes, *, where: str) -> CommitId:
    if len(value) != DIGEST_NBYTES:
        message = f"{where}: expected a commit id, found {len(value)} bytes; run `stock fsck`"
        raise CorruptionError(message, where=where)
    return CommitId(value)


def _read_operations(txn: ReadTxn, start: bytes) -> list[Operation]:
    pairs = zip(range(_OPERATIONS_PER_READ), txn.iterate(OPERATIONS, start, reverse=True), strict=False)
    return [decode_operation(key, value) for _, (key, value) in pairs]
