"""The tie to git: in force while git tracks `head.stock`. Then that file's commit and git's branch are authoritative.

Without it a repository is independent of git, and nothing here has any effect.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stockroom.errors import GitError
from stockroom.refs.commit import MetadataValue
from stockroom.repository.git.index import is_tracked
from stockroom.repository.git.program import find_git_output, run_git
from stockroom.repository.git.work_tree import GitWorkTree, find_work_tree
from stockroom.repository.head import HEAD_NAME, REMOTE_NAME

_STATUS_TIMEOUT_S: Final = 20.0
_UNBORN: Final = "(initial)"


@dataclass(frozen=True, slots=True)
class Tie:
    """The fact that git tracks the `head.stock` of a repository.

    Attributes:
        work_tree: git's work tree.
        folder: the repository's folder relative to the top of the work tree, with slashes; empty if it is the same.
        branch: git's branch, which may be unborn; None if git's HEAD is detached.
    """

    work_tree: GitWorkTree
    folder: str
    branch: str | None

    def locate(self, name: str) -> str:
        """Return git's name for a file of the repository."""
        return f"{self.folder}/{name}" if self.folder else name


@dataclass(frozen=True, slots=True)
class GitPosition:
    """git's checked-out commit, None before the first one, and whether tracked files differ from it."""

    commit: str | None
    is_dirty: bool


def find_tie(root: Path) -> Tie | None:
    """Return the tie of the repository at `root` if it is in force; runs git only if its files are not enough."""
    work_tree = find_work_tree(root)
    if work_tree is None:
        return None
    below = root.relative_to(work_tree.root)
    tie = Tie(work_tree, "" if below == Path() else below.as_posix(), None)
    tracked = is_tracked(work_tree, tie.locate(HEAD_NAME))
    if tracked is None:
        tracked = bool(run_git(work_tree.root, "ls-files", "-z", "--", tie.locate(HEAD_NAME)))
    return Tie(work_tree, tie.folder, _find_branch(work_tree)) if tracked else None


def read_git_position(tie: Tie) -> GitPosition:
    """Return git's state. Stockroom's own files do not make it dirty, nor do untracked files."""
    arguments = ("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=no", "--no-renames")
    lines = run_git(tie.work_tree.root, *arguments, timeout_s=_STATUS_TIMEOUT_S).split(b"\0")
    own = {os.fsencode(tie.locate(name)) for name in (HEAD_NAME, REMOTE_NAME)}
    commit, is_dirty = None, False
    for line in lines:
        if line.startswith(b"# branch.oid "):
            found = line.removeprefix(b"# branch.oid ").decode()
            commit = None if found == _UNBORN else found
        elif line[:2] in (b"1 ", b"u "):
            fields = 8 if line[:1] == b"1" else 10
            is_dirty = is_dirty or line.split(b" ", fields)[-1] not in own
    return GitPosition(commit, is_dirty)


def describe_for_commit(tie: Tie) -> dict[str, MetadataValue]:
    """Return the git metadata of a commit made now: `git_commit`, `git_branch` and `git_dirty`, if available."""
    described: dict[str, MetadataValue] = {}
    if tie.branch is not None:
        described["git_branch"] = os.fsencode(tie.branch).decode("utf-8", "replace")
    try:
        position = read_git_position(tie)
    except GitError:  # git is not installed, or refuses a folder that another user owns
        return described
    if position.commit is not None:
        described["git_commit"] = position.commit
        described["git_dirty"] = position.is_dirty
    return described


def _find_branch(work_tree: GitWorkTree) -> str | None:
    if not work_tree.is_elsewhere:
        return work_tree.find_branch()
    ref = find_git_output(work_tree.root, "symbolic-ref", "--quiet", "HEAD")
    return None if ref is None else os.fsdecode(ref.rstrip(b"\n")).removeprefix("refs/heads/")
