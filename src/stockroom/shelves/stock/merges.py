"""What moves HEAD: checkouts, merges, commits taken back or over, a branch moved, a move undone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stockroom.refs import Operation
from stockroom.repository import branching
from stockroom.shelves.stock.handle import DEFAULT_TIMEOUT_S, Handle

if TYPE_CHECKING:
    from stockroom.content.merge.conflict import Choice
    from stockroom.content.merge.strategy import Strategy
    from stockroom.repository.merging.commands import FastForward, Merge, MergeOptions
    from stockroom.repository.writing.session import WriteSession
    from stockroom.trees import Key


class MoveActions(Handle):
    """The part of `StockRoom` that moves HEAD."""

    def checkout(self, name: str, create: bool = False) -> None:
        """Move HEAD to a branch, or, detached, to any other ref; with `create`, to a new branch at HEAD.

        Raises `ConflictError` while changes are staged.
        """
        self._access.check_open()
        with self._moving() as session:
            self._ref = None
            self._pin_to(branching.checkout(session, name, create=create))

    def undo(self) -> Operation:
        """Take back the last change of a ref, and HEAD with it if HEAD stood there; returns what was undone."""
        self._access.check_open()
        with self._moving() as session:
            undone = branching.undo(session)
            self._pin_to(session.head)
            return undone

    def merge(
        self,
        ref: str,
        message: str | None = None,
        strategy: Strategy = None,
        *,
        commit: bool = True,
        fast_forward: FastForward = "if possible",
    ) -> Merge:
        """Bring the history of `ref` into the branch checked out: by fast-forward, or by a commit of two parents.

        Columns are merged by key, models by tensor, experiments by key and step, by what changed since the two
        parted; no data is read, or needed on this machine.

        Args:
            ref: a branch, tag or commit; `origin/main` for what was fetched.
            message: what the merge commit says.
            strategy: who decides conflicts: None nobody, `ours`, `theirs`, or `average` for tensors of models; or a
                mapping of patterns of paths to these, as `{"data/label": "theirs"}`.
            commit: False stages the merge instead, with conflicts left open for `resolve`.
            fast_forward: `never` makes a commit in any case, `only` refuses to make one.

        Raises:
            MergeConflictError: what both sides changed in different ways; its `conflicts` list path, key and kind.
                Nothing is changed.
            ConflictError: changes are staged, HEAD is detached, or there is no common history.
        """
        from stockroom.repository.merging.commands import merge  # here for start-up time

        self._access.check_open()
        theirs = self._resolve(ref)
        with self._moving() as session:
            options = make_options(session, message, strategy, commits=commit, fast_forward=fast_forward)
            return self._finish(session, merge(session, theirs, ref, options))

    def revert(self, ref: str, message: str | None = None, strategy: Strategy = None, *, commit: bool = True) -> Merge:
        """Commit the opposite of what the commit `ref` changed; conflicts are as in `merge`."""
        from stockroom.repository.merging.commands import revert  # here for start-up time

        self._access.check_open()
        target = self._resolve(ref)
        with self._moving() as session:
            return self._finish(session, revert(session, target, make_options(session, message, strategy, commit)))

    def cherry_pick(
        self, ref: str, message: str | None = None, strategy: Strategy = None, *, commit: bool = True
    ) -> Merge:
        """Commit here what the commit `ref` changed elsewhere; conflicts are as in `merge`."""
        from stockroom.repository.merging.commands import cherry_pick  # here for start-up time

        self._access.check_open()
        target = self._resolve(ref)
        with self._moving() as session:
            options = make_options(session, message, strategy, commit)
            return self._finish(session, cherry_pick(session, target, options))

    def resolve(self, path: str, key: Key | None = None, *, choice: Choice | None = None) -> int:
        """Decide the open conflicts at `path`, or the one at `key`; returns how many are left open.

        `choice` is `ours` (what HEAD has), `theirs` or, for tensors, `average`; None takes what is staged there, which
        you have set. Raises `NotFoundError` where nothing is in conflict.
        """
        from stockroom.repository.merging.resolve import resolve  # here for start-up time
        from stockroom.shelves.model.averaging import make_average

        self._access.check_open()
        with self._moving() as session:
            return resolve(session, path, key, choice, make_average(session))

    def continue_merge(self, message: str | None = None) -> str:
        """Commit the merge under way; the commit's full hex digest. `MergeConflictError` while conflicts are open."""
        from stockroom.repository.merging.commands import continue_merge  # here for start-up time

        self._access.check_open()
        with self._moving() as session:
            commit = continue_merge(session, message)
            self._pin_to(session.head)
            return commit.hex()

    def abort_merge(self) -> None:
        """Give up the merge under way and what was staged with it; `NotFoundError` if there is none."""
        from stockroom.repository.merging.commands import abort_merge  # here for start-up time

        self._access.check_open()
        with self._moving() as session:
            abort_merge(session)

    def reset_to(self, ref: str) -> None:
        """Move the branch that is checked out to `ref` and drop everything staged, as `git reset --hard` does.

        `undo` takes back the move, not what was staged.
        """
        self._access.check_open()
        target = self._resolve(ref)
        with self._moving() as session:
            branching.reset_to(session, target)
            self._pin_to(session.head)

    def _finish(self, session: WriteSession, merge: Merge) -> Merge:
        self._pin_to(session.head)
        return merge

    @contextmanager
    def _moving(self) -> Iterator[WriteSession]:
        """The session that moves HEAD: this handle's own, or one for the moment."""
        from stockroom.repository.writing.session import WriteSession  # here for start-up time

        if self._access.session is not None:
            self._access.session.check_open()
            assert isinstance(self._access.session, WriteSession)
            yield self._access.session
            return
        session = WriteSession(self._repository, timeout_s=DEFAULT_TIMEOUT_S, only_moving=True)
        try:
            yield session
        finally:
            session.close()


def make_options(
    session: WriteSession,
    message: str | None,
    strategy: Strategy,
    commits: bool = True,
    fast_forward: FastForward = "if possible",
) -> MergeOptions:
    """How a handle merges: by strategy, averaging with its own session's tensors."""
    from stockroom.content.merge.strategy import make_decide
    from stockroom.repository.merging.commands import MergeOptions  # here for start-up time
    from stockroom.shelves.model.averaging import make_average

    return MergeOptions(make_decide(strategy), make_average(session), message, commits, fast_forward)
