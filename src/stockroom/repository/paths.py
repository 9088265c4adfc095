"""The files of a repository: locating them, finding a repository from a folder, and creating one."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
from msgspec.structs import replace

from stockroom.digest import compute_digest
from stockroom.errors import FormatVersionError, MalformedRecordError, RepositoryNotFoundError
from stockroom.files import make_folder, read_own_file, replace_own_file
from stockroom.repository.config import change_settings, read_settings
from stockroom.repository.git.work_tree import find_work_tree
from stockroom.repository.head import HEAD_NAME, REMOTE_NAME, Head, HeadFile

FOLDER_NAME = ".stockroom"
DEFAULT_BRANCH = "main"
CLONE_MARKER_NAME = "clone.json"
"""The file in the folder of an unfinished clone (`remotes/clone.py`)."""
CATALOG_NAME = "catalog"
"""The folder of the tensor store's LMDB environment."""
_STAGE_NAME = "work"
_MAIN_WORK_TREE = "."
"""The name of git's main work tree if a linked one holds the repository's folder; no linked work tree can have it."""
_FORMAT_NAME = "format"
_FORMAT_TEXT = "stockroom repository 1\n"
_MAX_FORMAT_NBYTES = 4096


class Identity(msgspec.Struct, frozen=True):
    """The name and email that commits are made with."""

    name: str
    email: str


@dataclass(frozen=True)
class RepositoryPaths:
    """The files of the repository whose work tree is `root`.

    Work trees of one git repository share one folder. `home` is the work tree that holds it, or None if `root` does;
    `work_tree` is git's name for this one.
    """

    root: Path
    home: Path | None = None
    work_tree: str | None = None

    @cached_property
    def folder(self) -> Path:
        """The folder of everything except HEAD. git never tracks it, and each machine has its own."""
        return (self.home or self.root) / FOLDER_NAME

    @cached_property
    def own(self) -> Path:
        """The folder of files for this work tree alone: its lease, and an unfinished move of its HEAD."""
        return self.root / FOLDER_NAME

    @property
    def stage_name(self) -> str:
        """The name of the working stage in the refs; each work tree has its own."""
        return _STAGE_NAME if self.work_tree is None else f"{_STAGE_NAME}@{self.work_tree}"

    @cached_property
    def refs(self) -> Path:
        """The LMDB environment of names and history."""
        return self.folder / "refs"

    @cached_property
    def lease(self) -> Path:
        """The writer's lock file."""
        return self.own / "writer.lock"

    def session_lease(self, name: str) -> Path:
        """Return the lock file of the session called `name`."""
        return self.folder / "sessions" / f"{compute_digest(name.encode()).hex()}.lock"

    @cached_property
    def commit_lock(self) -> Path:
        """The lock file that makes sessions commit one at a time."""
        return self.folder / "commit.lock"

    @cached_property
    def config(self) -> Path:
        """The repository's own settings, as JSON."""
        return self.folder / "config.json"

    @cached_property
    def head(self) -> HeadFile:
        """The HEAD file."""
        return HeadFile(self.root, self.own)

    def read_identity(self) -> Identity:
        """Return the identity for commits here: as set, otherwise the user of this machine."""
        settings = read_settings(self.config)
        if settings.name is not None and settings.email is not None:
            return Identity(settings.name, settings.email)
        user = _read_user()
        return Identity(settings.name or user, settings.email or f"{user}@{os.uname().nodename}")

    def write_identity(self, identity: Identity) -> None:
        """Set the identity for commits here."""
        change_settings(self.config, lambda settings: replace(settings, name=identity.name, email=identity.email))


def locate_repository(start: Path) -> RepositoryPaths:
    """Return the repository that contains `start`. Raises `RepositoryNotFoundError` if there is none."""
    resolved = start.resolve()
    for folder in (resolved, *resolved.parents):
        if (folder / FOLDER_NAME / _FORMAT_NAME).is_file() or (folder / HEAD_NAME).is_file():
            return open_paths(folder)
    raise RepositoryNotFoundError(
        f"no repository in {resolved} or any folder above it; run `stock init` to create one there"
    )


def open_paths(root: Path) -> RepositoryPaths:
    """Return the paths of the repository at `root`. Raises `FormatVersionError` if its format is unknown."""
    paths = locate(root)
    if not is_repository(paths):
        raise RepositoryNotFoundError(_explain_missing_state(root))
    found = read_own_file(paths.folder / _FORMAT_NAME, max_nbytes=_MAX_FORMAT_NBYTES).decode("utf-8", "replace")
    if not found.strip("\0"):
        raise MalformedRecordError(
            f"{paths.folder / _FORMAT_NAME}: expected {_FORMAT_TEXT.strip()!r}, found an empty file, as a power cut "
            f"leaves it: run `stock init` in {root} to write it again",
            where=str(paths.folder / _FORMAT_NAME),
        )
    if found != _FORMAT_TEXT:
        raise FormatVersionError(
            f"{paths.folder}: expected format {_FORMAT_TEXT.strip()!r}, found {found[:60]!r}; upgrade Stockroom"
        )
    return paths


def locate(root: Path) -> RepositoryPaths:
    """Return the paths of a repository at `root`, existing or not; another git work tree may hold its state."""
    own = RepositoryPaths(root)
    work_tree = None if is_repository(own) else find_work_tree(root)
    if work_tree is None:
        return own
    below = root.relative_to(work_tree.root)
    for other in work_tree.iter_roots():
        shared = RepositoryPaths(root, home=other / below, work_tree=work_tree.name or _MAIN_WORK_TREE)
        if is_repository(shared):
            with suppress(OSError):  # a read-only work tree can still be read
                make_own_folder(shared)
            return shared
    return own


def init_repository(root: Path) -> tuple[RepositoryPaths, bool]:
    """Create a repository at `root` unless there is one; return its paths and whether it is new."""
    paths = locate(root.resolve())
    if is_repository(paths):
        if _is_blank(paths) and not _is_cloning(paths):
            complete_repository(paths)
        open_paths(paths.root)
        is_new = not paths.head.path.exists()
        if is_new:  # the work tree, or the git commit it has, predates the repository
            paths.head.write(Head(_choose_branch(paths.root), None))
        return paths, is_new
    if not (paths.root / HEAD_NAME).exists():
        prepare_repository(paths)
        paths.head.write(Head(_choose_branch(paths.root), None))
    elif _is_barely_initialized(paths):
        prepare_repository(paths)
    else:
        raise RepositoryNotFoundError(_explain_missing_state(paths.root))
    complete_repository(paths)
    return paths, True


def is_repository(paths: RepositoryPaths) -> bool:
    """Return whether a complete repository exists."""
    return (paths.folder / _FORMAT_NAME).is_file()


def _is_blank(paths: RepositoryPaths) -> bool:
    """Return whether a power cut left the format file empty, as versions before 1.0 let it."""
    return not read_own_file(paths.folder / _FORMAT_NAME, max_nbytes=_MAX_FORMAT_NBYTES).strip(b"\0")


def _is_cloning(paths: RepositoryPaths) -> bool:
    return (paths.folder / CLONE_MARKER_NAME).exists()


def _is_barely_initialized(paths: RepositoryPaths) -> bool:
    """Return whether `init` was stopped before its last step: a HEAD without commits, prepared folders, no clone."""
    if not paths.refs.is_dir() or _is_cloning(paths) or (paths.root / REMOTE_NAME).exists():
        return False
    return paths.head.read().commit is None


def prepare_repository(paths: RepositoryPaths) -> None:
    """Create the folders of a repository; it is not a repository before `complete_repository`.

    Raises `ReadOnlyError`, and creates nothing, on a network file system.
    """
    from stockroom.kv.file_system import check_local, find_file_system  # here for start-up time
    from stockroom.store.tensor_store import TensorStore

    check_local(paths.folder, find_file_system(paths.folder))
    make_own_folder(paths)
    make_folder(paths.refs)
    TensorStore(paths.folder).close()  # creates its folders


def complete_repository(paths: RepositoryPaths) -> None:
    """Turn a prepared repository into a complete one: the last step, after its HEAD was written."""
    replace_own_file(paths.folder / _FORMAT_NAME, _FORMAT_TEXT.encode())


def make_own_folder(paths: RepositoryPaths) -> None:
    """Create the work tree's own folder, which git ignores from the start."""
    ignored = paths.own / ".gitignore"
    if not ignored.exists() or not ignored.stat().st_size:  # a power cut may have left an empty one
        make_folder(paths.own)
        replace_own_file(ignored, b"# Stockroom's own files: git tracks head.stock instead\n*\n")


def _choose_branch(root: Path) -> str:
    """Return the name of the first branch: git's current branch if that name is valid, otherwise the default."""
    from stockroom.refs.names import find_broken_rule  # here for the start-up time of the fetch agent

    work_tree = find_work_tree(root)
    branch = None if work_tree is None else work_tree.find_branch()
    return DEFAULT_BRANCH if branch is None or find_broken_rule(branch) is not None else branch


def _explain_missing_state(root: Path) -> str:
    has_remote = (root / REMOTE_NAME).is_file()
    command = "stock clone --here" if has_remote else "stock clone --here URL"
    return (
        f"{root} has a {HEAD_NAME} but no {FOLDER_NAME}: its data was not cloned; run `{command}` there to clone it "
        f"from {f'the remote in {REMOTE_NAME}' if has_remote else 'its remote'}, or delete {HEAD_NAME} and run "
        "`stock init` to start over"
    )


def _read_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user{os.getuid()}"
