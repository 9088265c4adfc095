"""A repository's content at one commit or stage: the tree of all that its shelves hold.

The root is a tree from paths such as `data/image` to the digests of records. The first part of a path is the kind:
`data` a column; `model` a state; `experiment` a value; `metric` a series, which is a column of numbers by step;
`artifact` a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from stockroom.content.column import ColumnRecord, decode_column
from stockroom.content.state import StateRecord, ValueRecord, decode_state, decode_value
from stockroom.content.structure import Structure, decode_structure
from stockroom.digest import DIGEST_NBYTES, ObjectDigest
from stockroom.errors import MalformedRecordError
from stockroom.trees import KeyType, NodeCache, Tree, TreeFormat, iter_range
from stockroom.trees.str_keys import MAX_KEY_NBYTES

ROOT_FORMAT: Final = TreeFormat(KeyType.STR, DIGEST_NBYTES)
DATA: Final = "data"
MODEL: Final = "model"
EXPERIMENT: Final = "experiment"
METRIC: Final = "metric"
ARTIFACT: Final = "artifact"


def name_path(shelf: str, name: object) -> str:
    """Return the path of a name on a shelf; for an enum member that is a str, by its value."""
    return f"{shelf}/{str.__str__(name) if isinstance(name, str) else name}"


Record: TypeAlias = ColumnRecord | StateRecord | ValueRecord

_DECODERS: Final[dict[bytes, Callable[..., Record]]] = {
    b"SRco": decode_column,
    b"SRse": decode_state,
    b"SRva": decode_value,
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The content under one root. It is immutable."""

    nodes: NodeCache
    root: ObjectDigest

    @classmethod
    def empty(cls, nodes: NodeCache) -> Snapshot:
        """Return an empty snapshot."""
        return cls(nodes, Tree.empty(nodes, ROOT_FORMAT).root)

    @property
    def tree(self) -> Tree:
        """The tree from paths to record digests."""
        return Tree(self.nodes, ROOT_FORMAT, self.root)

    def iter_names(self, shelf: str) -> Iterator[str]:
        """Yield the names on a shelf, in order."""
        for name, _ in self.iter_digests(shelf):
            yield name

    def iter_digests(self, shelf: str) -> Iterator[tuple[str, ObjectDigest]]:
        """Yield the names on a shelf, in order, with the digests of their records."""
        prefix, stop = _span_shelf(shelf)
        for paths, digests in iter_range(self.tree, prefix, stop):
            for path, digest in zip(paths, digests, strict=True):
                yield str(path).removeprefix(prefix), ObjectDigest(digest.tobytes())

    def count_names(self, shelf: str) -> int:
        """Return the number of names on a shelf, from a few nodes of the tree."""
        start, stop = _span_shelf(shelf)
        return self.tree.count_below(stop) - self.tree.count_below(start)

    def find_digest(self, path: str) -> ObjectDigest | None:
        """Return the digest of the record at a path, or None."""
        if len(path) * 4 > MAX_KEY_NBYTES and len(path.encode("utf-8", "surrogatepass")) > MAX_KEY_NBYTES:
            return None  # too long for the tree to look up, so no record has this path
        digest = self.tree.get(path)
        return None if digest is None else ObjectDigest(digest)

    def find_digests(self, paths: Sequence[str]) -> Iterator[tuple[str, ObjectDigest]]:
        """Yield those of `paths` that are here, with the digests of their records; one descent for all."""
        found, digests = self.tree.get_many(paths)
        for path, is_found, digest in zip(paths, found.tolist(), digests, strict=True):
            if is_found:
                yield path, ObjectDigest(digest.tobytes())

    def has_path(self, path: str) -> bool:
        """Return whether there is a record at a path."""
        return self.find_digest(path) is not None

    def find_column(self, path: str) -> ColumnRecord | None:
        """Return the record of the column or series at a path, or None."""
        digest = self.find_digest(path)
        return None if digest is None else self.read_column(digest)

    def find_state(self, path: str) -> StateRecord | ValueRecord | None:
        """Return the record of the state at a path, or None."""
        digest = self.find_digest(path)
        return None if digest is None else self.read_state(digest)

    def read_column(self, digest: ObjectDigest) -> ColumnRecord:
        """Return the column record stored under `digest`."""
        return decode_column(self.nodes.get_object(digest), where=f"column record {digest.hex()[:16]}")

    def read_state(self, digest: ObjectDigest) -> StateRecord | ValueRecord:
        """Return the state or value record stored under `digest`."""
        record = self.read_record(digest)
        if isinstance(record, ColumnRecord):
            raise MalformedRecordError(
                f"record {digest.hex()[:16]}: expected a state, found a column; run `stock fsck`"
            )
        return record

    def read_record(self, digest: ObjectDigest) -> Record:
        """Return the record of any kind stored under `digest`."""
        return decode_record(self.nodes.get_object(digest), where=f"record {digest.hex()[:16]}")

    def read_structure(self, record: StateRecord | ValueRecord) -> Structure:
        """Return the structure of a state."""
        if isinstance(record, ValueRecord):
            return Structure(record.structure)
        where = f"structure {record.structure.hex()[:16]}"
        return decode_structure(self.nodes.get_object(ObjectDigest(record.structure)), where=where)

    def open_tree(self, record: ColumnRecord | StateRecord) -> Tree:
        """Return the tree of a record that has one."""
        return Tree(self.nodes, record.tree_format, ObjectDigest(record.root))


def _span_shelf(shelf: str) -> tuple[str, str]:
    """Return the keys between which the paths of a shelf are."""
    return f"{shelf}/", f"{shelf}0"  # "0" follows "/"


def decode_record(data: bytes, *, where: str) -> Record:
    """Return the record in `data`, by its magic. Raises `MalformedRecordError` naming `where` if it is invalid."""
    return _DECODERS.get(data[:4], decode_column)(data, where=where)
