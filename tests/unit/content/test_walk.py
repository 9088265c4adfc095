"""A walk follows what is referred to, stops at what it does not know, and tells each thing once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import pytest

from stockroom import CorruptionError, StockRoom
from stockroom.content.column import ColumnRecord
from stockroom.content.snapshot import ROOT_FORMAT
from stockroom.content.walk import Walk
from stockroom.digest import ObjectDigest
from stockroom.refs import RefChange, Stage
from stockroom.store.chunking import split_tensor
from stockroom.testing.chunk_lists import list_chunks
from stockroom.trees import NodeCache, Tree


@dataclass
class Told:
    """Everything a walk told, in order."""

    objects: list[bytes] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def walk(self, nodes: NodeCache) -> Walk:
        return Walk(nodes, on_objects=self.objects.extend, on_chunks=self.add_chunks)

    def add_chunks(self, digests: np.ndarray, lengths: np.ndarray) -> None:
        self.chunks += [digest.tobytes() for digest in digests]
        self.lengths += lengths.tolist()


def put_content(nodes: NodeCache, **records: bytes) -> ObjectDigest:
    digests = np.frombuffer(b"".join(map(nodes.put_object, records.values())), np.uint8).reshape(-1, 32)
    return Tree.build(nodes, ROOT_FORMAT, [f"data/{name}" for name in records], digests).root


def make_column(nodes: NodeCache, nbytes: int, payloads: Sequence[bytes]) -> bytes:
    """The record of a column of bytes of one length, whose entries have these digests."""
    record = ColumnRecord("uint8", (nbytes,), "int", "auto", bytes(32), {})
    values = np.frombuffer(b"".join(payloads), np.uint8).reshape(-1, 32)
    return record.replace_root(Tree.build(nodes, record.tree_format, range(len(payloads)), values).root).encode()


@pytest.fixture
def nodes(stock: StockRoom) -> NodeCache:
    return stock._repository.nodes


def test_an_object_that_is_no_known_record_stops_gc(stock: StockRoom, nodes: NodeCache) -> None:
    with stock.enable_write("One"):
        stock.data["a"] = np.zeros((3, 100), np.uint8)
    root = put_content(nodes, future=b"SRzz\x01\x80")
    change = RefChange(kind="stage", stages={"work": Stage(base=None, root=root)})
    stock._repository.refs.apply(change, objects=stock._repository.objects)
    with pytest.raises(CorruptionError, match="record"):
        stock.gc(grace=timedelta(0))
    assert any(damage.where == "data/future" for damage in stock.verify().damage)


def test_each_thing_is_told_once_and_only_after_flush_all_of_it(nodes: NodeCache) -> None:
    chunks = [bytes([number]) * 32 for number in range(5)]
    root = put_content(nodes, a=make_column(nodes, 100, chunks), b=make_column(nodes, 100, chunks[:4]))
    told = Told()
    walk = told.walk(nodes)
    for _ in range(2):
        walk.add_content(root)
        walk.flush()
    assert len(told.objects) == len(set(told.objects)) == 5
    assert all(walk.has(digest) for digest in told.objects)
    assert told.chunks == chunks + chunks[:4]
    assert told.lengths == [100] * 9


def test_with_a_base_only_what_it_does_not_refer_to_is_told(nodes: NodeCache) -> None:
    chunks = [number.to_bytes(32, "little") for number in range(3000)]
    before = put_content(nodes, a=make_column(nodes, 100, chunks), b=make_column(nodes, 99, chunks))
    changed = [*chunks[:1000], bytes([9]) * 32, *chunks[1001:]]
    after = put_content(nodes, a=make_column(nodes, 100, changed), b=make_column(nodes, 99, chunks))
    told = Told()
    walk = told.walk(nodes)
    walk.add_content(after, before)
    walk.flush()
    assert told.chunks == [bytes([9]) * 32]
    assert len(told.objects) == 4  # nodes of two trees, of the column's the root and one leaf, and its record


def test_a_walk_after_another_goes_on_from_there_and_leaves_it_alone(nodes: NodeCache) -> None:
    first, second = (put_content(nodes, a=make_column(nodes, 100, [bytes([n]) * 32])) for n in (1, 2))
    shared = Told().walk(nodes)
    shared.add_content(first)
    told = Told()
    walk = Walk(nodes, on_chunks=told.add_chunks, after=shared)
    walk.add_content(first)
    walk.add_content(second)
    walk.flush()
    assert told.chunks == [bytes([2]) * 32]
    assert walk.has(second)
    assert not shared.has(second)


def test_a_chunk_list_that_disagrees_with_its_entry_is_found_and_others_are_followed(nodes: NodeCache) -> None:
    listed = list_chunks(split_tensor(bytes(5 << 20), 4 << 20), [bytes([1]) * 32, bytes([2]) * 32]).encode()
    digest = ObjectDigest(nodes.put_object(listed))
    told = Told()
    walk = told.walk(nodes)
    with pytest.raises(CorruptionError, match="expected 6291456 bytes, found 5242880"):
        walk.add_content(put_content(nodes, wrong=make_column(nodes, 6 << 20, [digest])))
    assert not walk.has(digest)
    walk.add_content(put_content(nodes, right=make_column(nodes, 5 << 20, [digest, digest])))
    walk.flush()
    assert walk.has(digest)
    assert told.lengths == [4 << 20, 1 << 20]


@pytest.mark.parametrize("versions", [50, 200])
def test_a_chunk_that_many_versions_of_a_leaf_have_is_told_once(nodes: NodeCache, versions: int) -> None:
    chunks = [number.to_bytes(32, "little") for number in range(versions)]
    told, again = Told(), Told()
    walk = told.walk(nodes)
    thorough = Walk(nodes, on_chunks=again.add_chunks, tells_again=True)
    for count in range(versions, 0, -1):  # as history is walked: the newest version first
        root = put_content(nodes, a=make_column(nodes, 100, chunks[:count]), b=make_column(nodes, 100, chunks[:count]))
        walk.add_content(root)
        thorough.add_content(root)
    walk.flush()
    thorough.flush()
    assert sorted(told.chunks) == sorted(chunks)  # `a` and `b` are one record
    assert len(again.chunks) == versions * (versions + 1) // 2


def test_a_chunk_is_told_again_if_it_was_not_taken(nodes: NodeCache) -> None:
    chunks = [bytes([number]) * 32 for number in range(5)]
    told = Told()
    refusals = [True, False]

    def take(digests: np.ndarray, lengths: np.ndarray) -> None:
        if refusals.pop(0):
            raise CorruptionError("lost")
        told.add_chunks(digests, lengths)

    walk = Walk(nodes, on_chunks=take)
    walk.add_content(put_content(nodes, a=make_column(nodes, 100, chunks[:4])))
    with pytest.raises(CorruptionError, match="lost"):
        walk.flush()
    walk.add_content(put_content(nodes, a=make_column(nodes, 100, chunks)))
    walk.flush()
    assert told.chunks == chunks
