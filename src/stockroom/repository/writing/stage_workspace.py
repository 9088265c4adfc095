"""The workspace on the working stage, and everything that changes it or commits it.

The stage is a root, like a commit's, on top of the commit it started from. `flush` makes it durable, `commit` gives it
a commit record and moves the branch. Order on disk: packs, index, metadata and refs in one transaction, then HEAD.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from stockroom.content.merge.conflict import explain_open
from stockroom.content.merge.unfinished import Merging, read_merging
from stockroom.content.snapshot import Snapshot
from stockroom.digest import CommitId
from stockroom.errors import NothingToCommitError, RefChangedError, StockroomError
from stockroom.refs import RefChange, Stage, StageMove, check_collision, is_ancestor
from stockroom.refs.commit import CommitRecord, MetadataValue
from stockroom.repository.follow import explain_detached, follow_git
from stockroom.repository.git.tie import Tie
from stockroom.repository.head import Head
from stockroom.repository.lease import acquire_lease
from stockroom.repository.paths import Identity
from stockroom.repository.repository import Repository
from stockroom.repository.writing.head_workspace import HeadWorkspace
from stockroom.repository.writing.refusals import (
    explain_elsewhere,
    explain_merging,
    explain_outrun,
    explain_staged,
    explain_stranded,
)
from stockroom.repository.writing.workspace import ATTEMPTS, check_message, make_session_name, one_at_a_time


class StageWorkspace(HeadWorkspace):
    """A writer that holds the lease of the working stage until `close`."""

    def __init__(
        self, repository: Repository, *, timeout_s: float, drop_stage: bool = False, only_moving: bool = False
    ) -> None:
        """Open it; `drop_stage` leaves out staged changes, `only_moving` allows a stage that is on another commit."""
        self._stranded: Stage | None = None
        self.may_strand = only_moving
        """Whether the stage may be on another commit than HEAD."""
        self._lease = acquire_lease(repository.paths.lease, timeout_s=timeout_s)
        try:
            super().__init__(repository)
            repository.refs.see_last_change()
            self._tie = repository.find_tie()
            self._is_tied = self._tie is not None
            self.head = repository.complete_head(self._tie)
            stage = None if drop_stage else self._find_stage(only_moving=only_moving)
            root = None if stage is None else stage.root
            self.start_from(self.head.commit, root)  # fails before a branch moves to an absent commit
            self._written_head = follow_git(repository, self._tie, self.head, is_staged=stage is not None)
            if self._written_head.commit != self.head.commit:
                self.start_from(self._written_head.commit)
            self.head = self._written_head
            if stage is not None and stage.merging is not None:
                self.merging = read_merging(self.objects, stage.merging)
        except BaseException:
            self._lease.release()
            raise
        self._merging_before = self.merging

    @property
    def is_open(self) -> bool:
        """Whether this workspace, in this process, still holds the lease."""
        return self._lease.is_held

    @one_at_a_time
    def finish(self, message: str) -> None:
        """Commit the changes of this workspace, if any, along with earlier staged changes."""
        self.check_open()
        root = self.snapshot.root
        if root in (self._start, self.base.root) and self.merging is None:
            self._write_stage()  # nothing changed, or all was undone: a flush may have put something else there
        else:
            self.commit(message, {})

    @one_at_a_time
    def commit(
        self,
        message: str,
        metadata: Mapping[str, MetadataValue],
        author: Identity | None = None,
        *,
        allow_empty: bool = False,
    ) -> CommitId:
        """Commit the stage. Raises `NothingToCommitError` if it equals HEAD, unless `allow_empty`."""
        self.check_open()
        check_message(message, metadata)
        if self.snapshot.root == self.base.root and self.merging is None and not allow_empty:
            raise NothingToCommitError("nothing to commit: the stage equals HEAD")
        if self.merging is not None and self.merging.open_conflicts:
            raise explain_open(self.merging.conflicts, self.merging.kind)
        return self.land(partial(self._propose, message, metadata, author))

    @one_at_a_time
    def land(self, propose: Callable[[Head, Snapshot, Tie | None], RefChange]) -> CommitId:
        """Commit on top of the branch's tip, whatever that is by the time it succeeds; until then nothing changes.

        `propose` returns the change for that tip and the staged content on top of it; its first move is the branch's.
        """
        self.check_open()
        self._flush_tensors()
        with self._take_turn():
            commit = self._land(propose)
        self._renew_claim()
        self.repository.join_packs()
        return commit

    @one_at_a_time
    def check_branch(self) -> str:
        """Return the branch that a commit goes to, after catching up with it if sessions moved it ahead.

        Raises `ConflictError` if HEAD is detached, `RefChangedError` if the branch is elsewhere.
        """
        head = self._resolve_tip()
        assert head.branch is not None
        if head.commit != self.head.commit:
            content = self._put_on(head.commit)
            self.head, self.base = head, self.repository.open_snapshot(head.commit, self.nodes)
            self.stage_content(content)
        return head.branch

    @one_at_a_time
    def check_can_end(self) -> None:
        """Raise the error that a commit would raise, as far as it is known now."""
        self.repository.paths.read_identity()
        head = self._resolve_tip()
        assert head.branch is not None
        if head.commit is None:
            check_collision("branch", head.branch, self.repository.refs.branches())
        if self._start != self._start_base.root:
            self._put_on(head.commit)

    @one_at_a_time
    def keep(self) -> str:
        """Keep the staged changes in a session of a new name, or an unfinished merge on the stage; return where."""
        self.check_open()
        if self.snapshot.root == self._start:  # `_follow_branch` has kept it
            return "on the stage, to be committed (`stock commit`) or dropped (`stock reset`)"
        if self.merging is None:
            return self._keep_as_session(make_session_name())
        self.flush()
        self._start, self._start_base, self._merging_before = self._staged.root, self.base, self.merging
        return "on the stage: finish the merge there (`stock merge --continue`) or abort it (`stock merge --abort`)"

    def _resolve_tip(self) -> Head:
        """Return the branch that a commit goes to, at its tip; raises as `check_branch` does."""
        if self._is_tied:
            self._follow_branch()
        branch = self.head.branch
        if branch is None:
            raise explain_detached(self.repository)
        tip = self.repository.refs.find_branch(branch)
        if tip != self.head.commit and (tip is None or not self._is_behind(tip)):
            raise explain_elsewhere(self.head, tip)
        return Head(branch, tip)

    def _land(self, propose: Callable[[Head, Snapshot, Tie | None], RefChange]) -> CommitId:
        for _ in range(ATTEMPTS):
            head = self._resolve_tip()
            content = self._put_on(head.commit)
            change = replace(propose(head, content, self._tie), stages={self.stage_name: None})
            commit = change.moves[0].new
            assert commit is not None
            try:
                new = Head(head.branch, commit)
                self._apply_and_follow(new, change, follow=partial(self._continue_from, content=content))
            except RefChangedError:  # a session was faster: go on top of it
                continue
            return commit
        raise RefChangedError(f"the branch moved {ATTEMPTS} times during this commit; try again")

    @one_at_a_time
    def stage_merge(self, content: Snapshot, merging: Merging | None) -> None:
        """Replace the stage by merged content and the unfinished merge."""
        self.check_open()
        self._staged, self.merging = content, merging
        self._forget_edits()

    @one_at_a_time
    def discard(self) -> None:
        """Drop edits, and objects put and not staged."""
        self._drop_edits()

    @one_at_a_time
    def reset(self, *, undoable: bool = True) -> None:
        """Drop everything staged, and the unfinished merge; if `undoable`, `undo` brings them back."""
        self.check_open()
        change = RefChange(
            kind="reset", stage_moves=self.plan_drop() if undoable else (), stages={self.stage_name: None}
        )
        if not undoable:
            self._drop_edits()
        self.repository.refs.apply(change, objects=self.objects)
        self._drop_edits()
        self._staged, self.merging, self._stranded = self.base, None, None

    @one_at_a_time
    def find_stage(self) -> Stage | None:
        """Return the staged changes, not flushed yet, or None if there are none."""
        self._stage_edits()
        return self._stranded or self._make_stage()

    @one_at_a_time
    def plan_drop(self) -> tuple[StageMove, ...]:
        """Return the move that drops the stage, after making it durable; none if it is empty.

        If that fails, as on a full disk, the move drops the stage as it was flushed last.
        """
        self.check_open()
        try:
            stage = self.find_stage()
            self._flush_tensors()
        except (OSError, StockroomError):
            self._drop_edits()
            stage = None
        stage = stage or self.repository.refs.get_stage(self.stage_name)
        return () if stage is None else (StageMove(name=self.stage_name, old=stage, new=None),)

    @one_at_a_time
    def rollback(self) -> None:
        """Return to the stage as it was when the workspace was opened or last committed, on disk too."""
        if not self.is_open:
            return
        self._drop_edits()
        self.head, self.base = self._written_head, self._start_base  # it may have caught up with its branch
        self._staged, self.merging = Snapshot(self.nodes, self._start), self._merging_before
        self._write_stage()

    @property
    def is_clean(self) -> bool:
        """Whether nothing is staged, here or on another commit."""
        return self._stranded is None and self.merging is None and self.snapshot.root == self.base.root

    @property
    def is_stranded(self) -> bool:
        """Whether there are staged changes that belong on another commit than HEAD."""
        return self._stranded is not None

    @one_at_a_time
    def check_clean(self, target: CommitId | None = None) -> None:
        """Raise `ConflictError` if anything is staged, unless it is staged on `target` and HEAD is elsewhere."""
        if self._stranded is not None and (target is None or target != self._stranded.base):
            raise explain_stranded(self._stranded)
        if self.merging is not None:
            raise explain_merging(self.merging)
        if self.snapshot.root != self.base.root:
            raise explain_staged()

    def check_settled(self) -> None:
        """Raise `ConflictError` if a merge is unfinished, or changes are staged on another commit than HEAD."""
        if self._stranded is not None:
            raise explain_stranded(self._stranded)
        if self.merging is not None:
            raise explain_merging(self.merging)

    @one_at_a_time
    def write_head(self, head: Head) -> None:
        """Check out a branch or commit; staged changes stay if the commit is the same."""
        if head != self.head:
            self.repository.paths.head.write(head)
        if head.commit == self.head.commit:
            self.head = self._written_head = head
        else:
            self.move_head(head)

    @one_at_a_time
    def move_head(self, head: Head) -> None:
        """Continue from another HEAD, already written to its file."""
        self._continue_at(head, None)

    @one_at_a_time
    def move_branch(
        self, head: Head, change: RefChange, *, content: Snapshot | None = None, stage: Stage | None = None
    ) -> None:
        """Apply a change that moves the checked-out branch, and continue there, with `content` or `stage` staged."""
        if self._is_tied:
            self._look_again()
        follow = partial(self._continue_at, stage=stage)
        if content is not None:
            follow = partial(self._move_below, content=content)
        if head.branch is None:
            self.repository.refs.apply(change, objects=self.objects)
            self.repository.paths.head.write(head)
            follow(head)
        else:
            self._apply_and_follow(head, change, follow=follow)

    @one_at_a_time
    def set_stage(self, head: Head, change: RefChange, stage: Stage | None) -> None:
        """Apply a change that leaves `stage`, move HEAD on its branch to the commit in `head`, and continue there."""
        self._flush_tensors()
        self.repository.refs.apply(change, objects=self.objects)
        if head != self.head:
            self.repository.paths.head.write(head)
        self._continue_at(head, stage)

    @one_at_a_time
    def close(self) -> None:
        """Release the lease. Unflushed changes are lost."""
        if not self.is_open:  # in a forked child: the files are the parent's
            return
        try:
            self._abort_tensors()
            self._follow_sessions()
        finally:
            self._lease.release()

    @property
    def stage_name(self) -> str:
        """The name of this stage in the refs."""
        return self.repository.paths.stage_name

    def _find_stage(self, *, only_moving: bool) -> Stage | None:
        stage = self.repository.refs.get_stage(self.stage_name)
        if stage is None or stage.base == self.head.commit:
            return stage
        if not only_moving:
            raise explain_stranded(stage)
        self._stranded = stage
        return None

    def _make_stage(self) -> Stage | None:
        """Return the stage to write, without open edits; None if it would be empty."""
        root = self._staged.root
        merging = None if self.merging is None else self.merging.put(self.objects)
        is_clean = root == self.base.root and merging is None
        return None if is_clean else Stage(base=self.head.commit, root=root, merging=merging)

    @one_at_a_time
    def write_stage_with(self, stages: Mapping[str, Stage | None], *, commits: Sequence[CommitRecord] = ()) -> None:
        """Write the staged content to the refs, and, in the same transaction, other stages and commits."""
        self._stage_edits()
        self._flush_tensors()
        self._write_stage(stages, commits)

    def _write_stage(
        self, others: Mapping[str, Stage | None] | None = None, commits: Sequence[CommitRecord] = ()
    ) -> None:
        self.check_open()
        stage = self._make_stage()
        if others or stage != self.repository.refs.get_stage(self.stage_name):
            change = RefChange(kind="stage", stages={self.stage_name: stage, **(others or {})}, commits=tuple(commits))
            self.repository.refs.apply(change, objects=self.objects)

    def _continue_at(self, head: Head, stage: Stage | None) -> None:
        """Continue from a HEAD and a stage that are on disk already."""
        self._drop_edits()
        self._stranded = stage if stage is not None and stage.base != head.commit else None
        root, merging = (None, None) if stage is None or self._stranded else (stage.root, stage.merging)
        self.start_from(head.commit, root)
        self.head = self._written_head = head
        self.merging = self._merging_before = None if merging is None else read_merging(self.objects, merging)

    def _is_behind(self, tip: CommitId) -> bool:
        """Return whether the branch has only moved ahead of HEAD, as sessions do."""
        ours = self.head.commit
        return self.merging is None and (ours is None or is_ancestor(self.repository.refs, ours, tip))

    def _put_on(self, tip: CommitId | None) -> Snapshot:
        """Return the stage on top of the branch's tip.

        Raises `MergeConflictError` if sessions changed the same things there.
        """
        if tip == self.head.commit:
            return self.snapshot
        self._stage_edits()
        content, conflicts = self._merge_onto(self.repository.open_snapshot(tip, self.nodes))
        if conflicts:
            raise explain_outrun(conflicts)
        return content

    def _move_below(self, head: Head, content: Snapshot) -> None:
        """Continue from another HEAD with `content` staged."""
        self.start_from(head.commit, content.root)
        self._forget_edits()
        self.head = self._written_head = head

    def _continue_from(self, head: Head, content: Snapshot) -> None:
        self.stage_content(content)
        base = Snapshot(self.nodes, content.root)
        self.head, self.base, self._start, self._start_base = head, base, base.root, base
        self._written_head = head
        self.merging = self._merging_before = None
        self._start_unit()
