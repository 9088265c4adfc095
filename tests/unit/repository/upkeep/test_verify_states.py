"""Verification looks into models: structure, tree and chunks have to tell of the same leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from stockroom import CorruptionError, StockRoom
from stockroom.content.state import STATE_TREE, StateRecord
from stockroom.content.structure import encode_structure
from stockroom.digest import ObjectDigest
from stockroom.repository.writing.stage_workspace import StageWorkspace
from stockroom.shelves.model.flatten import flatten
from stockroom.store.entry import EntryKind
from stockroom.trees import Tree

FLAT = torch.arange(24.0)
STATE = {
    "small": 1,
    "text": "words",
    "tied": [torch.arange(100.0)] * 2,
    "views": [FLAT[:20], FLAT[10:]],
    "large": np.arange(2 << 20),
}

Change = Callable[[StageWorkspace, StateRecord], StateRecord]


def structure_of(state: object) -> Change:
    def change(workspace: StageWorkspace, record: StateRecord) -> StateRecord:
        digest = workspace.objects.put_object(encode_structure(flatten(state, where="here").structure))
        return msgspec.structs.replace(record, structure=digest)

    return change


def entry(path: str, encoded: bytes | None) -> Change:
    def change(workspace: StageWorkspace, record: StateRecord) -> StateRecord:
        tree = workspace.snapshot.open_tree(record)
        values = np.frombuffer(encoded or b"", np.uint8).reshape(-1, STATE_TREE.value_width)
        edited: Tree = tree.edit([path] if encoded else [], values, deletes=[] if encoded else [path])
        return msgspec.structs.replace(record, root=edited.root)

    return change


def lost_structure(_: StageWorkspace, record: StateRecord) -> StateRecord:
    return msgspec.structs.replace(record, structure=bytes(32))


def lost_tree(_: StageWorkspace, record: StateRecord) -> StateRecord:
    return msgspec.structs.replace(record, root=ObjectDigest(b"\7" * 32))


NOWHERE = b"\xab" * 32
INLINE, CHUNK, CHUNK_LIST = EntryKind.INLINE, EntryKind.CHUNK, EntryKind.CHUNK_LIST


def value(kind: EntryKind, nbytes: int, payload: bytes) -> bytes:
    """An entry by its bytes, whether it makes sense or not."""
    return bytes([kind]) + nbytes.to_bytes(8, "little") + payload


DAMAGE: dict[str, tuple[Change, str]] = {
    "a leaf that is nowhere": (structure_of(STATE | {"more": 1}), "leaf 'more' is not in the tree"),
    "a leaf too many": (entry("more", value(INLINE, 1, bytes(32))), "leaf 'more' of 1 bytes does not"),
    "a leaf taken out": (entry("small", None), "leaf 'small' is not in the tree"),
    "a leaf of another size": (structure_of(STATE | {"large": np.arange(3 << 20)}), "leaf 'large' of 16777216 bytes"),
    "an entry of another size": (entry("tied/0", value(INLINE, 3, bytes(32))), "leaf 'tied/0' of 3"),
    "an entry of no kind": (entry("tied/0", value(INLINE, 400, NOWHERE)), "entry of kind 0 and shape"),
    "an entry not padded": (entry("small", value(INLINE, 1, NOWHERE)), "not padded"),
    "a chunk in no pack": (entry("tied/0", value(CHUNK, 400, NOWHERE)), f"chunk {NOWHERE.hex()}"),
    "a chunk list nowhere": (entry("large", value(CHUNK_LIST, 16 << 20, NOWHERE)), NOWHERE.hex()[:16]),
    "no structure": (lost_structure, "0" * 16),
    "no tree": (lost_tree, "07" * 8),
}


def damage(stock: StockRoom, change: Change) -> None:
    with stock.enable_write("Models"):
        stock.model["healthy"] = STATE
        stock.model["m"] = STATE
        workspace: Any = stock._pin.workspace
        record = workspace.find_state("model/m")
        workspace.put_states({"model/m": change(workspace, record)})


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found_named_and_raised_where_it_is_read(stock: StockRoom, what: str) -> None:
    change, message = DAMAGE[what]
    damage(stock, change)
    (found,) = stock.verify().damage
    assert found.where == "model/m"
    assert message in found.what
    assert ("write the same samples again" in found.repair) == (what == "a chunk in no pack")
    with StockRoom(stock.path) as reader:
        assert reader.model["healthy"].load()["text"] == "words"
        if what not in ("a leaf too many",):
            with pytest.raises(CorruptionError):
                reader.model["m"].load()


def test_healthy_models_verify_and_their_chunks_are_counted(stock: StockRoom) -> None:
    damage(stock, lambda _, record: record)
    report = stock.verify()
    assert report.damage == []
    assert report.chunks == 2 + 4  # tied, views and the chunks of the large one, each once
    with stock.enable_write():
        stock.model["m"] = STATE | {"small": 2}
    assert stock.verify().ok
