"""Pull: fetches, then merges the remote's branch into the one that is checked out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from stockroom.digest import CommitId
from stockroom.errors import ConflictError, MergeConflictError, RefNotFoundError
from stockroom.refs import Ref
from stockroom.remotes.fetch import FetchReport, fetch
from stockroom.remotes.progress import OnProgress
from stockroom.repository.merging.commands import MergeOptions, Outcome, merge
from stockroom.repository.repository import Repository
from stockroom.repository.writing.stage_workspace import StageWorkspace

PULL: Final = "pull"


@dataclass(frozen=True, slots=True)
class PullReport:
    """The fetch, and how the branch moved; `old` and `new` are equal if it was up to date."""

    fetched: FetchReport
    branch: str
    old: CommitId | None
    new: CommitId | None
    outcome: Outcome


def pull(
    repository: Repository,
    workspace: StageWorkspace,
    remote: str,
    options: MergeOptions,
    *,
    on_progress: OnProgress | None = None,
) -> PullReport:
    """Fetch, then move the checked-out branch, and HEAD with it, by a fast-forward or a merge.

    Raises:
        MergeConflictError: both sides changed the same thing and no strategy decides; fetched content stays.
        ConflictError: changes are staged, HEAD is detached, or both sides have commits but only a fast-forward may be
            made.
        RefNotFoundError: the remote has no branch of that name.
    """
    branch, old = workspace.head.branch, workspace.head.commit
    if branch is None:
        raise ConflictError("HEAD is detached: check out a branch to pull into")
    fetched = fetch(repository, remote, on_progress=on_progress)
    name = f"{remote}/{branch}"
    theirs = repository.refs.find_ref(Ref("remote", name))
    if theirs is None:
        raise RefNotFoundError(f"remote {remote!r} has no branch {branch!r}; `stock push` makes it", ref=branch)
    try:
        report = merge(workspace, theirs, name, replace(options, kind=PULL))
    except MergeConflictError as error:
        raise MergeConflictError(
            f"{error}; what was fetched is {name}: `stock merge {name} --no-commit` begins to merge it by hand",
            conflicts=error.conflicts,
        ) from error
    return PullReport(fetched, branch, old, workspace.head.commit, report.outcome)
