"""Where one is: HEAD, its branch, the branch of the remote and the stage, and the commits between them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from stockroom.digest import CommitId
from stockroom.errors import CorruptionError
from stockroom.refs import Divergence, Ref, Stage, count_divergence
from stockroom.refs.stage import SESSION_STAGES
from stockroom.repository.follow import find_tip
from stockroom.repository.head import Head
from stockroom.repository.repository import Repository
from stockroom.repository.upstream import find_upstream


@dataclass(frozen=True, slots=True)
class Position:
    """The position of one work tree.

    Attributes:
        branch: the branch that is checked out; None for a detached HEAD.
        is_gone: whether that branch does not exist any more.
        of_branch: the commits that the branch has and HEAD has not, and the other way round; None if unknown.
        upstream: the branch of a remote that goes with it, such as `origin/main`; None if there is none.
        of_upstream: the commits that the branch has and `upstream` has not, and the other way round.
        of_stage: the commits that HEAD has and the base of the staged changes has not, and the other way round; None if
            nothing is staged.
        sessions: the named sessions with staged changes.
    """

    branch: str | None
    is_gone: bool = False
    of_branch: Divergence | None = None
    upstream: str | None = None
    of_upstream: Divergence | None = None
    of_stage: Divergence | None = None
    sessions: tuple[str, ...] = ()

    @property
    def is_behind(self) -> bool:
        """Whether the branch is ahead of what is checked out, and has all its commits."""
        return self.of_branch is not None and self.of_branch.ahead > 0 and not self.of_branch.behind


def describe_position(repository: Repository, head: Head, stage: Stage | None) -> Position:
    """Return the position of a work tree with this HEAD and this stage; walks no further than to merge bases."""
    refs = repository.refs
    tip = find_tip(repository, head)
    upstream = _find_upstream(repository, head.branch)
    other = None if upstream is None else refs.find_ref(upstream)
    return Position(
        branch=head.branch,
        is_gone=head.branch is not None and head.commit is not None and tip is None,
        of_branch=_count(repository, tip, head.commit),
        upstream=None if upstream is None else upstream.name,
        of_upstream=_count(repository, tip, other),
        of_stage=None if stage is None else _count(repository, head.commit, stage.base),
        sessions=tuple(
            name.removeprefix(SESSION_STAGES) for name in refs.list_stage_names() if name.startswith(SESSION_STAGES)
        ),
    )


def _find_upstream(repository: Repository, branch: str | None) -> Ref | None:
    """Return the remote-tracking branch of a branch's upstream, or None if damage hides it; `stock fsck` lists that."""
    with suppress(CorruptionError):
        upstream = find_upstream(repository, branch)
        return None if upstream is None else upstream.ref
    return None


def _count(repository: Repository, ours: CommitId | None, theirs: CommitId | None) -> Divergence | None:
    """Return the commits between two, or None if one is missing or the history between them is damaged."""
    refs = repository.refs
    with suppress(CorruptionError):
        if ours is not None and theirs is not None and refs.has_commit(ours) and refs.has_commit(theirs):
            return count_divergence(refs, ours, theirs)
    return None
