"""How far a transfer is, as told to whoever watches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far one stage of a transfer is; a total of None is not known yet."""

    stage: str
    files: int
    total_files: int | None
    nbytes: int
    total_nbytes: int | None


OnProgress: TypeAlias = Callable[[TransferProgress], None]


class TransferTally:
    """Counts what several threads have moved in one stage and tells of it."""

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
        """Count what has been moved."""
        with self._lock:
            self.files += files
            self.nbytes += nbytes
            self._tell()

    def _tell(self) -> None:
        if self._on_progress is not None:
            files, nbytes = self._totals
            self._on_progress(TransferProgress(self._stage, self.files, files, self.nbytes, nbytes))
