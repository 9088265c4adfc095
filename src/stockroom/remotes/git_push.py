"""Git's hook `pre-push`: a `head.stock` is not published before a remote has the commit that it names.

Branches that git pushes are pushed here first, under git's names, to the commits that their `head.stock` names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stockroom.digest import CommitId
from stockroom.errors import ConflictError, InvalidInputError, InvalidNameError, RefChangedError
from stockroom.refs import Ref, is_ancestor
from stockroom.refs.names import find_broken_rule
from stockroom.remotes.fetch import fetch
from stockroom.remotes.format.remote_file import ORIGIN
from stockroom.remotes.progress import OnProgress
from stockroom.remotes.push import PushReport, push
from stockroom.remotes.refspecs import PushRequest
from stockroom.remotes.settings import read_remotes
from stockroom.remotes.tracking import Tracking
from stockroom.repository.git.history import read_pinned, read_pinned_between
from stockroom.repository.git.tie import Tie
from stockroom.repository.repository import Repository

_HEADS: Final = "refs/heads/"
_NOTHING: Final = frozenset("0")


@dataclass(frozen=True, slots=True)
class PushedRef:
    """A ref that git is about to push: git's commit, and the ref's name on the other side."""

    git_commit: str
    remote_ref: str

    @property
    def branch(self) -> str | None:
        """The name of the branch, if the ref is a branch."""
        return self.remote_ref.removeprefix(_HEADS) if self.remote_ref.startswith(_HEADS) else None


def parse_pushed(lines: str) -> list[PushedRef]:
    """Parse git's input to its hook, a line per ref: `LOCAL-REF COMMIT REMOTE-REF COMMIT`. Deletions are left out."""
    pushed = []
    for line in filter(None, lines.split("\n")):
        words = line.split(" ")
        if len(words) != 4:
            raise InvalidInputError("expected lines of four words from git's hook pre-push, found others")
        if set(words[1]) != _NOTHING:
            pushed.append(PushedRef(words[1], words[2]))
    return pushed


@dataclass(frozen=True, slots=True)
class Needed:
    """The commits that git's push needs on the other side, and the commits of its `branches`, by git's names."""

    commits: frozenset[CommitId]
    branches: Mapping[str, CommitId]


def list_needed(tie: Tie, pushed: Sequence[PushedRef], git_remote: str) -> Needed:
    """Return the commits that `head.stock` names in the git commits about to be pushed."""
    tips = [ref.git_commit for ref in pushed]
    pinned = {git_commit: commit for git_commit, commit in read_pinned(tie, tips).items() if commit is not None}
    branches = {
        ref.branch: pinned[ref.git_commit] for ref in pushed if ref.branch is not None and ref.git_commit in pinned
    }
    return Needed(read_pinned_between(tie, tips, git_remote), branches)


def push_needed(
    repository: Repository, needed: Needed, git_remote: str, *, on_progress: OnProgress | None = None
) -> PushReport | None:
    """Push the needed commits, unless a remote has them. Return the report, or None if nothing was pushed.

    Raises:
        RefChangedError: a branch of the remote has commits that ours does not.
        ConflictError: no remote is set, or a needed commit is not reachable there.
    """
    remote, report = _find_remote(repository, git_remote), None
    if remote is None and needed.commits:
        raise ConflictError(
            f"git's push would publish {repository.paths.head.path}, but no remote is configured for its "
            "data: run `stock remote add origin URL`, then push again (`git push --no-verify` skips this)"
        )
    if remote is None:
        return None
    try:
        report = _push_branches(repository, remote, needed.branches, on_progress)
    except (RefChangedError, InvalidNameError) as error:
        fetch(repository, remote, on_progress=on_progress)
        if _list_lacking(repository, remote, needed.commits):
            raise RefChangedError(
                f"{error}; git's push was stopped, since it would publish a head.stock without its data"
            ) from error
    _check_all_there(repository, remote, needed.commits, on_progress)
    return report


def _find_remote(repository: Repository, git_remote: str) -> str | None:
    """Return the remote with the name of git's, else `origin`, else the only one."""
    remotes = read_remotes(repository.paths)
    for name in (git_remote, ORIGIN):
        if name in remotes:
            return name
    return next(iter(remotes)) if len(remotes) == 1 else None


def _push_branches(
    repository: Repository, remote: str, branches: Mapping[str, CommitId], on_progress: OnProgress | None
) -> PushReport | None:
    """Push the branches whose commit is not an ancestor of the remote's branch, as last seen."""
    refs = repository.refs
    state = Tracking(repository.paths, remote).read_state()
    moves: dict[Ref, CommitId | None] = {}
    for branch, commit in branches.items():
        at = None if state is None else state.find_branch(branch)
        if not refs.has_commit(commit) or find_broken_rule(branch) is not None:
            continue
        if at is None or not (refs.has_commit(at) and is_ancestor(refs, commit, at)):
            moves[Ref("branch", branch)] = commit
    return push(repository, remote, PushRequest(moves), on_progress=on_progress) if moves else None


def _check_all_there(
    repository: Repository, remote: str, needed: Iterable[CommitId], on_progress: OnProgress | None
) -> None:
    lacking = _list_lacking(repository, remote, needed)
    if lacking:
        fetch(repository, remote, on_progress=on_progress)
        lacking = _list_lacking(repository, remote, lacking)
    if lacking:
        commit = sorted(lacking)[0].hex()
        raise ConflictError(
            f"git's push would publish a head.stock that names {commit}, which no branch or tag of {remote!r} "
            f"contains{f', and {len(lacking) - 1} more' if len(lacking) > 1 else ''}: tag it (`stock tag NAME "
            f"{commit[:12]}`, `stock push {remote} NAME`), then push again; `git push --no-verify` skips this"
        )


def _list_lacking(repository: Repository, remote: str, needed: Iterable[CommitId]) -> set[CommitId]:
    """Return the needed commits that are unreachable on the remote, as last seen."""
    refs, state = repository.refs, Tracking(repository.paths, remote).read_state()
    tips = [] if state is None else [tip for tip in state.list_tips() if refs.has_commit(tip)]
    return {commit for commit in needed if not any(is_ancestor(refs, commit, tip) for tip in tips)}
