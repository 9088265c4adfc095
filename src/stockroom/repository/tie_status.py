"""The status of the tie to git: whether it is in force, where both sides are, and the installed parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stockroom.digest import CommitId
from stockroom.refs import is_ancestor
from stockroom.repository.git.history import read_pinned
from stockroom.repository.git.install import POST_CHECKOUT, PRE_PUSH, has_driver, is_ours, locate_hooks_folder
from stockroom.repository.git.program import find_git_output
from stockroom.repository.git.tie import Tie, find_tie
from stockroom.repository.git.work_tree import GitWorkTree, find_work_tree
from stockroom.repository.repository import Repository

BranchPosition = Literal["none", "same", "ahead", "behind", "elsewhere"]
"""The position of a branch relative to HEAD; `none` if the branch does not exist yet."""


@dataclass(frozen=True, slots=True)
class TieStatus:
    """The status of one repository's tie.

    Attributes:
        work_tree: the top folder of git's work tree; None outside git, and then nothing else is set.
        is_tied: whether git tracks `head.stock`.
        branch: git's branch; None if git's HEAD is detached.
        head: the commit in `head.stock`.
        is_here: whether that commit is in this repository.
        committed: the commit in the `head.stock` of git's last commit.
        branch_place: the position of our branch of that name relative to `head`.
        staged_on: the base of the staged changes; None if nothing is staged.
        is_staged: whether anything is staged.
        shares: the other work tree whose `.stockroom` is used here, if it is not this one's own.
        has_driver, has_pre_push, has_post_checkout: whether each is installed.
    """

    work_tree: Path | None
    is_tied: bool = False
    branch: str | None = None
    head: CommitId | None = None
    is_here: bool = True
    committed: CommitId | None = None
    branch_place: BranchPosition = "none"
    is_staged: bool = False
    staged_on: CommitId | None = None
    shares: Path | None = None
    has_driver: bool = False
    has_pre_push: bool = False
    has_post_checkout: bool = False


def describe_tie(repository: Repository) -> TieStatus:
    """Return the current status of a repository's tie; asks git."""
    paths = repository.paths
    work_tree, tie = find_work_tree(paths.root), repository.find_tie()
    if work_tree is None:
        return TieStatus(None)
    head = repository.follow(paths.head.read())
    stage = repository.refs.get_stage(paths.stage_name)
    hooks = locate_hooks_folder(work_tree)
    return TieStatus(
        work_tree=work_tree.root,
        is_tied=tie is not None,
        branch=work_tree.find_branch() if tie is None else tie.branch,
        head=head.commit,
        is_here=head.commit is None or repository.refs.has_commit(head.commit),
        committed=None if tie is None else _read_committed(tie),
        branch_place=_compare_branch(repository, head.branch, head.commit),
        is_staged=stage is not None,
        staged_on=None if stage is None else stage.base,
        shares=paths.home,
        has_driver=has_driver(work_tree, paths.root),
        has_pre_push=is_ours(hooks / PRE_PUSH),
        has_post_checkout=is_ours(hooks / POST_CHECKOUT),
    )


def read_tie_for_hook(work_tree: GitWorkTree, root: Path) -> Tie:
    """Return the tie of a repository with something installed, even if `head.stock` is not tracked now."""
    below = root.relative_to(work_tree.root)
    return find_tie(root) or Tie(work_tree, "" if below == Path() else below.as_posix(), None)


def _read_committed(tie: Tie) -> CommitId | None:
    if find_git_output(tie.work_tree.root, "rev-parse", "--quiet", "--verify", "HEAD^{commit}") is None:
        return None
    return read_pinned(tie, ["HEAD"])["HEAD"]


def _compare_branch(repository: Repository, branch: str | None, head: CommitId | None) -> BranchPosition:
    refs = repository.refs
    at = refs.find_branch(branch)
    if at is None:
        return "none"
    if at == head:
        return "same"
    if head is None or is_ancestor(refs, head, at):
        return "ahead"
    return "behind" if refs.has_commit(head) and is_ancestor(refs, at, head) else "elsewhere"
