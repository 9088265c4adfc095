"""What a handle does with history: reading it, naming places in it, moving between them, taking a move back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from stockroom.content.diff import Diff
from stockroom.errors import InvalidInputError, RefNotFoundError
from stockroom.refs import Operation, iter_log
from stockroom.repository import branching
from stockroom.shelves.report import Commit, describe_commit

if TYPE_CHECKING:
    from stockroom.content.snapshot import Snapshot
    from stockroom.digest import CommitId
    from stockroom.repository.head import Head
    from stockroom.repository.repository import Repository
    from stockroom.repository.writing.session import WriteSession
    from stockroom.shelves.pin import Access


class _Handle(Protocol):
    _access: Access
    _repository: Repository
    _head: Head
    _ref: str | None

    def _moving(self) -> AbstractContextManager[WriteSession]: ...
    def _pin_to(self, head: Head) -> None: ...
    def _resolve(self, ref: str) -> CommitId: ...
    def _open_ref(self, ref: str) -> Snapshot: ...
    def _read_stage(self) -> Snapshot: ...
    def log(self, ref: str = ..., n: int | None = ...) -> Iterator[Commit]: ...


class HistoryActions:
    """The part of `StockRoom` that is about history."""

    _ref: str | None

    def log(self: _Handle, ref: str = "HEAD", n: int | None = None) -> Iterator[Commit]:
        """Commits reachable from `ref`, newest first, children before parents; at most `n`."""
        self._access.check_open()
        if n is not None and n < 0:
            raise InvalidInputError(f"expected a number of commits, or None for all, found {n}")
        if ref == "HEAD" and self._head.commit is None:
            return iter(())
        logged = iter_log(self._repository.refs, self._resolve(ref), n=n)
        return (describe_commit(entry) for entry in logged)

    @property
    def branches(self: _Handle) -> Mapping[str, str]:
        """Branch names and the full hex ids of their commits; read-only."""
        self._access.check_open()
        return MappingProxyType({name: commit.hex() for name, commit in self._repository.refs.branches().items()})

    @property
    def tags(self: _Handle) -> Mapping[str, str]:
        """Tag names and the full hex ids of their commits; read-only."""
        self._access.check_open()
        return MappingProxyType({name: commit.hex() for name, commit in self._repository.refs.tags().items()})

    def create_branch(self: _Handle, name: str, at: str = "HEAD") -> None:
        """A new branch at a commit; `InvalidNameError`, `RefChangedError` if it exists."""
        self._access.check_open()
        branching.create_branch(self._repository, name, self._resolve(at))

    def delete_branch(self: _Handle, name: str, force: bool = False) -> None:
        """Delete a branch; unless `force`, one whose commits HEAD does not have is kept with a `ConflictError`."""
        self._access.check_open()
        head = self._repository.follow(self._repository.read_head())
        branching.delete_branch(self._repository, name, head=head, force=force)

    def create_tag(self: _Handle, name: str, at: str = "HEAD") -> None:
        """A new tag at a commit."""
        self._access.check_open()
        branching.create_tag(self._repository, name, self._resolve(at))

    def delete_tag(self: _Handle, name: str) -> None:
        """Delete a tag."""
        self._access.check_open()
        branching.delete_tag(self._repository, name)

    def checkout(self: _Handle, name: str, create: bool = False) -> None:
        """Move HEAD to a branch, or, detached, to any other ref; with `create`, to a new branch at HEAD.

        Raises `ConflictError` while changes are staged.
        """
        self._access.check_open()
        with self._moving() as session:
            self._ref = None
            self._pin_to(branching.checkout(session, name, create=create))

    def undo(self: _Handle) -> Operation:
        """Take back the last change of a ref, and HEAD with it if HEAD stood there; returns what was undone."""
        self._access.check_open()
        with self._moving() as session:
            undone = branching.undo(session)
            self._pin_to(session.head)
            return undone

    def operations(self: _Handle) -> Iterator[Operation]:
        """The operation log, newest first: every change of a branch or tag, with its old and new commit."""
        self._access.check_open()
        return self._repository.refs.iter_operations()

    def diff(self: _Handle, a: str = "HEAD", b: str | None = None) -> Diff:
        """What changed from commit `a` to commit `b`, or to the stage for None."""
        self._access.check_open()
        old = self._open_ref(a)
        return Diff(old, self._read_stage() if b is None else self._open_ref(b))

    def changes(self: _Handle, ref: str = "HEAD") -> Diff:
        """What a commit changed against its first parent; all it holds where there is none, or not on this machine."""
        new = self._open_ref(ref)
        commit = next(self.log(ref, 1), None)
        with suppress(RefNotFoundError):
            if commit is not None and commit.parents:
                return Diff(self._open_ref(commit.parents[0]), new)
        return Diff(self._repository.open_snapshot(None), new)
