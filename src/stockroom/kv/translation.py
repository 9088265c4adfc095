"""Translates LMDB's errors to Stockroom's by one table, used wherever an lmdb error could leave this package."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import lmdb

from stockroom.errors import (
    ClosedError,
    CorruptionError,
    FormatVersionError,
    InvalidInputError,
    LockedError,
    ReadOnlyError,
    StockroomError,
    UnreadableError,
)

_Maker: TypeAlias = Callable[[Path, lmdb.Error], StockroomError]

_CLOSED_HANDLE = "closed/deleted/dropped"


def _damaged(path: Path, error: lmdb.Error) -> StockroomError:
    message = f"{path}: the LMDB file is damaged ({error}); run `stock fsck`"
    return CorruptionError(message, where=str(path))


def _newer(path: Path, error: lmdb.Error) -> StockroomError:
    return FormatVersionError(f"{path} was written by another version of LMDB ({error}); upgrade Stockroom to read it")


def _readers_full(path: Path, error: lmdb.Error) -> StockroomError:
    return LockedError(
        f"{path}: the reader limit is reached ({error}); read with fewer threads of this process at once"
    )


def _busy(path: Path, error: lmdb.Error) -> StockroomError:
    return LockedError(f"{path}: LMDB could not lock the file ({error}); try again when other processes finish")


def _bad_size(path: Path, error: lmdb.Error) -> StockroomError:
    return InvalidInputError(f"{path}: expected a key of 1 to 511 bytes and a value below 4 GiB ({error})")


def _read_only(path: Path, error: lmdb.Error) -> StockroomError:
    return ReadOnlyError(f"cannot write {path} ({error}); check the folder's permissions")


def _disk_full(path: Path, error: lmdb.Error) -> StockroomError:
    return StockroomError(f"{path}: the disk is full ({error}); nothing was changed; free some space and try again")


def _no_memory(path: Path, error: lmdb.Error) -> StockroomError:
    message = f"{path}: cannot map the file ({error}); raise the address space limit (ulimit -v)"
    return UnreadableError(message, where=str(path), errno=errno.ENOMEM)


def _no_files(path: Path, error: lmdb.Error) -> StockroomError:
    message = f"{path}: cannot be opened ({error}); raise the limit on open files (ulimit -n)"
    return UnreadableError(message, where=str(path), errno=errno.EMFILE)


def _failed(path: Path, error: lmdb.Error) -> StockroomError:
    if error.args and _CLOSED_HANDLE in str(error):
        return ClosedError(f"{path}: used after its transaction ended or after it was closed")
    if getattr(error, "code", 0) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return _disk_full(path, error)
    if os.strerror(errno.EMFILE) in str(error) or os.strerror(errno.ENFILE) in str(error):
        return _no_files(path, error)
    if "Input/output error" in str(error):  # LMDB says this if the system took only part of a write
        return StockroomError(f"{path}: the write failed ({error}); nothing was changed; the disk is full or failing")
    return StockroomError(f"{path}: LMDB failed ({error}); nothing was changed")


TRANSLATIONS: dict[str, _Maker] = {
    "Error": _failed,
    "BadChecksumError": _damaged,
    "BadDbiError": _failed,
    "BadRslotError": _failed,
    "BadTxnError": _failed,
    "BadValsizeError": _bad_size,
    "CorruptedError": _damaged,
    "CryptoFailError": _newer,
    "CursorFullError": _damaged,
    "DbsFullError": _failed,
    "DiskError": _disk_full,
    "EnvEncryptionError": _newer,
    "IncompatibleError": _damaged,
    "InvalidError": _damaged,
    "InvalidParameterError": _failed,
    "KeyExistsError": _failed,
    "LockError": _busy,
    "MapFullError": _failed,
    "MapResizedError": _failed,
    "MemoryError": _no_memory,
    "NotFoundError": _damaged,
    "PageFullError": _damaged,
    "PageNotFoundError": _damaged,
    "PanicError": _failed,
    "ProblemError": _damaged,
    "ReadersFullError": _readers_full,
    "ReadonlyError": _read_only,
    "TlsFullError": _failed,
    "TxnFullError": _failed,
    "VersionMismatchError": _newer,
}
"""Name of an lmdb error class -> function that makes our error; by name, as older lmdb lacks some classes."""


def translate(error: lmdb.Error, path: Path) -> StockroomError:
    """Return the Stockroom error for `error` in the environment at `path`."""
    return TRANSLATIONS.get(type(error).__name__, _failed)(path, error)
