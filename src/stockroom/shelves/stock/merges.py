"""A handle's methods that move HEAD: checkout, merge, revert, cherry-pick, reset, undo and redo."""

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
    from stockroom.repository.undo import OnSkip
    from stockroom.repository.writing.stage_workspace import StageWorkspace
    from stockroom.trees import Key


class MoveActions(Handle):
    """The methods of `StockRoom` that move HEAD."""

    def checkout(
        self, name: str, create: bool = False, at: str | None = None, *, force: bool = False, detach: bool = False
    ) -> None:
        """Move HEAD to a branch, or detached to any other ref; `-` is what was checked out before.

        Args:
            create: create the branch first.
            at: the commit that the new branch starts at; None is HEAD.
            force: with `create`, move a branch that exists.
            detach: leave the branch, and stay at its commit.

        Staged changes stay if the commit is the same; otherwise raises `ConflictError`.
        """
        target = None if at is None else self._resolve(at)
        with self._moving() as workspace:
            head = branching.checkout(workspace, name, create=create, at=target, force=force, detach=detach)
            self._ref = None
            self._pin_to(head)

    def rename_branch(self, old: str, new: str, *, force: bool = False) -> None:
        """Rename a branch; HEAD follows if it is checked out. `force` replaces another branch of the new name.

        Raises `RefNotFoundError`, `InvalidNameError`, `InvalidInputError` or `ConflictError`.
        """
        with self._moving() as workspace:
            branching.rename_branch(workspace, old, new, force=force)
            if self._ref is None:
                self._pin_to(workspace.head)

    def undo(self, *, on_skip: OnSkip = lambda *_: None) -> Operation:
        """Undo the last change of a branch, a tag or, after a reset, the stage; return its (first) operation.

        HEAD moves too if it was on that branch. What `clone`, `fetch` and git did cannot be undone. Changes whose
        commits gc has deleted are skipped: `on_skip` is called with each and the reason.

        Raises `NotFoundError` if there is nothing to undo, or `ConflictError` if staged changes are in the way.
        """
        from stockroom.repository.undo import undo  # here for start-up time

        with self._moving() as workspace:
            undone = undo(workspace, on_skip=on_skip)
            self._pin_to(workspace.head)
            return undone

    def redo(self, *, on_skip: OnSkip = lambda *_: None) -> Operation:
        """Take back the last undo, and return the (first) operation that is done again; `on_skip` as in `undo`.

        Raises `NotFoundError` if nothing was undone since the last change, or `ConflictError` as `undo` does.
        """
        from stockroom.repository.undo import redo  # here for start-up time

        with self._moving() as workspace:
            redone = redo(workspace, on_skip=on_skip)
            self._pin_to(workspace.head)
            return redone

    def merge(
        self,
        ref: str,
        message: str | None = None,
        strategy: Strategy = None,
        *,
        commit: bool = True,
        fast_forward: FastForward = "if possible",
    ) -> Merge:
        """Merge the history of `ref` into the branch that is checked out, by fast-forward or a commit of two parents.

        Columns are merged by key, models by tensor, and experiments by key and step, from the changes since the merge
        base. Samples are not read, and may be absent.

        Args:
            ref: a branch, tag or commit; `origin/main` after a fetch.
            message: the message of the merge commit.
            strategy: decides conflicts: `ours`, `theirs`, or `average` for tensors of models; or a mapping from
                patterns of paths to these, such as `{"data/label": "theirs"}`. None leaves them undecided.
            commit: False stages the merge, and leaves conflicts open for `resolve`.
            fast_forward: `never` always makes a commit, `only` refuses to make one.

        Raises:
            MergeConflictError: both sides changed the same in different ways; `conflicts` lists path, key and kind of
                each. Nothing is changed.
            ConflictError: changes are staged, HEAD is detached, or the histories share no commit.
        """
        from stockroom.repository.merging.commands import merge  # here for start-up time

        ref = branching.find_previous(self._repository, ref) or ref
        theirs = self._resolve(ref)
        with self._moving() as workspace:
            options = make_options(workspace, message, strategy, commits=commit, fast_forward=fast_forward)
            return self._report(workspace, merge(workspace, theirs, ref, options))

    def revert(
        self,
        ref: str,
        message: str | None = None,
        strategy: Strategy = None,
        *,
        commit: bool = True,
        mainline: int | None = None,
    ) -> Merge:
        """Commit the opposite of the changes in the commit `ref`; conflicts are handled as in `merge`.

        `mainline` is the number of the parent, from 1, whose side of a merge stays; a merge needs it.
        """
        from stockroom.repository.merging.commands import revert  # here for start-up time

        target = self._resolve(ref)
        with self._moving() as workspace:
            options = make_options(workspace, message, strategy, commit)
            return self._report(workspace, revert(workspace, target, options, mainline))

    def cherry_pick(
        self,
        ref: str,
        message: str | None = None,
        strategy: Strategy = None,
        *,
        commit: bool = True,
        mainline: int | None = None,
    ) -> Merge:
        """Commit the changes in the commit `ref` on this branch; conflicts are handled as in `merge`.

        `mainline` is the number of the parent, from 1, that a merge's changes are taken against; a merge needs it.
        """
        from stockroom.repository.merging.commands import cherry_pick  # here for start-up time

        target = self._resolve(ref)
        with self._moving() as workspace:
            options = make_options(workspace, message, strategy, commit)
            return self._report(workspace, cherry_pick(workspace, target, options, mainline))

    def resolve(self, path: str, key: Key | None = None, *, choice: Choice | None = None) -> int:
        """Decide the open conflicts at `path`, or the one at `key`, and return how many remain open.

        `choice` is `ours` (HEAD's content), `theirs` or, for tensors, `average`. None takes the content that you have
        staged there. Raises `NotFoundError` if there is no conflict.
        """
        from stockroom.repository.merging.resolve import resolve  # here for start-up time
        from stockroom.shelves.model.averaging import make_average

        with self._moving() as workspace:
            return resolve(workspace, path, key, choice, make_average(workspace))

    def continue_merge(self, message: str | None = None) -> str:
        """Commit the unfinished merge, return its full hex digest; raises `MergeConflictError` for open conflicts."""
        from stockroom.repository.merging.commands import continue_merge  # here for start-up time

        with self._moving() as workspace:
            commit = continue_merge(workspace, message)
            self._pin_to(workspace.head)
            return commit.hex()

    def abort_merge(self) -> None:
        """Discard the unfinished merge and everything staged with it; raises `NotFoundError` if there is none."""
        from stockroom.repository.merging.commands import abort_merge  # here for start-up time

        with self._moving() as workspace:
            abort_merge(workspace)

    def reset_to(self, ref: str, *, keep_stage: bool = False) -> None:
        """Move the branch that is checked out, or a detached HEAD, to `ref`, and discard all staged changes.

        This is `git reset --hard`. `undo` restores both. With `keep_stage` the content stays staged, as after
        `git reset --soft`.
        """
        target = self._resolve(ref)
        with self._moving() as workspace:
            branching.reset_to(workspace, target, keep_stage=keep_stage)
            self._pin_to(workspace.head)

    def _report(self, workspace: StageWorkspace, merge: Merge) -> Merge:
        self._pin_to(workspace.head)
        return merge

    @contextmanager
    def _moving(self) -> Iterator[StageWorkspace]:
        """Yield the workspace that moves HEAD: this handle's own, or a temporary one."""
        from stockroom.repository.writing.stage_workspace import StageWorkspace  # here for start-up time

        if self._pin.workspace is not None:
            self._pin.workspace.check_open()
            assert isinstance(self._pin.workspace, StageWorkspace)
            yield self._pin.workspace
            return
        workspace = StageWorkspace(self._repository, timeout_s=DEFAULT_TIMEOUT_S, only_moving=True)
        try:
            yield workspace
        finally:
            workspace.close()


def make_options(
    workspace: StageWorkspace,
    message: str | None,
    strategy: Strategy,
    commits: bool = True,
    fast_forward: FastForward = "if possible",
) -> MergeOptions:
    """Return the merge options of a handle; averages are put through `workspace`."""
    from stockroom.content.merge.strategy import make_decide
    from stockroom.repository.merging.commands import MergeOptions  # here for start-up time
    from stockroom.shelves.model.averaging import make_average

    return MergeOptions(make_decide(strategy), make_average(workspace), message, commits, fast_forward)
