"""Sessions: writers that do not wait for each other. Any number may be open on one branch, in any processes.

Each has its own stage. A commit goes on top of the branch's current tip: the session's changes are merged with the
commits of others, and the branch is moved by compare-and-swap, repeatedly until that succeeds or the changes conflict.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from stockroom.content.merge.conflict import Choice, Conflict, Decide, decide_nothing, explain_conflicts
from stockroom.content.snapshot import Snapshot
from stockroom.digest import CommitId
from stockroom.errors import (
    ConflictError,
    InvalidInputError,
    LockedError,
    NotFoundError,
    NothingToCommitError,
    ReadOnlyError,
    RefChangedError,
)
from stockroom.files import make_folder
from stockroom.locks import FileLock
from stockroom.refs import RefChange, Stage, check_collision, check_name
from stockroom.refs.changes import add_commit
from stockroom.refs.commit import MetadataValue
from stockroom.refs.stage import SESSION_STAGES
from stockroom.repository.follow import follow_branch, follow_git_if_free
from stockroom.repository.head import Head
from stockroom.repository.lease import acquire_lease
from stockroom.repository.paths import Identity
from stockroom.repository.repository import Repository
from stockroom.repository.writing.workspace import (
    ATTEMPTS,
    Workspace,
    check_message,
    make_session_name,
    one_at_a_time,
)
from stockroom.trees import Key

_HEAD_MOVES: Final = 4
_OUTRUN: Final = (
    "Others have changed it and committed: set the session's `strategy`, call its `resolve`, or change it again after "
    "`reset`"
)


class SessionWorkspace(Workspace):
    """A writer with its own stage, on a branch. A branch that does not exist is created by the first commit, from HEAD.

    The stage of a named session outlives the process from `flush` on, until the session of that name commits or resets
    it. Only one process at a time can hold a name.
    """

    def __init__(
        self,
        repository: Repository,
        branch: str,
        *,
        name: str | None = None,
        timeout_s: float = 10.0,
        decide: Decide = decide_nothing,
    ) -> None:
        check_name("branch", branch)
        repository.env.check_writable()
        self._pid = os.getpid()
        self.decide = decide
        """Decides conflicts with the commits of others, after `resolve`."""
        self._decided: list[tuple[str, Key | None, Choice]] = []
        self._name = name
        self._stage_name = None if name is None else f"{SESSION_STAGES}{name}"
        self._lease = None if name is None else _take_name(repository, name, timeout_s)
        try:
            super().__init__(repository)
            follow_git_if_free(repository)
            repository.paths.read_identity()  # now rather than after the work
            tip = repository.refs.find_branch(branch)
            if tip is None:
                check_collision("branch", branch, repository.refs.branches())
            stage = None if self._stage_name is None else repository.refs.get_stage(self._stage_name)
            self._is_new = tip is None
            start = repository.follow(repository.read_head()).commit if tip is None else tip
            self.head = self._start_head = Head(branch, start if stage is None else stage.base)
            self.start_from(self.head.commit, None if stage is None else stage.root)
        except BaseException:
            self._release()
            raise
        self._is_closed = False

    @property
    def is_open(self) -> bool:
        """Whether this process may still write here."""
        return not self._is_closed and self._pid == os.getpid()

    @one_at_a_time
    def finish(self, message: str) -> None:
        """Commit the changes of this session, if any."""
        if self.snapshot.root != self.base.root:
            self.commit(message, {})
        else:
            self._write_stage()

    @one_at_a_time
    def commit(
        self,
        message: str,
        metadata: Mapping[str, MetadataValue],
        author: Identity | None = None,
        *,
        allow_empty: bool = False,
    ) -> CommitId:
        """Commit this session's changes on top of its branch's tip, and return the commit's id.

        Raises:
            NothingToCommitError: it changed nothing, and not `allow_empty`.
            MergeConflictError: others changed the same things, and conflicts are undecided. The session is unchanged.
            ConflictError: the branch was deleted.
        """
        self.check_open()
        check_message(message, metadata)
        if self.snapshot.root == self.base.root and not allow_empty:
            raise NothingToCommitError("nothing to commit: this session changed nothing")
        self._flush_tensors()
        with self._take_turn():
            self._begin_at(self._land(message, metadata, author))
        _advance_head(self.repository, self.head.branch)
        self._renew_claim()
        self.repository.join_packs()
        assert self.head.commit is not None
        return self.head.commit

    @one_at_a_time
    def reset(self, *, undoable: bool = True) -> None:  # noqa: ARG002 - a session's operations are its commits
        """Drop the staged changes for good, and continue from the branch's tip."""
        self.check_open()
        self._drop_edits()
        tip = self.repository.refs.find_branch(self.head.branch)
        self._begin_at(Head(self.head.branch, self.head.commit if tip is None and self._is_new else tip))
        self._write_stage()

    @one_at_a_time
    def keep(self) -> str:
        """Keep the staged changes under this session's name, or a new one; return how to go on."""
        self.check_open()
        return self._keep_as_session(self._name or make_session_name())

    @one_at_a_time
    def refresh(self) -> None:
        """Put the staged changes on top of the branch's tip, so that this session sees the commits of others.

        Raises `MergeConflictError` if conflicts are undecided; then the session is unchanged.
        """
        self.check_open()
        tip = self._find_tip()
        if tip != self.head.commit:
            self._stage_edits()
            content = self._put_on(tip)
            self.head, self.base = Head(self.head.branch, tip), self.repository.open_snapshot(tip, self.nodes)
            self._staged = content
            self._decided = []
            self._forget_edits()

    @one_at_a_time
    def resolve(self, path: str, key: Key | None, choice: Choice) -> int:
        """Decide the conflicts with the branch's tip at a path, or the one at a key; return how many are left.

        `ours` is this session's side. The decision holds until the next commit, `refresh` or `reset`.

        Raises:
            NotFoundError: nothing there is in conflict.
            InvalidInputError: the choice cannot decide the conflict.
        """
        self.check_open()
        self._stage_edits()
        tip = self._find_tip()
        if not any(_concerns(path, key, conflict) for conflict in self._merge(tip)[1]):
            where = path if key is None else f"{path}, {key!r}"
            raise NotFoundError(f"{where}: no conflict with the commits of others")
        self._decided.append((path, key, choice))
        _, left = self._merge(tip)
        if any(_concerns(path, key, conflict) for conflict in left):
            del self._decided[-1]
            raise InvalidInputError(f"{path}: cannot be decided as {choice!r}; choose another side, or set it yourself")
        return len(left)

    @one_at_a_time
    def rollback(self) -> None:
        """Return to the stage as it was when the workspace was opened or last committed."""
        if self.is_open:
            self._drop_edits()
            self.head, self.base = self._start_head, self._start_base
            self._staged = Snapshot(self.nodes, self._start)
            self._write_stage()

    @one_at_a_time
    def close(self) -> None:
        """Stop writing. A named session loses unflushed changes, an unnamed one all uncommitted changes."""
        if self.is_open:
            self._is_closed = True
            try:
                self._abort_tensors()
            finally:
                self._release()

    def _land(self, message: str, metadata: Mapping[str, MetadataValue], author: Identity | None) -> Head:
        """Commit on top of the branch's tip, whatever that is by the time it succeeds; return the new HEAD."""
        branch, refs, tie = self.head.branch, self.repository.refs, self.repository.find_tie()
        assert branch is not None
        for _ in range(ATTEMPTS):
            old = refs.find_branch(branch)
            tip = self._check_tip(old)
            content = self._put_on(tip)
            parents = [] if tip is None else [tip]
            record = self.repository.make_commit(
                content.root, parents, message=message, metadata=metadata, author=author, tie=tie
            )
            change = add_commit(record, branch=branch, old=old)
            if self._stage_name is not None:
                change = replace(change, stages={self._stage_name: None})
            try:
                refs.apply(change, objects=self.objects)
            except RefChangedError:  # another commit was faster: go on top of it
                continue
            self._is_new = False
            return Head(branch, record.commit_id)
        raise RefChangedError(f"branch {branch!r} moved {ATTEMPTS} times during this commit; try again")

    def _begin_at(self, head: Head) -> None:
        self.head = self._start_head = head
        self._decided = []
        self._forget_edits()
        self.start_from(head.commit)

    def _find_tip(self) -> CommitId | None:
        return self._check_tip(self.repository.refs.find_branch(self.head.branch))

    def _check_tip(self, tip: CommitId | None) -> CommitId | None:
        """Return the commit to commit on top of, for a branch at `tip`: HEAD's, if the branch is not created yet."""
        if tip is None and self._is_new:
            return self.head.commit
        if tip is None and self.head.commit is not None:
            raise ConflictError(
                f"branch {self.head.branch!r} was deleted; commit to another branch, or create it again"
            )
        return tip

    def _put_on(self, tip: CommitId | None) -> Snapshot:
        """Return the staged content, merged with the commits of others since this session began."""
        if tip == self.head.commit:
            return self._staged
        content, conflicts = self._merge(tip)
        if conflicts:
            raise explain_conflicts(conflicts, "commit", advice=_OUTRUN)
        return content

    def _merge(self, tip: CommitId | None) -> tuple[Snapshot, list[Conflict]]:
        return self._merge_onto(self.repository.open_snapshot(tip, self.nodes), self._choose)

    def _choose(self, conflict: Conflict) -> Sequence[Choice]:
        decided = [choice for path, key, choice in self._decided if _concerns(path, key, conflict)]
        return decided or self.decide(conflict)

    def _write_stage(self) -> None:
        """Write the stage of a named session; an unnamed one has none on disk."""
        name, is_changed = self._stage_name, self._staged.root != self.base.root
        stage = Stage(base=self.head.commit, root=self._staged.root) if is_changed else None
        if name is not None and stage != self.repository.refs.get_stage(name):
            self.repository.refs.apply(RefChange(kind="stage", stages={name: stage}), objects=self.objects)

    def _release(self) -> None:
        if self._lease is not None:
            self._lease.release()


def _concerns(path: str, key: Key | None, conflict: Conflict) -> bool:
    """Return whether a conflict is at a path and, unless None, a key."""
    return conflict.path == path and (key is None or conflict.key == key or str(conflict.key) == str(key))


def _advance_head(repository: Repository, branch: str | None) -> None:
    """Move HEAD with its branch, if it is on this one, nothing is staged there, and no writer is active there.

    After a move it looks again, for commits by others that could not move HEAD in the meantime.
    """
    for _ in range(_HEAD_MOVES):
        tie = repository.find_tie()
        if (repository.paths.head.read().branch if tie is None else tie.branch) != branch:
            return
        try:
            lease = acquire_lease(repository.paths.lease, timeout_s=0)
        except (LockedError, ReadOnlyError):  # the writer there will commit on top of this
            return
        with lease:
            if not follow_branch(repository, tie):
                return


def _take_name(repository: Repository, name: str, timeout_s: float) -> FileLock:
    check_name("session", name)
    path = repository.paths.session_lease(name)
    make_folder(path.parent)
    return acquire_lease(path, timeout_s=timeout_s)
