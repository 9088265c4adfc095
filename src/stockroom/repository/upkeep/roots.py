"""The commits in use that may have no ref: HEAD of every work tree, those that git's history pins, those of readers."""

from __future__ import annotations

from collections.abc import Iterator

from stockroom.digest import CommitId
from stockroom.errors import HeadConflictError, MalformedRecordError, RepositoryNotFoundError
from stockroom.files import find_regular, refuse_unreadable
from stockroom.repository.git.history import parse_named, read_git_roots
from stockroom.repository.git.work_tree import find_work_tree
from stockroom.repository.holds import list_held
from stockroom.repository.paths import RepositoryPaths
from stockroom.repository.repository import Repository

_MAX_HEAD_NBYTES = 1 << 20


def list_readers_commits(repository: Repository) -> set[CommitId]:
    """Return the commits that readers hold, as far as they are here.

    Raises `UnreadableError` if a file that may name some cannot be read.
    """
    held = list_held(repository.paths.folder)
    return {commit for commit in held if repository.refs.has_commit(commit)}


def list_heads(repository: Repository) -> set[CommitId]:
    """Return the commits that are checked out or about to be in any work tree, and those that git's history pins.

    Commits that are not here are left out. Raises as `iter_heads` does.
    """
    return {commit for _, commit in iter_heads(repository) if repository.refs.has_commit(commit)}


def iter_heads(repository: Repository) -> Iterator[tuple[str, CommitId]]:
    """Yield the commits of `list_heads`, here or not, each with a description of the place that names it.

    Raises, since there may be more:
        GitError: git cannot be asked.
        UnreadableError: a file that may name some cannot be read.
        FormatVersionError: a HEAD was written by a newer Stockroom.
    """
    for paths in _iter_work_trees(repository.paths):
        for commit in _read_heads(paths):
            yield "HEAD" if paths.root == repository.paths.root else f"HEAD of {paths.root}", commit
    for commit in sorted(read_git_roots(repository.paths.root)):
        yield "git's history", commit


def _iter_work_trees(paths: RepositoryPaths) -> Iterator[RepositoryPaths]:
    yield paths
    work_tree = find_work_tree(paths.root, must_know=True)
    if work_tree is None:
        return
    below = paths.root.relative_to(work_tree.root)
    for other in work_tree.iter_roots(must_know=True):
        if other / below != paths.root:
            yield RepositoryPaths(other / below)


def _read_heads(paths: RepositoryPaths) -> Iterator[CommitId]:
    for read in (paths.head.find_prepared, paths.head.find_previous, paths.head.read):
        try:
            head = read()
        except RepositoryNotFoundError:  # no file
            continue
        except (HeadConflictError, MalformedRecordError):
            yield from parse_named(find_regular(paths.head.path, max_nbytes=_MAX_HEAD_NBYTES, must_know=True) or b"")
            continue
        except OSError as error:
            refuse_unreadable(error, paths.head.path)
            continue
        if head is not None and head.commit is not None:
            yield head.commit
