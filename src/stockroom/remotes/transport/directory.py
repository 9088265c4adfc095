"""A remote in a folder: on a disk, on a mounted share, or served by a web server."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

from stockroom.digest import Buffer, view_bytes
from stockroom.errors import AuthenticationError, InvalidInputError, RemoteError, UnreachableError
from stockroom.files import give_to_owner, make_folder, sync_path
from stockroom.fork_locks import make_plain_fork_lock
from stockroom.remotes.transport.protocol import CLOCK_PATH, MissingFileError, PutSource, StoredFile

_TEMPORARY: Final = ".put-"
_PIECE_NBYTES: Final = 8 << 20
_TRIES: Final = 10
_making: Final = make_plain_fork_lock()
"""Held while a folder is made: no other thread puts a file into it before it belongs to its owner."""
_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class DirectoryTransport:
    """Files in the folder `root`, which the first put creates."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._identity: tuple[int, int] | None = None

    @property
    def url(self) -> str:
        """The folder's path."""
        return str(self._root)

    @property
    def can_write(self) -> bool:
        """Always true: a write shows whether the system allows it."""
        return True

    def exists(self) -> bool:
        """Return whether there is such a folder."""
        return self._root.is_dir()

    def get(self, path: str, *, max_nbytes: int) -> bytes:
        """Read a whole file."""
        with self._open(path) as file:
            nbytes = os.fstat(file.fileno()).st_size
            if nbytes > max_nbytes:
                raise RemoteError(f"{self.url}: {path} has {nbytes} bytes; expected at most {max_nbytes}")
            return file.read(max_nbytes)

    def get_range(self, path: str, start: int, stop: int) -> Buffer:
        """Read exactly the bytes from `start` up to `stop`."""
        with self._open(path) as file:
            try:
                content = os.pread(file.fileno(), stop - start, start)
            except OSError as error:
                self._fail(path, error)
        if len(content) != stop - start:
            raise RemoteError(
                f"{self.url}: expected {stop - start} bytes of {path} from {start}, found {len(content)}: it is damaged"
            )
        return content

    def put(self, path: str, source: PutSource) -> None:
        """Write a file through a temporary one beside it."""
        target = self._locate(path)
        try:
            temporary = self._write_temporary(target, source)
            temporary.rename(target)
            _sync_folder(target.parent)
        except OSError as error:
            self._fail(path, error)

    def put_if_absent(self, path: str, content: bytes) -> bool:
        """Write a file unless it exists, by one atomic step: a link to a temporary file."""
        target = self._locate(path)
        try:
            temporary = self._write_temporary(target, content)
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno in _NO_LINKS:
                    raise RemoteError(
                        f"{self.url}: expected a file system with hard links, which create a file only once, found one "
                        "without: concurrent pushes would be lost there; choose a folder on another file system"
                    ) from error
                raise
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(target.parent)
        except OSError as error:
            self._fail(path, error)
        return True

    def iter_files(self, prefix: str) -> Iterator[StoredFile]:
        """Yield every file whose path begins with `prefix`."""
        folder = self._locate(prefix) if prefix.endswith("/") else self._locate(prefix).parent
        for parent, folders, names in os.walk(folder if prefix else self._root):
            folders.sort()
            for name in sorted(names):
                full = Path(parent, name)
                path = full.relative_to(self._root).as_posix()
                if path.startswith(prefix) and not name.startswith(_TEMPORARY):
                    with suppress(FileNotFoundError):
                        yield StoredFile(path, full.stat().st_size)

    def delete(self, paths: Sequence[str]) -> None:
        """Remove files, and the folders that they leave empty."""
        for path in paths:
            located = self._locate(path)
            try:
                located.unlink(missing_ok=True)
            except OSError as error:
                self._fail(path, error)
            with suppress(OSError):  # it is not empty
                located.parent.rmdir()

    def read_clock_s(self) -> int:
        """Return the time that the file system gives a new file. On a share, that is the server's time."""
        self.put(CLOCK_PATH, b"")
        with self._open(CLOCK_PATH) as file:
            return int(os.fstat(file.fileno()).st_mtime)

    def remove_leftovers(self, before_s: int) -> int:
        """Remove temporary files of puts that were killed."""
        count = 0
        for parent, _, names in os.walk(self._root):
            for name in names:
                if name.startswith(_TEMPORARY):
                    with suppress(FileNotFoundError):  # its put has just ended
                        count += _remove_older(Path(parent, name), before_s)
        return count

    def describe_trouble(self) -> str | None:
        """Always None: nothing is retried here."""
        return None

    def _locate(self, path: str) -> Path:
        parts = path.split("/")
        if path.startswith("/") or ".." in parts or "\0" in path:
            raise InvalidInputError(f"expected a path inside the remote, found {path!r}")
        return self._root.joinpath(*parts)

    def _open(self, path: str) -> BinaryIO:
        try:
            fd = os.open(self._locate(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self._fail(path, error)
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode):
            self._identity = self._identity or _identify(self._root)
            return open(fd, "rb")  # noqa: PTH123 - the caller closes it
        os.close(fd)
        if stat.S_ISDIR(mode):
            self._fail(path, IsADirectoryError())
        raise RemoteError(f"{self.url}: {path} is a pipe or a device, not a file: the remote is damaged")

    def _write_temporary(self, target: Path, source: PutSource) -> Path:
        """Write `source` to a synced file beside `target`."""
        temporary = target.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
        if self._identity is not None:
            self._check_identity()
        try:
            with _create(temporary) as file:
                for piece in _iter_pieces(source):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def _check_identity(self) -> None:
        """Raise `UnreachableError` if this is another folder than was read first: a share was unmounted meanwhile."""
        found = _identify(self._root)
        if found != self._identity:
            raise UnreachableError(
                f"{self.url}: expected the folder that was there a moment ago, found "
                f"{'none' if found is None else 'another one'}: check that it is mounted, and run this again"
            )

    def _fail(self, path: str, error: OSError) -> NoReturn:
        if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
            what = path if self._root.is_dir() else "such folder"
            raise MissingFileError(f"{self.url}: there is no {what}") from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise AuthenticationError(f"{self.url}: {path}: {error.strerror}") from error
        raise RemoteError(f"{self.url}: {path}: {error.strerror or error}") from error


def _identify(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _iter_pieces(source: PutSource) -> Iterator[memoryview]:
    if not isinstance(source, Path):
        yield view_bytes(source)
        return
    with source.open("rb") as file:
        while piece := file.read(_PIECE_NBYTES):
            yield memoryview(piece)


def _create(path: Path) -> BinaryIO:
    """Create a file and its folder; retry if a `delete` removes the folder in between."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError, FileExistsError):
            return _create_once(path)
    return _create_once(path)


def _create_once(path: Path) -> BinaryIO:
    with _making:
        make_folder(path.parent)
    file = path.open("xb")
    give_to_owner(path)
    return file


def _sync_folder(folder: Path) -> None:
    with suppress(FileNotFoundError):  # the file was deleted since, and the folder with it
        sync_path(folder)


def _remove_older(path: Path, before_s: int) -> bool:
    """Remove a file that was last written before a moment; returns whether it was."""
    is_older = path.lstat().st_mtime < before_s
    if is_older:
        path.unlink()
    return is_older
