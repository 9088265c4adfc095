"""A small file of settings that several processes change: each change is read, made and written under one lock.

Reading takes no lock: the file is replaced in one step, so a reader sees an old version or a new one, always whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from stockroom.files import read_own_file, replace_own_file
from stockroom.locks import FileLock

T = TypeVar("T")
_LOCK_SUFFIX: Final = ".lock"
_PATIENCE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class SettingsFile(Generic[T]):
    """The file at `path`. `decode` may raise what it likes about malformed bytes; a missing file holds `default`."""

    path: Path
    decode: Callable[[bytes], T]
    encode: Callable[[T], bytes]
    default: T

    def read(self) -> T:
        """Return the settings."""
        try:
            content = read_own_file(self.path)
        except FileNotFoundError:
            return self.default
        return self.decode(content)

    def change(self, change: Callable[[T], T]) -> T:
        """Replace the settings by `change` of them, and return them; no change of another process is lost.

        Nothing is written if `change` raises. Raises `LockedError` if another process holds the lock for 10 s.
        """
        lock = FileLock(self.path.with_name(self.path.name + _LOCK_SUFFIX))
        lock.take(_PATIENCE_S, busy=f"{self.path}: another process is changing it; try again")
        with lock:
            changed = change(self.read())
            replace_own_file(self.path, self.encode(changed))
        return changed
