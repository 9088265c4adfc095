"""What a writer has read of the content that it changes.

Kept apart: every writer loads it, and few search for lost updates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from stockroom.trees import Key

_MAX_KEYS: Final = 1 << 16


@dataclass(slots=True)
class Reads:
    """What a writer has read of the content that it changes. Too many keys of one column count as all of them."""

    paths: set[str] = field(default_factory=set)
    attrs: set[str] = field(default_factory=set)
    keys: dict[str, set[Key] | None] = field(default_factory=dict)

    def add_key(self, path: str, key: Key) -> None:
        """Note that a sample was read."""
        known = self.keys.setdefault(path, set())
        if known is not None:
            known.add(key)
            if len(known) > _MAX_KEYS:
                self.add_all(path)

    def add_all(self, path: str) -> None:
        """Note that all samples of a column may have been read."""
        self.keys[path] = None
