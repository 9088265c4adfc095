"""Every error Stockroom raises, classed by what the caller can do about it.

    StockroomError
    ├── NotFoundError (KeyError)         RepositoryNotFoundError, RefNotFoundError, ColumnNotFoundError,
    │                                    SampleNotFoundError, ModelNotFoundError, LeafNotFoundError,
    │                                    ValueNotFoundError, RemoteNotFoundError
    ├── InvalidInputError (ValueError)   SchemaError, InvalidNameError, AmbiguousRefError
    ├── ConflictError                    RefChangedError, MergeConflictError, HeadConflictError
    ├── LockedError    ClosedError    ReadOnlyError (PermissionError)    NothingToCommitError
    ├── CorruptionError                  DigestMismatchError, MalformedRecordError, LostChunksError
    ├── CollectedError                   CollectedRefError (RefNotFoundError too)
    ├── UnreadableError
    ├── AbsentDataError
    ├── FormatVersionError
    ├── GitError
    └── RemoteError                      UnreachableError, AuthenticationError, TimeoutError

A message says what was expected, what was found and what to do next. Fields carry the same facts as values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "AbsentDataError",
    "AmbiguousRefError",
    "AuthenticationError",
    "ClosedError",
    "CollectedError",
    "CollectedRefError",
    "ColumnNotFoundError",
    "ConflictError",
    "CorruptionError",
    "DigestMismatchError",
    "FormatVersionError",
    "GitError",
    "HeadConflictError",
    "InvalidInputError",
    "InvalidNameError",
    "LeafNotFoundError",
    "LockedError",
    "LostChunksError",
    "MalformedRecordError",
    "MergeConflictError",
    "ModelNotFoundError",
    "NotFoundError",
    "NothingToCommitError",
    "ReadOnlyError",
    "RefChangedError",
    "RefNotFoundError",
    "RemoteError",
    "RemoteNotFoundError",
    "RepositoryNotFoundError",
    "SampleNotFoundError",
    "SchemaError",
    "StockroomError",
    "TimeoutError",
    "UnreachableError",
    "UnreadableError",
    "ValueNotFoundError",
]


class StockroomError(Exception):
    """Base of every error raised on purpose by Stockroom."""

    def __str__(self) -> str:
        # KeyError would print the repr of its message; ours are sentences.
        return str(self.args[0]) if self.args else ""


class NotFoundError(StockroomError, KeyError):
    """No item has the requested name."""


class RepositoryNotFoundError(NotFoundError):
    """No repository here or in any folder above."""


class RefNotFoundError(NotFoundError):
    """No branch, tag or commit matches a ref; `near` lists similar names."""

    def __init__(self, message: str, *, ref: str = "", near: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.ref = ref
        self.near = tuple(near)


class ColumnNotFoundError(NotFoundError):
    """No column of that name in this commit or stage."""


class SampleNotFoundError(NotFoundError):
    """No sample under that key in the column."""


class ModelNotFoundError(NotFoundError):
    """No model of that name in this commit or stage."""


class LeafNotFoundError(NotFoundError):
    """Nothing under that key or path in a model's state."""


class ValueNotFoundError(NotFoundError):
    """No value, metric or artifact of that name on the experiment shelf."""


class RemoteNotFoundError(NotFoundError):
    """No remote of that name."""


class InvalidInputError(StockroomError, ValueError):
    """A value, name or argument cannot be accepted; nothing was changed."""


class SchemaError(InvalidInputError):
    """A value does not fit its column's dtype, shape or key type."""


class InvalidNameError(InvalidInputError):
    """A column, branch or tag name breaks git's rules for names, or collides with another."""


class AmbiguousRefError(InvalidInputError):
    """A short digest fits several commits; `candidates` lists their full hex digests."""

    def __init__(self, message: str, *, candidates: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


class ConflictError(StockroomError):
    """Two changes exclude each other; nothing was changed."""


class RefChangedError(ConflictError):
    """A ref moved between reading and writing it."""


class HeadConflictError(ConflictError):
    """git left a conflict in `head.stock`; `where` is the file."""

    def __init__(self, message: str, *, where: str = "") -> None:
        super().__init__(message)
        self.where = where


class MergeConflictError(ConflictError):
    """A merge needs decisions; `conflicts` lists the conflicts."""

    def __init__(self, message: str, *, conflicts: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.conflicts = tuple(conflicts)


class LockedError(StockroomError):
    """Another writer holds the stage; `pid`, `host` and `since` identify it if known."""

    def __init__(self, message: str, *, pid: int | None = None, host: str = "", since: str = "") -> None:
        super().__init__(message)
        self.pid = pid
        self.host = host
        self.since = since


class ClosedError(StockroomError):
    """A handle, or something taken from it, was used after it was closed."""


class ReadOnlyError(StockroomError, PermissionError):
    """A write was attempted on a handle that only reads."""


class NothingToCommitError(StockroomError):
    """The stage equals the commit under it."""


class CorruptionError(StockroomError):
    """Bytes differ from the bytes written; `where` names the file or object."""

    def __init__(self, message: str, *, where: str = "") -> None:
        super().__init__(message)
        self.where = where


class DigestMismatchError(CorruptionError):
    """Bytes hash to another digest than the one they are stored under."""

    def __init__(self, expected: str, actual: str, *, where: str) -> None:
        super().__init__(
            f"{where}: expected digest {expected}, found {actual}; run `stock fsck` to list the damage",
            where=where,
        )
        self.expected = expected
        self.actual = actual


class MalformedRecordError(CorruptionError):
    """A record's bytes do not follow its format."""


def malformed(where: str, expected: str, found: str, advice: str = "run `stock fsck`") -> MalformedRecordError:
    """Return the error for bytes that do not follow their format."""
    return MalformedRecordError(f"{where}: expected {expected}, found {found}; {advice}", where=where)


class LostChunksError(CorruptionError):
    """Chunks are in no pack, for example after a pack was lost; `where` is the digest of the first."""


class CollectedError(StockroomError):
    """A commit that was read has been deleted by gc; `commit` is its full hex digest."""

    def __init__(self, message: str, *, commit: str = "") -> None:
        super().__init__(message)
        self.commit = commit


class CollectedRefError(RefNotFoundError, CollectedError):
    """A ref names a commit that gc has deleted."""

    def __init__(self, message: str, *, ref: str = "", commit: str = "") -> None:
        RefNotFoundError.__init__(self, message, ref=ref)
        self.commit = commit


class UnreadableError(StockroomError):
    """Bytes could not be read, so nothing is known about them: they may be as they were written.

    `where` names the file, `errno` is the system's reason, and `start` and `stop` bound the bytes if they are known.
    """

    def __init__(
        self,
        message: str,
        *,
        where: str = "",
        errno: int | None = None,
        start: int | None = None,
        stop: int | None = None,
    ) -> None:
        super().__init__(message)
        self.where = where
        self.errno = errno
        self.start = start
        self.stop = stop


class AbsentDataError(StockroomError):
    """Bytes are absent and no remote can provide them; names `remote` and `pack`."""

    def __init__(self, message: str, *, remote: str | None = None, pack: str = "") -> None:
        super().__init__(message)
        self.remote = remote
        self.pack = pack


class FormatVersionError(StockroomError):
    """Something was written by a newer Stockroom than this one."""


class GitError(StockroomError):
    """The program git is missing or failed."""


class RemoteError(StockroomError):
    """A remote failed to complete a request."""


class UnreachableError(RemoteError):
    """A remote cannot be reached."""


class AuthenticationError(RemoteError):
    """A remote refused the credentials, or is on a host that the user has not named, and gets none."""


class TimeoutError(RemoteError):  # noqa: A001 - the contract's name; always used through this module
    """A remote did not answer in time."""


def near_names(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Return at most `n` of the `known` names that are spelled like `name`, the nearest first."""
    from difflib import get_close_matches  # here for start-up time

    return get_close_matches(name, list(known), n)


def did_you_mean(near: Iterable[str], *, quote: Callable[[str], str] = repr) -> str:
    """Return `did you mean 'a' or 'b'?` for a message; empty without names."""
    names = " or ".join(map(quote, near))
    return names and f"did you mean {names}?"
