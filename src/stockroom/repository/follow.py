"""How Stockroom's branches follow git in the tie: the branch is git's, at the commit in `head.stock`.

If git has moved `head.stock`, the branch moves to its commit; the operation log keeps the old position. If git has not,
but the branch is ahead of it, sessions have moved the branch, and HEAD moves to it. To tell these apart, `git.seen`
records the content of `head.stock` when each branch was last seen here.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from stockroom.digest import CommitId
from stockroom.errors import ConflictError, LockedError, MalformedRecordError, ReadOnlyError, RefChangedError
from stockroom.files import read_own_file, replace_own_file
from stockroom.refs import Ref, RefChange, RefMove, check_name, is_ancestor
from stockroom.refs.operations import BY_GIT
from stockroom.repository.git.tie import Tie
from stockroom.repository.head import Head
from stockroom.repository.lease import acquire_lease
from stockroom.repository.paths import RepositoryPaths
from stockroom.repository.repository import Repository

_SEEN_NAME: Final = "git.seen"
_MAX_SEEN: Final = 1000


def follow_git(repository: Repository, tie: Tie | None, head: Head, *, is_staged: bool) -> Head:
    """Return HEAD after following git, for the lease's holder; in the tie its branch is then at its commit.

    `tie` and `head` were just read. With `is_staged`, a branch that sessions moved stays ahead of HEAD: the staged
    changes will go on top of it.
    """
    if head.branch is None or tie is None:
        return head
    check_name("branch", head.branch)
    ref = Ref("branch", head.branch)
    tip = repository.refs.find_ref(ref)
    if tip is not None and tip != head.commit and _has_gone_on(repository, head, tip):
        if is_staged:
            return head
        head = Head(head.branch, tip)
        repository.paths.head.write(head, must_last=False)
    elif tip != head.commit:
        move = RefMove(ref=ref, old=tip, new=head.commit)
        repository.refs.apply(RefChange(kind=BY_GIT, moves=(move,), note="to the commit in head.stock"))
    note_seen(repository.paths, head)
    return head


def follow_git_if_free(repository: Repository) -> None:
    """Follow git if the lease is free; a current holder has already done so."""
    tie = repository.find_tie()
    if tie is None:
        return
    with suppress(LockedError, ReadOnlyError), acquire_lease(repository.paths.lease, timeout_s=0):
        is_staged = repository.refs.get_stage(repository.paths.stage_name) is not None
        follow_git(repository, tie, repository.complete_head(tie), is_staged=is_staged)


def follow_branch(repository: Repository, tie: Tie | None) -> bool:
    """Move HEAD to its branch's tip unless something is staged; return whether it moved. For the lease's holder."""
    head = repository.complete_head(tie)
    is_staged = repository.refs.get_stage(repository.paths.stage_name) is not None
    if tie is not None:
        return follow_git(repository, tie, head, is_staged=is_staged) != head
    tip = repository.refs.find_branch(head.branch)
    if tip is None or tip == head.commit or is_staged:
        return False
    if head.commit is not None and not is_ancestor(repository.refs, head.commit, tip):
        return False
    repository.paths.head.write(Head(head.branch, tip), must_last=False)
    return True


def find_tip(repository: Repository, head: Head) -> CommitId | None:
    """Return the tip of HEAD's branch as the next writer will find it; None if there is none.

    In the tie it is HEAD's commit, unless sessions have moved the branch ahead of it.
    """
    tip = repository.refs.find_branch(head.branch)
    if head.branch is None or tip == head.commit or repository.find_tie() is None:
        return tip
    return tip if tip is not None and _has_gone_on(repository, head, tip) else head.commit


def check_unmoved(now: Head, began: Head) -> None:
    """Raise `RefChangedError` if git has moved `head.stock` since a writer began."""
    if now.commit != began.commit:
        raise RefChangedError(
            f"git moved head.stock from {_say(began.commit)} to {_say(now.commit)} during this write; the changes are "
            "on the stage: restore head.stock with git (`git switch BRANCH`, `git stash pop`), then `stock commit`, "
            "or drop the changes with `stock reset`"
        )


def explain_detached(repository: Repository) -> ConflictError:
    """Return the error for a commit without a branch to move."""
    if repository.find_tie() is None:
        return ConflictError("HEAD is detached; create a branch here first with `stock checkout -b NAME`")
    return ConflictError(
        "git's HEAD is detached; create a branch here first with `git switch -c NAME`; it keeps staged changes"
    )


def note_seen(paths: RepositoryPaths, head: Head) -> None:
    """Record the content of `head.stock` for HEAD's branch."""
    seen = _read_seen(paths)
    at = None if head.commit is None else head.commit.hex()
    if head.branch is None or (head.branch in seen and seen[head.branch] == at):
        return
    seen.pop(head.branch, None)
    latest = dict([*seen.items(), (head.branch, at)][-_MAX_SEEN:])
    replace_own_file(_locate_seen(paths), msgspec.json.encode(latest), must_last=False)  # a commit waits for this


def _has_gone_on(repository: Repository, head: Head, tip: CommitId) -> bool:
    """Return whether HEAD's branch moved ahead while git left HEAD where it was."""
    seen = _read_seen(repository.paths)
    at = None if head.commit is None else head.commit.hex()
    if head.branch not in seen or seen[head.branch] != at:
        return False
    return head.commit is None or is_ancestor(repository.refs, head.commit, tip)


def _read_seen(paths: RepositoryPaths) -> dict[str, str | None]:
    try:
        return msgspec.json.decode(read_own_file(_locate_seen(paths)), type=dict[str, str | None])
    except (OSError, MalformedRecordError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}  # only a hint: without it the branch follows head.stock


def _locate_seen(paths: RepositoryPaths) -> Path:
    return paths.own / _SEEN_NAME


def _say(commit: CommitId | None) -> str:
    return "no commit" if commit is None else commit.hex()[:12]
