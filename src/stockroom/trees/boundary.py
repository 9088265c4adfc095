"""The boundaries of nodes: where a level of a tree is cut.

The cut depends on keys and sizes alone, so the same content is cut the same way whatever its history. Node sizes follow
a Weibull distribution of shape 4 and mean 16 KiB: an item of `s` bytes that brings its node to `x` bytes closes it with
probability `s * 4 * x**3 / SCALE**4`. All of it is integer arithmetic on a fixed table:

- the level's salt is `mix((level + 1) * 0x9E3779B97F4A7C15)`, with `mix` the finalizer of splitmix64;
- an item's 32-bit hash `h` is the upper half of `mix(key hash ^ salt)`;
- its threshold `t` is the first table size whose hazard exceeds `h // s`, or the largest size if none does;
- it closes its node once the node's running size, the item included, is at least `t`.

Reference: Dolt, "Prolly Trees" (go/store/prolly/tree/node_splitter.go), which uses floating point.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stockroom.trees.keys import Keys

MIN_NODE_SIZE = 2 * 1024
MAX_NODE_SIZE = 64 * 1024
"""Bytes of items at which a node is closed whatever its hash; the closing item may go beyond."""

MAX_LEVEL = 31
"""The highest possible level of a tree: each level has at most half the nodes of the one below."""

_STEP = 64
_SCALE = 18_076  # 16384 / gamma(5/4)
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1

_SIZES = np.arange(MIN_NODE_SIZE, MAX_NODE_SIZE + _STEP, _STEP, dtype=np.int64)
_HAZARDS = np.array([(4 * size**3 << 32) // _SCALE**4 for size in _SIZES.tolist()], dtype=np.int64)


def list_ends(keys: Keys, item_width: int, *, level: int) -> list[int]:
    """Return the index after each item that closes a node, for items that begin at a node's start.

    `item_width` is the size of a value in bytes. Items after the last end belong to a node not yet closed.
    """
    sizes = keys.encoded_sizes() + item_width
    running = np.cumsum(sizes)
    reach = np.maximum.accumulate(running - _thresholds(keys, sizes, level))
    ends: list[int] = []
    closed = np.int64(0)
    while (closing := int(reach.searchsorted(closed))) < len(reach):
        ends.append(closing + 1)
        closed = running[closing]
    return ends


def _thresholds(keys: Keys, sizes: NDArray[np.int64], level: int) -> NDArray[np.int64]:
    hashes = (_mix(keys.hashes() ^ _SALTS[level]) >> np.uint64(32)).view(np.int64)
    hashes //= sizes
    return _SIZES[np.minimum(_HAZARDS.searchsorted(hashes, side="right"), len(_SIZES) - 1)]


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Apply splitmix64's finalizer; overwrites `words`."""
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


_SALTS = _mix(np.array([level * _GOLDEN & _MASK for level in range(1, MAX_LEVEL + 2)], np.uint64))
