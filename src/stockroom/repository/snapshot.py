"""A repository's content at one commit or stage: the tree of its columns, models and experiments.

The root is a tree from paths such as `data/image` to the digest of the record that describes what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stockroom.digest import DIGEST_NBYTES, ObjectDigest
from stockroom.refs.names import find_broken_rule
from stockroom.repository.column import ColumnRecord, decode_column
from stockroom.trees import KeyType, NodeCache, Tree, TreeFormat, iter_range

ROOT_FORMAT: Final = TreeFormat(KeyType.STR, DIGEST_NBYTES)
DATA: Final = "data"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The content under one root. Immutable, so it is safe to keep."""

    nodes: NodeCache
    root: ObjectDigest

    @classmethod
    def empty(cls, nodes: NodeCache) -> Snapshot:
        """A snapshot with nothing in it."""
        return cls(nodes, Tree.empty(nodes, ROOT_FORMAT).root)

    @property
    def tree(self) -> Tree:
        """The tree from paths to record digests."""
        return Tree(self.nodes, ROOT_FORMAT, self.root)

    def iter_names(self, shelf: str) -> Iterator[str]:
        """The names on a shelf, in order."""
        prefix = f"{shelf}/"
        for paths, _ in iter_range(self.tree, prefix, f"{shelf}0"):  # "0" follows "/"
            for path in paths:
                yield str(path).removeprefix(prefix)

    def find_column(self, name: str) -> ColumnRecord | None:
        """The record of a column, or None."""
        if find_broken_rule(name) is not None:  # it may be too long to look for, and nothing is called that
            return None
        digest = self.tree.get(f"{DATA}/{name}")
        return None if digest is None else self.read_column(ObjectDigest(digest))

    def read_column(self, digest: ObjectDigest) -> ColumnRecord:
        """The column record kept under `digest`."""
        return decode_column(self.nodes.get_object(digest), where=f"column record {digest.hex()[:16]}")

    def open_tree(self, record: ColumnRecord) -> Tree:
        """The tree of a column."""
        return Tree(self.nodes, record.tree_format, ObjectDigest(record.root))
