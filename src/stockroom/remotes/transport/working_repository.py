"""A remote that is a repository somebody works in: its packs, read from its folder. Nothing is ever written there.

It has no files for refs and metadata: `remotes.working_repository` reads those from its databases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

from stockroom.digest import Buffer
from stockroom.errors import ConflictError, InvalidInputError
from stockroom.remotes.transport.directory import DirectoryTransport
from stockroom.remotes.transport.protocol import MissingFileError, PutSource, StoredFile
from stockroom.repository.head import HEAD_NAME
from stockroom.repository.paths import FOLDER_NAME, RepositoryPaths, is_repository, locate
from stockroom.store.pack.presence import PRESENCE_NAME

_PACKS: Final = "packs/"
_PACK_PARTS: Final = 3
_FIRST_STATE: Final = "refs/00000001"
"""The file that every remote has and no work tree: a folder that is both stays the remote that it was."""


def find_working_repository(folder: Path) -> RepositoryPaths | None:
    """Return the repository that a folder, or the `.stockroom` in it, belongs to; None if it is something else.

    Raises `InvalidInputError` for a folder inside `.stockroom`, where no remote may be.
    """
    for parent in folder.parents:
        if parent.name == FOLDER_NAME and is_repository(RepositoryPaths(parent.parent)):
            raise InvalidInputError(f"{folder}: expected a remote, found a folder among a repository's own files")
    root = folder.parent if folder.name == FOLDER_NAME else folder
    paths = RepositoryPaths(root)
    if not is_repository(paths) and (root / HEAD_NAME).is_file():
        paths = locate(root)
    return paths if is_repository(paths) and not (folder / _FIRST_STATE).exists() else None


class WorkingRepositoryTransport:
    """The packs of the repository at `paths`."""

    def __init__(self, paths: RepositoryPaths) -> None:
        self.paths = paths
        self._files = DirectoryTransport(paths.folder)

    @property
    def url(self) -> str:
        """The path of its work tree."""
        return str(self.paths.root)

    @property
    def can_write(self) -> bool:
        """Always false."""
        return False

    def get(self, path: str, *, max_nbytes: int) -> bytes:
        """Read a whole file of a pack."""
        self._check(path)
        return self._files.get(path, max_nbytes=max_nbytes)

    def get_range(self, path: str, start: int, stop: int) -> Buffer:
        """Read exactly the bytes from `start` up to `stop` of a pack that is whole there."""
        self._check(path)
        return self._files.get_range(path, start, stop)

    def iter_files(self, prefix: str) -> Iterator[StoredFile]:
        """Yield the files of packs that are whole there and whose path begins with `prefix`."""
        for file in self._files.iter_files(prefix):
            if self._is_whole(file.path):
                yield file

    def put(self, path: str, source: PutSource) -> None:  # noqa: ARG002
        """Refuse."""
        self.refuse_write()

    def put_if_absent(self, path: str, content: bytes) -> bool:  # noqa: ARG002
        """Refuse."""
        self.refuse_write()

    def delete(self, paths: Sequence[str]) -> None:  # noqa: ARG002
        """Refuse."""
        self.refuse_write()

    def read_clock_s(self) -> int:
        """Refuse: that takes a new file."""
        self.refuse_write()

    def remove_leftovers(self, before_s: int) -> int:  # noqa: ARG002
        """Do nothing: nothing is put there."""
        return 0

    def describe_trouble(self) -> str | None:
        """Always None: nothing is retried here."""
        return None

    def refuse_write(self) -> NoReturn:
        """Raise `ConflictError`."""
        raise ConflictError(
            f"{self.url} is a repository that somebody works in, so nothing is pushed there: push to a folder of its "
            "own (`stock remote add NAME FOLDER`), and pull from it there"
        )

    def _check(self, path: str) -> None:
        folder = self._find_pack(path)
        if folder is None or not folder.is_dir():
            raise MissingFileError(
                f"{self.url}: there is no {path}; that repository may have rewritten its packs since: `stock fetch` "
                "finds the new ones"
            )
        if not self._is_whole(path):
            raise MissingFileError(
                f"{self.url}: this pack is not whole there either; run `stock prefetch` there, or add its remote here"
            )

    def _is_whole(self, path: str) -> bool:
        folder = self._find_pack(path)
        return folder is not None and not (folder / PRESENCE_NAME).exists()

    def _find_pack(self, path: str) -> Path | None:
        """Return the folder of the pack that a file belongs to; None for other files."""
        parts = path.split("/")
        if not path.startswith(_PACKS) or len(parts) <= _PACK_PARTS or ".." in parts:
            return None
        return self.paths.folder.joinpath(*parts[:_PACK_PARTS])
