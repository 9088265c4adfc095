"""Limits for files that come from strangers: the claims of a file are bounded, as a rule by its own size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stockroom.errors import InvalidInputError

MAX_COLUMNS: Final = 10_000
MAX_CELL_LENGTH: Final = 64 << 20
"""How many characters a cell of a CSV file may have."""

MAX_EXPANSION: Final = 1032
"""How many bytes one byte of a file may become: no deflate stream expands by more."""

FREE_NBYTES: Final = 1 << 30
"""How many bytes any file may become, even a small one."""


@dataclass(frozen=True, slots=True)
class Limits:
    """All limits of an import, each `factor` times its default."""

    factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.factor < float("inf"):
            raise InvalidInputError(f"expected a factor above 0 for the limits, found {self.factor}")

    def check(self, found: int, limit: int, what: str, *, where: object) -> None:
        """Raise `InvalidInputError` naming `where` and the limit if `found` is above `limit` times the factor."""
        most = int(limit * self.factor)
        if found > most:
            raise InvalidInputError(
                f"{where}: expected at most {most} {what}, found {found} or more; if you trust the file, raise this "
                f"limit with --limits FACTOR (now {self.factor:g})"
            )

    def check_expansion(self, nbytes: int, path: Path, *, stored_nbytes: int) -> None:
        """Raise `InvalidInputError` if a file of `stored_nbytes` claims to become `nbytes`, too many for it."""
        self.check(
            nbytes, max(stored_nbytes * MAX_EXPANSION, FREE_NBYTES), "bytes out of a file of its size", where=path
        )


DEFAULT: Final = Limits()
