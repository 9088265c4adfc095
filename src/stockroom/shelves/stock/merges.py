"""What a handle does with other lines of history: merging them, taking commits back, moving a branch."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from stockroom.content.merge.unfinished import Merging, read_merging
from stockroom.digest import CommitId
from stockroom.repository.branching import reset_to
from stockroom.shelves.report import MergeUnderWay

if TYPE_CHECKING:
    from stockroom.content.merge.conflict import Choice
    from stockroom.content.merge.strategy import Strategy
    from stockroom.repository.head import Head
    from stockroom.repository.merging.commands import FastForward, Merge, MergeOptions
    from stockroom.repository.repository import Repository
    from stockroom.repository.writing.session import WriteSession
    from stockroom.shelves.pin import Access
    from stockroom.trees import Key


class _Handle(Protocol):
    _access: Access
    _repository: Repository

    def _moving(self) -> AbstractContextManager[WriteSession]: ...
    def _pin_to(self, head: Head) -> None: ...
    def _resolve(self, ref: str) -> CommitId: ...


class MergeActions:
    """The part of `StockRoom` that is about several lines of history."""

    def merge(
        self: _Handle,
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
            return _finish(self, session, merge(session, theirs, ref, options))

    def revert(
        self: _Handle, ref: str, message: str | None = None, strategy: Strategy = None, *, commit: bool = True
    ) -> Merge:
        """Commit the opposite of what the commit `ref` changed; conflicts are as in `merge`."""
        from stockroom.repository.merging.commands import revert  # here for start-up time

        self._access.check_open()
        target = self._resolve(ref)
        with self._moving() as session:
            return _finish(self, session, revert(session, target, make_options(session, message, strategy, commit)))

    def cherry_pick(
        self: _Handle, ref: str, message: str | None = None, strategy: Strategy = None, *, commit: bool = True
    ) -> Merge:
        """Commit here what the commit `ref` changed elsewhere; conflicts are as in `merge`."""
        from stockroom.repository.merging.commands import cherry_pick  # here for start-up time

        self._access.check_open()
        target = self._resolve(ref)
        with self._moving() as session:
            options = make_options(session, message, strategy, commit)
            return _finish(self, session, cherry_pick(session, target, options))

    def find_merge(self: _Handle) -> MergeUnderWay | None:
        """The merge under way, with what it leaves open; None if there is none. Waits for no writer."""
        self._access.check_open()
        session, repository = self._access.session, self._repository
        if session is None:
            stage = repository.refs.get_stage(repository.paths.stage_name)
            if stage is None or stage.merging is None:
                return None
            return _describe(read_merging(repository.objects, stage.merging))
        return None if session.merging is None else _describe(session.merging)

    def resolve(self: _Handle, path: str, key: Key | None = None, *, choice: Choice | None = None) -> int:
        """Decide the open conflicts at `path`, or the one at `key`; returns how many are left open.

        `choice` is `ours` (what HEAD has), `theirs` or, for tensors, `average`; None takes what is staged there, which
        you have set. Raises `NotFoundError` where nothing is in conflict.
        """
        from stockroom.repository.merging.resolve import resolve  # here for start-up time
        from stockroom.shelves.model.averaging import make_average

        self._access.check_open()
        with self._moving() as session:
            return resolve(session, path, key, choice, make_average(session))

    def continue_merge(self: _Handle, message: str | None = None) -> str:
        """Commit the merge under way; the commit's full hex digest. `MergeConflictError` while conflicts are open."""
        from stockroom.repository.merging.commands import continue_merge  # here for start-up time

        self._access.check_open()
        with self._moving() as session:
            commit = continue_merge(session, message)
            self._pin_to(session.head)
            return commit.hex()

    def abort_merge(self: _Handle) -> None:
        """Give up the merge under way and what was staged with it; `NotFoundError` if there is none."""
        from stockroom.repository.merging.commands import abort_merge  # here for start-up time

        self._access.check_open()
        with self._moving() as session:
            abort_merge(session)

    def reset_to(self: _Handle, ref: str) -> None:
        """Move the branch that is checked out to `ref` and drop everything staged, as `git reset --hard` does.

        `undo` takes back the move, not what was staged.
        """
        self._access.check_open()
        target = self._resolve(ref)
        with self._moving() as session:
            reset_to(session, target)
            self._pin_to(session.head)


def _describe(merging: Merging) -> MergeUnderWay:
    commit = None if merging.parent is None else merging.parent.hex()
    return MergeUnderWay(merging.kind, commit, merging.message, tuple(merging.conflicts))


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


def _finish(handle: _Handle, session: WriteSession, merge: Merge) -> Merge:
    handle._pin_to(session.head)
    return merge
