"""Exit codes: one table from error classes to codes.

Scripts depend on these numbers. They are part of the public contract and never change their meaning.
"""

from __future__ import annotations

from typing import Final

from stockroom import errors

OK: Final = 0
FAILED: Final = 1  # any other error, or differences with --exit-code
USAGE: Final = 2
NO_REPOSITORY: Final = 10
LOCKED: Final = 11
AUTHENTICATION: Final = 12
UNREACHABLE: Final = 13
CONFLICT: Final = 14
CORRUPTION: Final = 15
UNREADABLE: Final = 16
INTERRUPTED: Final = 130

CODE_BY_ERROR: Final[dict[type[errors.StockroomError], int]] = {
    errors.StockroomError: FAILED,
    errors.NotFoundError: FAILED,
    errors.RepositoryNotFoundError: NO_REPOSITORY,
    errors.RefNotFoundError: FAILED,
    errors.ColumnNotFoundError: FAILED,
    errors.SampleNotFoundError: FAILED,
    errors.ModelNotFoundError: FAILED,
    errors.LeafNotFoundError: FAILED,
    errors.ValueNotFoundError: FAILED,
    errors.RemoteNotFoundError: FAILED,
    errors.InvalidInputError: FAILED,
    errors.SchemaError: FAILED,
    errors.InvalidNameError: FAILED,
    errors.AmbiguousRefError: FAILED,
    errors.ConflictError: CONFLICT,
    errors.RefChangedError: CONFLICT,
    errors.HeadConflictError: CONFLICT,
    errors.MergeConflictError: CONFLICT,
    errors.LockedError: LOCKED,
    errors.ClosedError: FAILED,
    errors.ReadOnlyError: FAILED,
    errors.NothingToCommitError: FAILED,
    errors.CorruptionError: CORRUPTION,
    errors.DigestMismatchError: CORRUPTION,
    errors.MalformedRecordError: CORRUPTION,
    errors.LostChunksError: CORRUPTION,
    errors.CollectedError: FAILED,
    errors.CollectedRefError: FAILED,
    errors.UnreadableError: UNREADABLE,
    errors.AbsentDataError: UNREACHABLE,
    errors.FormatVersionError: FAILED,
    errors.GitError: FAILED,
    errors.RemoteError: FAILED,
    errors.UnreachableError: UNREACHABLE,
    errors.AuthenticationError: AUTHENTICATION,
    errors.TimeoutError: UNREACHABLE,
}


def exit_code_of(error: BaseException) -> int:
    """Return the code of the nearest class of `error` in the table; 1 for an error that is not Stockroom's own."""
    for kind in type(error).__mro__:
        if kind in CODE_BY_ERROR:
            return CODE_BY_ERROR[kind]
    return FAILED
