"""Trees and entries, read from sections 6 and 7 of docs/format.md alone."""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TypeAlias

from blake3 import blake3
from tests.golden.format_msgpack import Cursor, demand

Key: TypeAlias = int | str
GetObject: TypeAlias = Callable[[bytes], bytes]


@dataclass
class Node:
    """6.1"""

    level: int
    key_type: str
    width: int
    keys: list[Key]
    values: list[bytes]

    @property
    def children(self) -> list[tuple[bytes, int]]:
        return [(value[:32], struct.unpack("<Q", value[32:])[0]) for value in self.values]


def encode_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def read_node(data: bytes) -> Node:
    """6.1"""
    demand(len(data) <= 70_676, "a node is at most 70,676 bytes")
    cursor = Cursor(data)
    magic, version, level, code, zero, width, zero_too, n = cursor.unpack("<4sBBBBHHI")
    demand((magic, version, zero, zero_too) == (b"SRnd", 1, 0, 0), "magic, version and reserved of a node")
    demand(level <= 31 and code in (1, 2) and width <= 4096, "level, key type and width of a node")
    keys = _read_int_keys(cursor, n) if code == 1 else _read_str_keys(cursor, n)
    values = [cursor.take(40 if level else width) for _ in range(n)]
    cursor.finish()
    order = keys if code == 1 else [encode_text(str(key)) for key in keys]
    demand(all(a < b for a, b in pairwise(order)), "keys ascend strictly")  # type: ignore[operator]
    node = Node(level, {1: "int", 2: "str"}[code], width, keys, values)
    if level:
        demand(n > 0 and all(1 <= count <= 1 << 48 for _, count in node.children), "keys below a child: 1 to 2^48")
    return node


def _read_int_keys(cursor: Cursor, n: int) -> list[Key]:
    demand(8 * n <= len(cursor.data), "more keys are claimed than there are bytes")
    keys: list[Key] = []
    bits = 0
    for distance in cursor.unpack(f"<{n}Q"):
        bits = (bits + distance) % (1 << 64)
        keys.append(bits - (1 << 64) if bits >> 63 else bits)
    return keys


def _read_str_keys(cursor: Cursor, n: int) -> list[Key]:
    demand(4 * n <= len(cursor.data), "more keys are claimed than there are bytes")
    ends = [0, *cursor.unpack(f"<{n}I")]
    keys: list[Key] = []
    for start, end in pairwise(ends):
        demand(0 <= end - start <= 1024, "a key's text is at most 1,024 bytes")
        keys.append(cursor.take(end - start).decode("utf-8", "surrogatepass"))
    return keys


def read_tree(get: GetObject, root: bytes, *, key_type: str, width: int) -> dict[Key, bytes]:
    """6: every entry of a tree, whose nodes and cuts are checked."""
    levels: list[list[list[tuple[Key, bytes]]]] = []  # by level, by node, the items

    def visit(digest: bytes, expected: Node | None, count: int | None, last: Key | None) -> int:
        node = read_node(get(digest))
        demand((node.key_type, node.width) == (key_type, width), "all nodes have one key type and width")
        demand(expected is None or node.level == expected.level - 1, "a child has the level below its parent's")
        demand(expected is None or (node.keys and node.keys[-1] == last), "a parent's key is its child's last key")
        while len(levels) <= node.level:
            levels.append([])
        levels[node.level].append(list(zip(node.keys, node.values, strict=True)))
        found = len(node.keys)
        if node.level:
            found = sum(visit(*child, key) for child, key in _with_parent(node))
        demand(count is None or found == count, "a child has as many keys as its parent says")
        return found

    visit(root, None, None, None)
    for level, nodes in enumerate(levels):
        items = [item for node in nodes for item in node]
        demand(cut(items, level, key_type) == [len(node) for node in nodes], f"level {level} is cut by the rule")
        demand((len(nodes) == 1) == (level == len(levels) - 1), "a level of one node is the root")
    entries = [item for node in levels[0] for item in node]
    demand(len(dict(entries)) == len(entries), "each key stands once")
    return dict(entries)


def _with_parent(node: Node) -> list[tuple[tuple[bytes, Node, int], Key]]:
    return [((digest, node, count), key) for (digest, count), key in zip(node.children, node.keys, strict=True)]


WORD = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
SIZES = [2048 + 64 * i for i in range(993)]
HAZARDS = [(4 * size**3 << 32) // 18076**4 for size in SIZES]


def mix(x: int) -> int:
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & WORD
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & WORD
    return x ^ x >> 31


@cache
def salt(level: int) -> int:
    return mix((level + 1) * GOLDEN & WORD)


def cut(items: list[tuple[Key, bytes]], level: int, key_type: str) -> list[int]:
    """6.2: how many items each node of a level has."""
    nodes: list[int] = []
    size = count = 0
    for key, value in items:
        if key_type == "int":
            nbytes, bits = 8 + len(value), int(key) & WORD
        else:
            text = encode_text(str(key))
            nbytes, bits = len(text) + 4 + len(value), int.from_bytes(blake3(text).digest()[:8], "little")
        h = mix(bits ^ salt(level)) >> 32
        size, count = size + nbytes, count + 1
        first_above = bisect_right(HAZARDS, h // nbytes)
        if size >= (SIZES[first_above] if first_above < len(SIZES) else 65536):
            nodes.append(count)
            size = count = 0
    return [*nodes, count] if count or not nodes else nodes


@dataclass
class Entry:
    """7: `payload` is the raw bytes where the kind is 0, else a digest."""

    kind: int
    shape: list[int]
    nbytes: int
    payload: bytes


def measure_entry(shape: list[int | None], itemsize: int) -> int:
    """7: the width of a column's values."""
    if None in shape:
        return 1 + 8 * len(shape) + 32
    nbytes = itemsize * math.prod(n or 0 for n in shape)
    return nbytes if nbytes <= 32 else 32


def choose_kind(nbytes: int) -> int:
    return 0 if nbytes <= 32 else 1 if nbytes <= 4_194_304 else 2


def read_entry(value: bytes, shape: list[int | None], itemsize: int) -> Entry:
    """7"""
    if None not in shape:
        fixed = [n or 0 for n in shape]
        nbytes = itemsize * math.prod(fixed)
        return Entry(choose_kind(nbytes), fixed, nbytes, value)
    cursor = Cursor(value)
    kind, *found = cursor.unpack(f"<B{len(shape)}Q")
    payload = cursor.take(32)
    cursor.finish()
    nbytes = itemsize * math.prod(found)
    demand(nbytes <= 1 << 60 and kind == choose_kind(nbytes), "kind and shape agree")
    demand(all(n is None or n == m for n, m in zip(shape, found, strict=True)), "the shape agrees with the column's")
    if kind == 0:
        demand(not any(payload[nbytes:]), "inline payloads are padded with zeros")
        payload = payload[:nbytes]
    return Entry(kind, found, nbytes, payload)
