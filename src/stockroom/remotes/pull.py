"""Pull: fetches, then merges the remote's branch into the one that is checked out.

Two steps, so that other writers wait only for the second: a fetch may take long.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from stockroom.digest import CommitId
from stockroom.errors import ConflictError, MergeConflictError, RefChangedError, RefNotFoundError
from stockroom.refs import Ref
from stockroom.remotes.fetch import FetchOptions, FetchReport, fetch, read_branches
from stockroom.remotes.progress import OnProgress
from stockroom.repository.merging.commands import MergeOptions, Outcome, merge
from stockroom.repository.repository import Repository
from stockroom.repository.upstream import DEFAULT_REMOTE, find_upstream
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


@dataclass(frozen=True, slots=True)
class FetchedBranch:
    """A branch here, the remote's branch of that name after a fetch, and the fetch."""

    branch: str
    name: str
    theirs: CommitId
    report: FetchReport


def fetch_branch(
    repository: Repository, remote: str | None, source: str | None = None, *, on_progress: OnProgress | None = None
) -> FetchedBranch:
    """Fetch, and return the remote's branch that the checked-out one is to be merged with. Takes no lease.

    The other side is the branch `source` of the remote. None is that of the upstream, or the one of the same name.

    Raises:
        ConflictError: HEAD is detached; nothing was fetched.
        RefNotFoundError: the remote has no branch of that name.
    """
    branch = repository.follow(repository.read_head()).branch
    if branch is None:
        raise ConflictError("HEAD is detached: check out a branch to pull into")
    is_named = source is not None
    remote, source = _choose_source(repository, branch, remote, source)
    refs = (source,) if is_named or not _is_followed(repository, remote, source) else ()
    fetched = fetch(repository, remote, FetchOptions(refs=refs), on_progress=on_progress)
    name = f"{remote}/{source}"
    theirs = repository.refs.find_ref(Ref("remote", name))
    other = dict(fetched.left_out).get(str(Ref("branch", source)))
    if other is not None:
        raise RefNotFoundError(
            f"branch {source!r} of {remote!r} was left out: it differs from {other!r} only in case or accents' form; "
            "rename one of them there",
            ref=source,
        )
    if theirs is None:
        raise RefNotFoundError(f"remote {remote!r} has no branch {source!r}; `stock push` creates it", ref=source)
    return FetchedBranch(branch, name, theirs, fetched)


def merge_fetched(workspace: StageWorkspace, fetched: FetchedBranch, options: MergeOptions) -> PullReport:
    """Move the checked-out branch, and HEAD with it, to or beyond the fetched one: by a fast-forward or a merge.

    Raises:
        MergeConflictError: both sides changed the same thing and no strategy decides; fetched content stays.
        ConflictError: changes are staged, or both sides have commits but only a fast-forward may be made.
        RefChangedError: another branch was checked out during the fetch.
    """
    branch, old = workspace.head.branch, workspace.head.commit
    if branch != fetched.branch:
        now = "HEAD was detached" if branch is None else f"{branch!r} was checked out"
        raise RefChangedError(f"{now} during the fetch for {fetched.branch!r}; run `stock pull` again")
    try:
        report = merge(workspace, fetched.theirs, fetched.name, replace(options, kind=PULL))
    except MergeConflictError as error:
        raise MergeConflictError(
            f"{error}; the remote's side is {fetched.name}: `stock merge {fetched.name} --no-commit` starts a merge by "
            "hand",
            conflicts=error.conflicts,
        ) from error
    return PullReport(fetched.report, branch, old, workspace.head.commit, report.outcome)


def _choose_source(repository: Repository, branch: str, remote: str | None, source: str | None) -> tuple[str, str]:
    """Return the remote and its branch to pull from, where the caller leaves them open."""
    upstream = find_upstream(repository, branch)
    if upstream is None or remote not in (None, upstream.remote):
        return remote or DEFAULT_REMOTE, source or branch
    return upstream.remote, source or upstream.branch


def _is_followed(repository: Repository, remote: str, source: str) -> bool:
    """Return whether a fetch brings a branch without being told its name, as in all but single-branch clones."""
    followed = read_branches(repository, remote)
    return followed is None or source in followed
