"""A handle's methods for history: reading it, comparing commits, and naming them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING

from stockroom.errors import InvalidInputError, NotFoundError, RefNotFoundError
from stockroom.refs import (
    LoggedCommit,
    Operation,
    Revisions,
    is_ancestor,
    iter_log,
    list_merge_bases,
    resolve_revisions,
)
from stockroom.repository import branching
from stockroom.shelves.stock.handle import Handle
from stockroom.shelves.stock.log_choice import EVERY_COMMIT, LogChoice

if TYPE_CHECKING:
    from stockroom.content.diff import Diff
    from stockroom.shelves.report import BlameLine, Commit


class HistoryActions(Handle):
    """The methods of both kinds of handles that concern history."""

    def log(
        self,
        ref: str | Sequence[str] = "HEAD",
        n: int | None = None,
        *,
        paths: Sequence[str] = (),
        every_ref: bool = False,
        choice: LogChoice = EVERY_COMMIT,
    ) -> Iterator[Commit]:
        """Yield the commits reachable from `ref`, newest first, children before parents; at most `n`.

        Args:
            ref: a commit, or several words as git takes them: `dev`, `main..dev`, `^main`, `main...dev`.
            n: the maximum number of commits.
            paths: only commits that changed one of these, such as `data/label` or `data/label/17`. Of a merge that has
                them as one parent does, only that parent's history is followed, as in git.
            every_ref: start from every branch, tag, remote-tracking branch and HEAD too.
            choice: further conditions, and the order.
        """
        from stockroom.repository.path_history import PathHistory  # here for start-up time
        from stockroom.shelves.report import describe_commit

        self._pin.check_open()
        if n is not None and n < 0:
            raise InvalidInputError(f"expected a number of commits, or None for all, found {n}")
        found = self._resolve_starts([ref] if isinstance(ref, str) else ref, every_ref=every_ref)
        refs, history = self._repository.refs, PathHistory(self._repository, paths) if paths else None
        follow = choice.limit_to(history)
        logged = iter_log(refs, found.starts, hidden=found.hidden, follow=follow, line_by_line=choice.line_by_line)
        if history is not None:
            logged = (entry for entry in logged if history.has(entry.commit_id))
        return islice(filter(choice.takes, map(describe_commit, logged)), n)

    def _resolve_starts(self, specs: Sequence[str], *, every_ref: bool) -> Revisions:
        """Return where a log begins; nowhere if HEAD has no commit yet."""
        specs = [spec for spec in specs if spec != "HEAD" or self._head.commit is not None]
        found = resolve_revisions(self._repository.refs, specs, self._resolve)
        if not every_ref:
            return found
        refs = self._repository.refs
        named = [*refs.branches().values(), *refs.tags().values(), *refs.remotes().values()]
        return Revisions((*found.starts, *named), found.hidden)

    def blame(self, path: str, ref: str = "HEAD", *, limit: int | None = None) -> list[BlameLine]:
        """Return the commit that last changed each key at `path`, in key order; at most `limit` lines.

        `path` names a column, metric or model, a key in one (`data/label/17`), a value, an artifact, or a folder. Reads
        no samples. Raises `NotFoundError` if nothing is there.
        """
        from stockroom.repository.blame import blame  # here for start-up time
        from stockroom.shelves.report import BlameLine, describe_commit

        refs = self._repository.refs
        found = blame(self._repository, self._resolve(ref), path, limit)
        commits = {commit: describe_commit(LoggedCommit(commit, refs.get_commit(commit))) for _, commit in found}
        return [BlameLine(place.path, place.key, commits[commit]) for place, commit in found]

    @property
    def branches(self) -> Mapping[str, str]:
        """Branch names and the full hex digests of their commits; read-only."""
        return MappingProxyType({name: commit.hex() for name, commit in self._repository.refs.branches().items()})

    @property
    def tags(self) -> Mapping[str, str]:
        """Tag names and the full hex digests of their commits; read-only."""
        return MappingProxyType({name: commit.hex() for name, commit in self._repository.refs.tags().items()})

    def create_branch(self, name: str, at: str = "HEAD", *, force: bool = False) -> None:
        """Create a branch at a commit; with `force`, move it there if it exists and is not checked out.

        Raises `InvalidNameError`, `InvalidInputError` if it exists, or `ConflictError` if it is checked out.
        """
        branching.create_branch(self._repository, name, self._resolve(at), force=force)

    def list_merged(self, ref: str = "HEAD") -> Mapping[str, bool]:
        """Return, for each branch, whether `ref` has all its commits."""
        refs, target = self._repository.refs, self._resolve(ref)
        return {name: is_ancestor(refs, commit, target) for name, commit in refs.branches().items()}

    def list_containing(self, ref: str = "HEAD") -> Mapping[str, bool]:
        """Return, for each branch, whether it has the commit `ref`."""
        refs, wanted = self._repository.refs, self._resolve(ref)
        return {name: is_ancestor(refs, wanted, commit) for name, commit in refs.branches().items()}

    def delete_branch(self, name: str, force: bool = False) -> None:
        """Delete a branch; raises `ConflictError` if it is checked out, or, unless `force`, HEAD lacks its commits."""
        head = self._repository.follow(self._repository.read_head())
        branching.delete_branch(self._repository, name, head=head, force=force)

    def create_tag(self, name: str, at: str = "HEAD", *, force: bool = False) -> None:
        """Create a tag at a commit; with `force`, move it there if it exists.

        Raises `InvalidNameError`, or `InvalidInputError` if it exists.
        """
        branching.create_tag(self._repository, name, self._resolve(at), force=force)

    def delete_tag(self, name: str) -> None:
        """Delete a tag."""
        branching.delete_tag(self._repository, name)

    def operations(self) -> Iterator[Operation]:
        """Yield the operation log, newest first: every change of a branch or tag, with its old and new commit."""
        return self._repository.refs.iter_operations()

    def diff(self, a: str = "HEAD", b: str | None = None, *, paths: Sequence[str] = ()) -> Diff:
        """Return the changes from commit `a` to commit `b`, or to the stage if `b` is None.

        `paths` limits them, such as to `data` or `data/label`.
        """
        from stockroom.content.diff import Diff  # here for start-up time

        old = self._open_ref(a)
        return Diff(old, self._read_stage() if b is None else self._open_ref(b), paths)

    def get_merge_base(self, a: str, b: str) -> str:
        """Return the commit at which two histories part; raises `NotFoundError` if they share none."""
        bases = list_merge_bases(self._repository.refs, self._resolve(a), self._resolve(b))
        if not bases:
            raise NotFoundError(f"{a!r} and {b!r} share no history")
        return bases[0].hex()

    def changes(self, ref: str = "HEAD", *, paths: Sequence[str] = ()) -> Diff:
        """Return a commit's changes against its first parent, or all its content if there is none on this machine."""
        from stockroom.content.diff import Diff  # here for start-up time

        new = self._open_ref(ref)
        commit = next(self.log(ref, 1), None)
        with suppress(RefNotFoundError):
            if commit is not None and commit.parents:
                return Diff(self._open_ref(commit.parents[0]), new, paths)
        return Diff(self._repository.open_snapshot(None), new, paths)
