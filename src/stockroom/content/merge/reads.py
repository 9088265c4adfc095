"""Records which content a writer has read.

Kept apart: every writer loads it, and few search for lost updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from stockroom.digest import ObjectDigest
from stockroom.trees import Key, Tree

_MAX_KEYS: Final = 1 << 16


@dataclass(slots=True)
class Reads:
    """The state of each thing at its first read, by path: later reads may find changes of the writer's own.

    `paths` has the digests of records, `keys` the entries of samples (None: there was none), `trees` those of columns
    whose samples were read together; None is the tree of the start, after reading too many keys to remember.
    """

    paths: dict[str, ObjectDigest | None] = field(default_factory=dict)
    attrs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    keys: dict[str, dict[Key, bytes | None]] = field(default_factory=dict)
    trees: dict[str, Tree | None] = field(default_factory=dict)

    def add_key(self, path: str, key: Key, entry: bytes | None) -> None:
        """Note that a sample was read."""
        if path not in self.trees:
            known = self.keys.setdefault(path, {})
            known.setdefault(key, entry)
            if len(known) > _MAX_KEYS:
                self.trees[path] = None
                del self.keys[path]

    def finds(self, path: str, key: Key, entry: bytes | None) -> bool:
        """Return whether the sample was read when its entry was this one."""
        known = self.keys.get(path, {})
        if key in known and known[key] == entry:
            return True
        tree = self.trees.get(path)
        return path in self.trees and (tree is None or tree.get(key) == entry)
