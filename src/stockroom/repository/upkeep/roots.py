"""HEAD of every work tree that shares a repository, and the commits that git's history pins: they may have no ref."""

from __future__ import annotations

from collections.abc import Iterator

from stockroom.digest import CommitId
from stockroom.errors import StockroomError
from stockroom.repository.git.history import read_git_roots
from stockroom.repository.git.work_tree import find_work_tree
from stockroom.repository.paths import RepositoryPaths
from stockroom.repository.repository import Repository


def list_heads(repository: Repository) -> set[CommitId]:
    """Return the commits that are checked out or about to be in any work tree, and those that git's history pins.

    Commits that are not here are left out. Raises `GitError` if git cannot be asked.
    """
    heads = {commit for paths in _iter_work_trees(repository.paths) for commit in _read_heads(paths)}
    pinned = read_git_roots(repository.paths.root)
    return {commit for commit in heads | pinned if repository.refs.has_commit(commit)}


def _iter_work_trees(paths: RepositoryPaths) -> Iterator[RepositoryPaths]:
    yield paths
    work_tree = find_work_tree(paths.root)
    if work_tree is None:
        return
    below = paths.root.relative_to(work_tree.root)
    for other in work_tree.iter_roots():
        if other / below != paths.root:
            yield RepositoryPaths(other / below)


def _read_heads(paths: RepositoryPaths) -> Iterator[CommitId]:
    try:
        found = [paths.head.find_prepared(), paths.head.read()]
    except (StockroomError, OSError):
        found = [paths.head.find_prepared()]
    for head in found:
        if head is not None and head.commit is not None:
            yield head.commit
