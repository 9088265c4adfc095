"""Where a repository's files are, how one is found from a folder, and how one is made."""

from __future__ import annotations

import os
import pwd
import socket
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from stockroom.errors import FormatVersionError, MalformedRecordError, RepositoryNotFoundError
from stockroom.repository.head import HEAD_NAME, Head, HeadFile
from stockroom.store import TensorStore

STATE_NAME = ".stockroom"
DEFAULT_BRANCH = "main"
_FORMAT_NAME = "format"
_FORMAT_TEXT = "stockroom repository 1\n"


class Identity(msgspec.Struct, frozen=True):
    """Who commits."""

    name: str
    email: str


@dataclass(frozen=True)
class RepositoryPaths:
    """The files of the repository whose work tree is `root`."""

    root: Path

    @cached_property
    def state(self) -> Path:
        """The folder that holds everything but HEAD; never shared, never tracked by git."""
        return self.root / STATE_NAME

    @cached_property
    def refs(self) -> Path:
        """The LMDB environment of names and history."""
        return self.state / "refs"

    @cached_property
    def lease(self) -> Path:
        """The writer's lock file."""
        return self.state / "writer.lock"

    def session_lease(self, name: str) -> Path:
        """The lock file of the session called `name`."""
        return self.state / "sessions" / f"{name.encode().hex()}.lock"

    @cached_property
    def turn(self) -> Path:
        """The lock file by which sessions commit one after the other."""
        return self.state / "commit.lock"

    @cached_property
    def config(self) -> Path:
        """The repository's own settings, as JSON."""
        return self.state / "config.json"

    @cached_property
    def head(self) -> HeadFile:
        """The HEAD file."""
        return HeadFile(self.root, self.state)

    def read_identity(self) -> Identity:
        """Who commits here: as given on `init`, else the user of this machine."""
        try:
            return msgspec.json.decode(self.config.read_bytes(), type=Identity)
        except FileNotFoundError:
            user = _find_user()
            return Identity(user, f"{user}@{socket.gethostname()}")
        except msgspec.DecodeError as error:
            raise MalformedRecordError(
                f"{self.config}: expected JSON with name and email ({error}); run `stock init --name N --email E`",
                where=str(self.config),
            ) from error

    def write_identity(self, identity: Identity) -> None:
        """Set who commits here."""
        replacement = self.config.with_suffix(".new")
        replacement.write_bytes(msgspec.json.encode(identity))
        replacement.rename(self.config)


def find_repository(start: Path) -> RepositoryPaths:
    """The repository that `start` lies in; `RepositoryNotFoundError` if there is none."""
    resolved = start.resolve()
    for folder in (resolved, *resolved.parents):
        if (folder / STATE_NAME / _FORMAT_NAME).is_file():
            return open_paths(folder)
        if (folder / HEAD_NAME).is_file() and folder == resolved:
            raise RepositoryNotFoundError(
                f"{folder} has a {HEAD_NAME} but no {STATE_NAME}: its data was not cloned; "
                f"get it from where it is kept, or delete {HEAD_NAME} and run `stock init` to start anew"
            )
    raise RepositoryNotFoundError(
        f"no repository in {resolved} or any folder above it: run `stock init` to make one there"
    )


def open_paths(root: Path) -> RepositoryPaths:
    """The paths of the repository at `root`, whose format this Stockroom must know."""
    paths = RepositoryPaths(root)
    found = (paths.state / _FORMAT_NAME).read_text("utf-8", "replace")
    if found != _FORMAT_TEXT:
        raise FormatVersionError(
            f"{paths.state}: expected format {_FORMAT_TEXT.strip()!r}, found {found[:60]!r}: upgrade Stockroom"
        )
    return paths


def init_repository(root: Path) -> tuple[RepositoryPaths, bool]:
    """Make a repository at `root` unless there is one; whether it is new."""
    paths = RepositoryPaths(root.resolve())
    if is_repository(paths):
        return open_paths(paths.root), False
    if (paths.root / HEAD_NAME).exists():
        find_repository(paths.root)  # raises: a clone's HEAD without its data
    prepare_repository(paths)
    paths.head.write(Head(DEFAULT_BRANCH, None))
    complete_repository(paths)
    return paths, True


def is_repository(paths: RepositoryPaths) -> bool:
    """Whether there is a repository, complete."""
    return (paths.state / _FORMAT_NAME).is_file()


def prepare_repository(paths: RepositoryPaths) -> None:
    """Make the folders of a repository, which is none before `complete_repository`."""
    paths.refs.mkdir(parents=True, exist_ok=True)
    TensorStore(paths.state).close()  # makes its folders
    (paths.state / ".gitignore").write_text("# Stockroom's own files: git tracks head.stock instead\n*\n")


def complete_repository(paths: RepositoryPaths) -> None:
    """Make a prepared repository one: the last step, after its HEAD was written."""
    replacement = paths.state / f"{_FORMAT_NAME}.new"
    replacement.write_text(_FORMAT_TEXT)
    replacement.rename(paths.state / _FORMAT_NAME)


def _find_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user{os.getuid()}"
