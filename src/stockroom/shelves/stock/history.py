"""A handle's methods for history: reading it, comparing commits, and naming them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType

from stockroom.content.diff import Diff
from stockroom.errors import InvalidInputError, RefNotFoundError
from stockroom.refs import Operation, iter_log
from stockroom.repository import branching
from stockroom.shelves.report import Commit, describe_commit
from stockroom.shelves.stock.handle import Handle


class HistoryActions(Handle):
    """The methods of both kinds of handles that concern history."""

    def log(self, ref: str = "HEAD", n: int | None = None) -> Iterator[Commit]:
        """Yield the commits reachable from `ref`, newest first, children before parents; at most `n`."""
        self._pin.check_open()
        if n is not None and n < 0:
            raise InvalidInputError(f"expected a number of commits, or None for all, found {n}")
        if ref == "HEAD" and self._head.commit is None:
            return iter(())
        logged = iter_log(self._repository.refs, self._resolve(ref), n=n)
        return (describe_commit(entry) for entry in logged)

    @property
    def branches(self) -> Mapping[str, str]:
        """Branch names and the full hex digests of their commits; read-only."""
        return MappingProxyType({name: commit.hex() for name, commit in self._repository.refs.branches().items()})

    @property
    def tags(self) -> Mapping[str, str]:
        """Tag names and the full hex digests of their commits; read-only."""
        return MappingProxyType({name: commit.hex() for name, commit in self._repository.refs.tags().items()})

    def create_branch(self, name: str, at: str = "HEAD") -> None:
        """Create a branch at a commit; raises `InvalidNameError`, or `RefChangedError` if it exists."""
        branching.create_branch(self._repository, name, self._resolve(at))

    def delete_branch(self, name: str, force: bool = False) -> None:
        """Delete a branch; raises `ConflictError` if it is checked out, or, unless `force`, HEAD lacks its commits."""
        head = self._repository.follow(self._repository.read_head())
        branching.delete_branch(self._repository, name, head=head, force=force)

    def create_tag(self, name: str, at: str = "HEAD") -> None:
        """Create a tag at a commit; raises `InvalidNameError`, or `InvalidInputError` if it exists."""
        branching.create_tag(self._repository, name, self._resolve(at))

    def delete_tag(self, name: str) -> None:
        """Delete a tag."""
        branching.delete_tag(self._repository, name)

    def operations(self) -> Iterator[Operation]:
        """Yield the operation log, newest first: every change of a branch or tag, with its old and new commit."""
        return self._repository.refs.iter_operations()

    def diff(self, a: str = "HEAD", b: str | None = None) -> Diff:
        """Return the changes from commit `a` to commit `b`, or to the stage if `b` is None."""
        old = self._open_ref(a)
        return Diff(old, self._read_stage() if b is None else self._open_ref(b))

    def changes(self, ref: str = "HEAD") -> Diff:
        """Return a commit's changes against its first parent, or all its content if there is none on this machine."""
        new = self._open_ref(ref)
        commit = next(self.log(ref, 1), None)
        with suppress(RefNotFoundError):
            if commit is not None and commit.parents:
                return Diff(self._open_ref(commit.parents[0]), new)
        return Diff(self._repository.open_snapshot(None), new)
