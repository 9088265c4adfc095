"""What every kind of remote can do: files by relative path, whole or in ranges, made whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from stockroom.digest import Buffer
from stockroom.errors import RemoteError

PutSource: TypeAlias = Buffer | Path
CLOCK_PATH: Final = "clock"
"""Written to learn a remote's time; holds nothing."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a remote: its path relative to the remote's root, with `/` between folders, and its size."""

    path: str
    nbytes: int


class MissingFileError(RemoteError):
    """There is no such file on the remote."""


class Transport(Protocol):
    """Files under one remote. Threads may share one; a forked child may not use its parent's.

    Every request has a deadline and is tried a bounded number of times. Errors: `MissingFileError`,
    `AuthenticationError`, `TimeoutError`, `UnreachableError`, else `RemoteError`; each names the remote and the path.
    """

    @property
    def url(self) -> str:
        """Where the remote is; without secrets."""

    @property
    def can_write(self) -> bool:
        """Whether anything can be put there."""

    def get(self, path: str, *, max_nbytes: int) -> bytes:
        """A whole file; `RemoteError` if it is larger than `max_nbytes`."""

    def get_range(self, path: str, start: int, stop: int) -> Buffer:
        """Exactly the bytes from `start` up to `stop`."""

    def get_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Several ranges, side by side, each as by `get_range`."""

    def put(self, path: str, source: PutSource) -> None:
        """Write a file, seen whole or not at all; what was there is replaced."""

    def put_if_absent(self, path: str, content: bytes) -> bool:
        """Write a file unless there is one; whether it was written.

        False may also mean that an earlier try of this very call took effect and its answer was lost.
        """

    def iter_files(self, prefix: str) -> Iterator[StoredFile]:
        """Every file whose path begins with `prefix`, in any order."""

    def delete(self, paths: Sequence[str]) -> None:
        """Remove files; those that are not there are no error."""

    def read_clock_s(self) -> int:
        """The remote's own time, in seconds since 1970: what it says of a file written just now, `clock`."""

    def remove_leftovers(self, before_s: int) -> int:
        """Remove what puts left unfinished before a time by the remote's clock, where they leave anything; how many."""

    def describe_trouble(self) -> str | None:
        """What is being tried again at the moment, and why; None if all is well."""
