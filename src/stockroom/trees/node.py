"""One node of a tree: its items in memory and its canonical bytes.

| offset | size | type | field |
|---|---|---|---|
| 0 | 4 | bytes | magic `SRnd` |
| 4 | 1 | u8 | version, 1 |
| 5 | 1 | u8 | level, 0 for a leaf |
| 6 | 1 | u8 | key type, 1 int, 2 str |
| 7 | 1 | u8 | reserved, 0 |
| 8 | 2 | u16 | value width of the tree's leaves |
| 10 | 2 | u16 | reserved, 0 |
| 12 | 4 | u32 | number of items `n` |
| 16 | | | keys (`int_keys`, `str_keys`) |
| | `n * w` | | values; `w` is the value width in a leaf, 40 above |

Numbers are little-endian. Above the leaves, an item's key is its child's last key, and its value is the child's digest
followed by the number of keys below the child as u64. A node's digest covers exactly these bytes; the store handles
compression.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import DIGEST_NBYTES, ObjectDigest
from stockroom.errors import MalformedRecordError
from stockroom.trees.boundary import MAX_LEVEL, MAX_NODE_SIZE
from stockroom.trees.format import MAX_VALUE_WIDTH, TreeFormat, tree_format_of
from stockroom.trees.int_keys import decode_int_keys
from stockroom.trees.keys import KEY_TYPE_OF_CODE, Keys, KeyType
from stockroom.trees.str_keys import MAX_KEY_NBYTES, decode_str_keys

MAGIC = b"SRnd"
VERSION = 1
CHILD_WIDTH = DIGEST_NBYTES + 8
_DIGEST = np.dtype(f"V{DIGEST_NBYTES}")
_HEADER = struct.Struct("<4sBBBBHHI")
_MAX_NODE_NBYTES = _HEADER.size + MAX_NODE_SIZE + 4 + MAX_KEY_NBYTES + MAX_VALUE_WIDTH  # one item may overshoot
_MAX_CHILD_COUNT = 1 << 48


@final
class Node:
    """A node's items: `keys` sorted, `values` `(n, item_width)` uint8. Immutable.

    A `Node` may also hold the items of several neighbors, to handle a run as one; only the writer's cuts are encoded.
    """

    __slots__ = (
        "_child_digests",
        "_child_ends",
        "_child_ends_list",
        "_count",
        "_size",
        "checked_children",
        "format",
        "keys",
        "level",
        "values",
    )

    def __init__(self, tree_format: TreeFormat, level: int, *, keys: Keys, values: NDArray[np.uint8]) -> None:
        self.format = tree_format_of(tree_format.key_type, tree_format.value_width)
        self.level = level
        self.keys = keys
        self.values = values
        self._size = len(keys)
        self._count: int | None = None if level else self._size
        self.checked_children: set[int] = set()  # a digest always names the same bytes: once is enough
        self._child_digests: list[bytes] | None = None
        self._child_ends: NDArray[np.int64] | None = None
        self._child_ends_list: list[int] | None = None

    def __len__(self) -> int:
        return self._size

    @property
    def count(self) -> int:
        """The number of keys in this node, or below it if it is above the leaves."""
        if self._count is None:
            self._count = int(child_counts(self.values).sum())
        return self._count

    @property
    def child_digests(self) -> list[bytes]:
        """The digest of each child, for a node above the leaves."""
        if self._child_digests is None:
            self._child_digests = child_digests(self.values)
        return self._child_digests

    @property
    def child_ends(self) -> NDArray[np.int64]:
        """The number of keys in each child and all children before it `(n,)`."""
        if self._child_ends is None:
            self._child_ends = child_counts(self.values).cumsum()
        return self._child_ends

    @property
    def child_ends_list(self) -> list[int]:
        """`child_ends` as a list, for look-ups of one position."""
        if self._child_ends_list is None:
            self._child_ends_list = self.child_ends.tolist()
        return self._child_ends_list

    def replace_values(self, values: NDArray[np.uint8]) -> Node:
        """Return a node of the same keys with other values."""
        return Node(self.format, self.level, keys=self.keys, values=values)

    def slice(self, start: int, stop: int) -> Node:
        """Return a node of the items from `start` up to `stop`."""
        return Node(self.format, self.level, keys=self.keys.slice(start, stop), values=self.values[start:stop])

    def take(self, indices: NDArray[np.int64]) -> Node:
        """Return a node of the items at `indices`, ascending."""
        return Node(self.format, self.level, keys=self.keys.take(indices), values=self.values[indices])

    def encode(self) -> bytes:
        """Return the node's canonical bytes."""
        header = _HEADER.pack(
            MAGIC,
            VERSION,
            self.level,
            self.format.key_type.code,
            0,
            self.format.value_width,
            0,
            len(self.keys),
        )
        return b"".join((header, self.keys.encode(), self.values.tobytes()))


def empty_node(tree_format: TreeFormat, level: int) -> Node:
    """Return a node without items; written only as the root of the empty tree."""
    values = np.empty((0, item_width(tree_format, level)), np.uint8)
    return Node(tree_format, level, keys=tree_format.make_keys(()), values=values)


def join_nodes(nodes: Sequence[Node]) -> Node:
    """Join `nodes` into one: neighbors of one level, at least one, in key order."""
    first, *rest = nodes
    if not rest:
        return first
    keys = first.keys.concat([node.keys for node in rest])
    return Node(first.format, first.level, keys=keys, values=np.concatenate([node.values for node in nodes]))


def parent_of_root(root: Node, digest: bytes) -> Node:
    """Return a node above `root` whose only item is `root`, or without items if the tree is empty."""
    held = min(len(root), 1)
    item = digest + root.count.to_bytes(8, "little")
    return Node(
        root.format,
        root.level + 1,
        keys=root.keys.slice(len(root) - held, len(root)),
        values=np.frombuffer(item, np.uint8).reshape(1, CHILD_WIDTH)[:held],
    )


def item_width(tree_format: TreeFormat, level: int) -> int:
    """Return the size in bytes of a value in a node of that level."""
    return CHILD_WIDTH if level else tree_format.value_width


def child_digest(value: NDArray[np.uint8]) -> ObjectDigest:
    """Return the child's digest from one value of a node above the leaves."""
    return ObjectDigest(value[:DIGEST_NBYTES].tobytes())


def child_digests(values: NDArray[np.uint8]) -> list[bytes]:
    """Return each child's digest, from the values of a node above the leaves."""
    digests: list[bytes] = values[:, :DIGEST_NBYTES].view(_DIGEST)[:, 0].tolist()
    return digests


def child_counts(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the number of keys below each child `(n,)`, from the values of a node above the leaves."""
    return values[:, DIGEST_NBYTES:].view("<i8")[:, 0]


def decode_node(data: bytes) -> Node:
    """Decode a node from its canonical bytes; its values are a view of them.

    Raises `MalformedRecordError` unless re-encoding the node would give the same bytes.
    """
    tree_format, level, count = _decode_header(data)
    decode_keys = decode_int_keys if tree_format.key_type is KeyType.INT else decode_str_keys
    keys, offset = decode_keys(data, offset=_HEADER.size, count=count)
    width = item_width(tree_format, level)
    if len(data) != offset + count * width:
        raise MalformedRecordError(f"node: expected {offset + count * width} bytes, found {len(data)}")
    values = np.frombuffer(data, np.uint8, count * width, offset).reshape(count, width)
    _check_items(keys, values, level)
    return Node(tree_format, level, keys=keys, values=values)


def read_values(data: bytes, width: int) -> tuple[int, bytes]:
    """Return the level of a node and its values, joined; the keys are not decoded. Its leaves have values of `width`.

    Raises `MalformedRecordError` if the header is not that of such a node, or the values do not fit.
    """
    tree_format, level, count = _decode_header(data)
    nbytes = count * item_width(tree_format, level)
    if tree_format.value_width != width or nbytes > len(data) - _HEADER.size:
        raise MalformedRecordError(f"node: expected {count} values of {width} bytes, found {tree_format}, {len(data)}")
    return level, data[len(data) - nbytes :]


def _decode_header(data: bytes) -> tuple[TreeFormat, int, int]:
    if not _HEADER.size <= len(data) <= _MAX_NODE_NBYTES:
        raise MalformedRecordError(f"node: expected {_HEADER.size} to {_MAX_NODE_NBYTES} bytes, found {len(data)}")
    magic, version, level, code, reserved, width, reserved_too, count = _HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise MalformedRecordError(f"node: expected {MAGIC!r} version {VERSION}, found {magic!r} version {version}")
    key_type = KEY_TYPE_OF_CODE.get(code)
    if key_type is None or level > MAX_LEVEL or width > MAX_VALUE_WIDTH or reserved or reserved_too:
        raise MalformedRecordError(
            f"node: header out of range: level {level}, key type {code}, value width {width}, "
            f"reserved {reserved} and {reserved_too}"
        )
    return tree_format_of(key_type, width), level, count


def _check_items(keys: Keys, values: NDArray[np.uint8], level: int) -> None:
    if not keys.is_strictly_sorted():
        raise MalformedRecordError("node: keys are not in strictly ascending order")
    if not level:
        return
    below = child_counts(values).view("<u8") - np.uint64(1)  # of 0 keys, this is the largest number
    if not len(below) or np.maximum.reduce(below) >= _MAX_CHILD_COUNT:
        raise MalformedRecordError("node: a node above the leaves has no children, or a child without keys")
