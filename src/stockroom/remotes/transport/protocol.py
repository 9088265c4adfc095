"""The protocol of every remote: files by relative path, read whole or in ranges, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from stockroom.digest import Buffer
from stockroom.errors import RemoteError

PutSource: TypeAlias = Buffer | Path
PART_NBYTES: Final = 8 << 20
"""The size of the parts in which large files are put."""
CLOCK_PATH: Final = "clock"
"""An empty file, written to learn a remote's time."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a remote: its path relative to the remote's root, with `/` between folders, and its size.

    `checksum` is the MD5 in hex that the store keeps of the content, if it keeps one. For a file that was put in parts
    it is the MD5 of their MD5s, and `-` and their number.
    """

    path: str
    nbytes: int
    checksum: str | None = None


class MissingFileError(RemoteError):
    """There is no such file on the remote."""


class Transport(Protocol):
    """Files under one remote. Threads may share one; a forked child must not use its parent's.

    Every request has a deadline and a bounded number of tries. Errors: `MissingFileError`, `AuthenticationError`,
    `TimeoutError`, `UnreachableError`, else `RemoteError`; each names the remote and the path.
    """

    @property
    def url(self) -> str:
        """The URL of the remote, without secrets."""

    @property
    def can_write(self) -> bool:
        """Whether files can be put there."""

    def get(self, path: str, *, max_nbytes: int) -> bytes:
        """Read a whole file. Raises `RemoteError` if it is larger than `max_nbytes`."""

    def get_range(self, path: str, start: int, stop: int) -> Buffer:
        """Read exactly the bytes from `start` up to `stop`."""

    def put(self, path: str, source: PutSource) -> None:
        """Write a file, replacing an old one. Readers see it whole or not at all."""

    def put_if_absent(self, path: str, content: bytes) -> bool:
        """Write a file unless it exists. Return whether it was written.

        False may also mean that an earlier try of this very call took effect and its answer was lost.
        """

    def iter_files(self, prefix: str) -> Iterator[StoredFile]:
        """Yield every file whose path begins with `prefix`, in any order."""

    def delete(self, paths: Sequence[str]) -> None:
        """Remove files; missing ones are no error."""

    def read_clock_s(self) -> int:
        """Return the remote's own time, in seconds since 1970: that of the file `clock`, written just now."""

    def remove_leftovers(self, before_s: int) -> int:
        """Remove leftovers of unfinished puts from before a time by the remote's clock. Return how many."""

    def describe_trouble(self) -> str | None:
        """Describe a request that is being retried, and why; None if all is well."""
