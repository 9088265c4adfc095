"""Pull: fetch, then bring the branch that is checked out to where the remote has it."""

from __future__ import annotations

from dataclasses import dataclass

from stockroom.digest import CommitId
from stockroom.errors import ConflictError, RefNotFoundError
from stockroom.refs import RefChange, RefMove, is_ancestor
from stockroom.remotes.fetch import FetchReport, fetch
from stockroom.remotes.progress import OnProgress
from stockroom.repository import Head, Repository, WriteSession


@dataclass(frozen=True, slots=True)
class PullReport:
    """What was fetched, and how the branch moved; `old` and `new` are equal where it was up to date."""

    fetched: FetchReport
    branch: str
    old: CommitId | None
    new: CommitId | None


def pull(
    repository: Repository, session: WriteSession, remote: str, *, on_progress: OnProgress | None = None
) -> PullReport:
    """Fetch, then fast-forward the branch that is checked out, and HEAD with it.

    Raises:
        ConflictError: changes are staged, HEAD is detached, or both sides have commits of their own.
        RefNotFoundError: the remote has no branch of that name.
    """
    branch, old = session.head.branch, session.head.commit
    if branch is None:
        raise ConflictError("HEAD is detached: check out a branch to pull into")
    fetched = fetch(repository, remote, on_progress=on_progress)
    new = repository.refs.find_ref(f"remote/{remote}/{branch}")
    if new is None:
        raise RefNotFoundError(f"remote {remote!r} has no branch {branch!r}; `stock push` makes it", ref=branch)
    if old is not None and is_ancestor(repository.refs, new, old):
        return PullReport(fetched, branch, old, old)
    if old is not None and not is_ancestor(repository.refs, old, new):
        raise ConflictError(
            f"branch {branch!r} and {remote}/{branch} have both moved on: keep your commits on a branch of their own "
            f"(`stock branch mine`), then `stock reset --hard {remote}/{branch}` or push that branch instead"
        )
    session.check_clean(new)
    change = RefChange(
        kind="pull", moves=(RefMove(ref=f"branch/{branch}", old=old, new=new),), note=f"{remote}/{branch}"
    )
    session.move_branch(Head(branch, new), change)
    return PullReport(fetched, branch, old, new)
