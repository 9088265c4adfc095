"""The progress of a transfer, as reported to the caller."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """The progress of one stage of a transfer. A total of None is not known yet."""

    stage: str
    files: int
    total_files: int | None
    nbytes: int
    total_nbytes: int | None


OnProgress: TypeAlias = Callable[[TransferProgress], None]


class TransferTally:
    """Counts the files and bytes that several threads move in one stage, and reports them."""

    def __init__(
        self,
        stage: str,
        on_progress: OnProgress | None,
        *,
        total_files: int | None = None,
        total_nbytes: int | None = None,
    ) -> None:
        self._stage = stage
        self._on_progress = on_progress
        self._totals = (total_files, total_nbytes)
        self._lock = threading.Lock()
        self.files = 0
        self.nbytes = 0
        self._tell()

    def add(self, *, files: int = 0, nbytes: int = 0) -> None:
        """Add files and bytes that have been moved."""
        with self._lock:
            self.files += files
            self.nbytes += nbytes
            self._tell()

    def _tell(self) -> None:
        if self._on_progress is not None:
            files, nbytes = self._totals
            self._on_progress(TransferProgress(self._stage, self.files, files, self.nbytes, nbytes))
