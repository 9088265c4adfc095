"""The small packs of the catalog that writers may join, in groups of one kind and about one size.

    key in the database       value
    "n" + number, u32 BE      the pack's group
    "g" + group + number      raw bytes of the pack, u64 BE
    "d" + group               empty: the group is due, it has at least `FANOUT` packs

A group is the first 8 bytes of the digest of dtype, item shape and codec, then one byte, the tier: packs of the next
tier are `FANOUT` times as large. If records are lost, the packs stay as they are until a repack.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import Final

from blake3 import blake3

from stockroom.kv import ReadTxn, WriteTxn
from stockroom.store.pack.layout import PACK_MAX_ROWS, PACK_TARGET_NBYTES
from stockroom.store.pack.manifest import Manifest

DATABASE: Final = "small"
SMALL_NBYTES: Final = PACK_TARGET_NBYTES // 2
FANOUT: Final = 16
_FANOUT_BITS: Final = 4
_NUMBER_KEY, _GROUP_KEY, _DUE_KEY = b"n", b"g", b"d"
_KIND_NBYTES: Final = 8
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")


def is_small(nbytes: int, rows: int, *, small_nbytes: int = SMALL_NBYTES) -> bool:
    """Return whether a pack of so many raw bytes and rows is worth joining with others: two fit into one."""
    return nbytes < small_nbytes and rows < PACK_MAX_ROWS // 2


def note_small(txn: WriteTxn, number: int, manifest: Manifest) -> None:
    """Record a new pack if it is small; with `FANOUT` packs, its group is due."""
    layout = manifest.layout
    nbytes = manifest.units * layout.unit_nbytes
    if not is_small(nbytes, manifest.rows):
        return
    kind = repr((layout.dtype, layout.item_shape, str(layout.codec))).encode()
    tier = max(nbytes.bit_length() - 1, 0) // _FANOUT_BITS
    group = blake3(kind).digest(_KIND_NBYTES) + bytes([tier])
    txn.put(DATABASE, _NUMBER_KEY + _U32.pack(number), group)
    txn.put(DATABASE, _GROUP_KEY + group + _U32.pack(number), _U64.pack(nbytes))
    if len(list_group(txn, group, FANOUT)) == FANOUT:
        txn.put(DATABASE, _DUE_KEY + group, b"")


def forget_small(txn: WriteTxn, number: int) -> None:
    """Remove the record of a pack that leaves the catalog, or is to stay as it is. Harmless if there is none."""
    group = txn.get(DATABASE, _NUMBER_KEY + _U32.pack(number))
    if group is not None:
        txn.delete(DATABASE, _NUMBER_KEY + _U32.pack(number))
        txn.delete(DATABASE, _GROUP_KEY + group + _U32.pack(number))


def is_joinable(txn: ReadTxn, number: int) -> bool:
    """Return whether there is a record of a pack."""
    return txn.get(DATABASE, _NUMBER_KEY + _U32.pack(number)) is not None


def list_due(txn: ReadTxn) -> list[bytes]:
    """Return the groups that are due."""
    return [key[len(_DUE_KEY) :] for key, _ in txn.iterate(DATABASE, prefix=_DUE_KEY)]


def forget_due(txn: WriteTxn, group: bytes) -> None:
    """Take a group as not due until another pack is added to it."""
    txn.delete(DATABASE, _DUE_KEY + group)


def list_group(txn: ReadTxn, group: bytes, limit: int) -> list[tuple[int, int]]:
    """Return the number and the raw bytes of each of up to `limit` packs of a group, oldest first."""
    found = islice(txn.iterate(DATABASE, prefix=_GROUP_KEY + group), limit)
    return [(_U32.unpack(key[-_U32.size :])[0], _U64.unpack(value)[0]) for key, value in found]
