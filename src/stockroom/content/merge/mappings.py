"""Three-way merge of small JSON mappings, key by key: a column's attrs, a model's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from stockroom.content.merge.conflict import Arbiter, Conflict
from stockroom.content.merge.three_way import find_side
from stockroom.digest import compute_digest

_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")


def merge_mappings(
    path: str,
    kind: str,
    arbiter: Arbiter,
    *,
    base: Mapping[str, Any],
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the merged mapping; undecided conflicts are recorded under `kind` and the key, and keep ours."""
    merged: dict[str, Any] = {}
    for name in dict.fromkeys([*ours, *theirs]):
        base_value, our_value, their_value = (_encode(side, name) for side in (base, ours, theirs))
        side = find_side(base_value, our_value, their_value)
        if side is None:
            digests = [
                None if value is None else compute_digest(value).hex() for value in (base_value, our_value, their_value)
            ]
            side = arbiter.choose(Conflict(path, name_key(kind, name), kind, *digests))
        source = theirs if side == "theirs" else ours
        if name in source:
            merged[name] = source[name]
    return merged


def name_key(kind: str, name: str) -> str:
    """Return the key of a conflict about one key of such a mapping."""
    return f"{kind} {name}"


def take_keys(
    mapping: Mapping[str, Any], source: Mapping[str, Any], kind: str, conflicts: list[Conflict]
) -> dict[str, Any]:
    """Return `mapping` with the keys in conflict as `source` has them."""
    taken = {conflict.key for conflict in conflicts if conflict.kind == kind}
    return {
        name: (source if name_key(kind, name) in taken else mapping)[name]
        for name in dict.fromkeys([*mapping, *source])
        if name in (source if name_key(kind, name) in taken else mapping)
    }


def _encode(side: Mapping[str, Any], name: str) -> bytes | None:
    """Return a value's bytes for comparison, as Python equates 1, 1.0 and True; None if the key is absent."""
    return _ENCODER.encode(side[name]) if name in side else None
