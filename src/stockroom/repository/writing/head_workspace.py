"""The base of the working stage's workspace: how HEAD moves with the refs, and follows git and sessions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from stockroom.content.merge.unfinished import Merging
from stockroom.content.snapshot import Snapshot
from stockroom.errors import ConflictError, StockroomError
from stockroom.refs import RefChange
from stockroom.refs.changes import add_commit
from stockroom.refs.commit import MetadataValue
from stockroom.repository.follow import check_unmoved, explain_detached, follow_branch, follow_git, note_seen
from stockroom.repository.git.tie import Tie
from stockroom.repository.head import Head
from stockroom.repository.paths import Identity
from stockroom.repository.writing.workspace import Workspace


class HeadWorkspace(Workspace):
    """A workspace whose commits move HEAD along with a branch."""

    _tie: Tie | None
    _is_tied: bool
    _written_head: Head
    _merging_before: Merging | None

    @abstractmethod
    def move_head(self, head: Head) -> None:
        """Continue from another HEAD, already written to its file."""

    def _propose(
        self,
        message: str,
        metadata: Mapping[str, MetadataValue],
        author: Identity | None,
        head: Head,
        content: Snapshot,
        tie: Tie | None,
    ) -> RefChange:
        parents = [] if head.commit is None else [head.commit]
        parents += () if self.merging is None else self.merging.parents
        record = self.repository.make_commit(
            content.root, parents, message=message, metadata=metadata, author=author, tie=tie
        )
        change = add_commit(record, branch=head.branch or "", old=head.commit)
        return change if self.merging is None else replace(change, kind=self.merging.kind)

    def _apply_and_follow(self, head: Head, change: RefChange, *, follow: Callable[[Head], None]) -> None:
        """Apply a change that moves the checked-out branch to `head`; after a kill, the next opening completes it."""
        self.check_open()
        head_file = self.repository.paths.head
        head_file.prepare(head)
        try:
            self._flush_tensors()
            self.repository.refs.apply(change, objects=self.objects)
            if self._is_tied:
                note_seen(self.repository.paths, head)
            head_file.complete()
            follow(head)
        except BaseException as error:
            if self.repository.refs.find_branch(head.branch) != head.commit:
                head_file.cancel()
                raise
            with suppress(OSError):  # interrupted after the refs moved, which is final
                head_file.complete()
            self.move_head(head)
            if not isinstance(error, OSError):
                raise
            commit = "no commit" if head.commit is None else head.commit.hex()[:12]
            raise StockroomError(
                f"branch {head.branch} is at {commit}, but {head_file.path} cannot follow it ({error.strerror}): "
                "nothing is lost, and the next writer brings it up to date"
            ) from error

    def _look_again(self) -> Head:
        """Find the tie again, and return the current HEAD. Raises `RefChangedError` if git has moved it."""
        self._tie = self.repository.find_tie()
        head = self.repository.complete_head(self._tie)
        if self._tie is not None:
            check_unmoved(head, self._written_head)
        return head

    def _follow_sessions(self) -> None:
        """Move HEAD to its branch's tip if sessions moved the branch while this writer held the lease."""
        refs, began = self.repository.refs, self._written_head
        if refs.find_branch(began.branch) != began.commit:
            with suppress(StockroomError):  # git may have moved HEAD to an absent commit
                follow_branch(self.repository, self.repository.find_tie() if self._is_tied else None)

    def _follow_branch(self) -> None:
        """In the tie, switch to git's branch; if there is none, or git moved HEAD, keep the stage and raise."""
        try:
            head = self._look_again()
            followed = follow_git(self.repository, self._tie, head, is_staged=True)
            if followed.branch is None:
                raise explain_detached(self.repository)
        except ConflictError:
            self.flush()
            self._start, self._merging_before = self._staged.root, self.merging
            raise
        self.head = Head(followed.branch, self.head.commit)
