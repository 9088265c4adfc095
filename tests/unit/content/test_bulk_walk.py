"""A walk of many roots at once reports what a walk of one after the other does, and leaves damage to it."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.content.test_walk import Told

from stockroom import CorruptionError, StockRoom
from stockroom.content.bulk_walk import BulkWalk
from stockroom.content.walk import Walk
from stockroom.digest import CommitId, ObjectDigest
from stockroom.trees import NodeCache


def make_history(stock: StockRoom) -> list[ObjectDigest]:
    """The roots of a history of every kind of record and change, newest first."""
    random = np.random.default_rng(0)
    with stock.enable_write("columns"):
        stock.data["image"] = random.integers(0, 256, (3000, 10, 10), np.uint8)
        stock.data["label"] = np.arange(30_000)
        stock.data["twin"] = stock.data["image"][:40]
        stock.data["text"] = {f"key {number}": "word " * number for number in range(60)}
        for name, nbytes in (("large", 5 << 20), ("larger", 6 << 20)):  # entries of one width, each a list of chunks
            stock.data[name] = [np.arange(nbytes, dtype=np.uint8)]
        stock.data.create("series", dtype="int32", shape=(None,))
        stock.data["series"].extend([np.arange(2 << 20, dtype=np.int32), np.arange(90, dtype=np.int32)])
        stock.model.save("net", {"w": np.ones((300, 30)), "b": np.zeros(3), "large": np.ones(1 << 20)})
        stock.experiment["lr"] = 0.1
    for number in range(12):
        with stock.enable_write(f"change {number}"):
            stock.data["image"].extend(random.integers(0, 256, (1, 10, 10), np.uint8))
            stock.data["image"][int(random.integers(3000))] = random.integers(0, 256, (10, 10), np.uint8)
            stock.data["label"].extend(np.array([number]))
            stock.data["text", f"key {number}"] = "another word"
            stock.experiment["lr"] = number
            if number % 4 == 0:
                stock.model.save("net", {"w": np.full((300, 30), number), "b": np.zeros(3)})
            if number == 5:
                del stock.data["twin"]
                del stock.data["text", "key 50"]
    refs = stock._repository.refs
    return [refs.get_commit(CommitId(bytes.fromhex(entry.id))).tree_digest for entry in stock.log()]


def tell(walk_type: type[Walk], nodes: NodeCache) -> tuple[Told, Walk]:
    told = Told()
    return told, walk_type(nodes, on_objects=told.objects.extend, on_chunks=told.add_chunks)


def follow(walk: Walk, roots: list[ObjectDigest]) -> None:
    if isinstance(walk, BulkWalk):
        walk.add_contents(roots)
    else:
        for root in roots:
            walk.add_content(root)
    walk.flush()


@pytest.mark.parametrize("begin", [0, 4], ids=["all at once", "in two parts"])
def test_it_reports_the_same_objects_and_chunks(stock: StockRoom, begin: int) -> None:
    roots = make_history(stock)
    (told, walk), (bulk_told, bulk) = (tell(kind, stock._repository.nodes) for kind in (Walk, BulkWalk))
    for some in (roots[:begin], roots[begin:], roots):
        follow(walk, some)
        follow(bulk, some)
    assert set(bulk_told.objects) == set(told.objects)
    assert all(bulk.has(digest) for digest in told.objects)
    lengths, bulk_lengths = (dict(zip(one.chunks, one.lengths, strict=True)) for one in (told, bulk_told))
    assert bulk_lengths == lengths
    assert len(bulk_told.chunks) < 1.1 * len(told.chunks)  # a leaf costs the look-up of what is new in it


def test_entries_of_two_kinds_that_are_equal_are_both_followed(stock: StockRoom) -> None:
    """A sample whose bytes are a list of chunks has the digest under which that list is stored."""
    with stock.enable_write("lists"):
        stock.data["large"] = [np.arange(5 << 20, dtype=np.uint8)]
    repository = stock._repository
    snapshot = repository.open_snapshot(repository.resolve("main"))
    entry = snapshot.open_tree(snapshot.find_column("data/large")).get(0)
    copy = np.frombuffer(repository.objects.get_object(ObjectDigest(entry or b"")), np.uint8)
    with stock.enable_write("a copy"):
        stock.data["copy"] = [copy]
    head = repository.refs.get_commit(repository.resolve("main")).tree_digest
    (told, walk), (bulk_told, bulk) = (tell(kind, repository.nodes) for kind in (Walk, BulkWalk))
    follow(walk, [head])
    follow(bulk, [head])
    assert set(bulk_told.chunks) == set(told.chunks)
    assert len(set(told.chunks)) == 3


def test_nothing_is_read_twice(stock: StockRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    roots, read = make_history(stock), []
    objects = stock._repository.objects
    get_objects = objects.get_objects
    monkeypatch.setattr(objects, "get_objects", lambda digests: read.extend(digests) or get_objects(digests))
    _, bulk = tell(BulkWalk, NodeCache(objects))
    follow(bulk, roots)
    follow(bulk, roots)
    assert len(read) == len(set(read))


def test_a_missing_object_is_an_error_every_time(stock: StockRoom) -> None:
    roots = make_history(stock)
    repository = stock._repository
    column = repository.open_snapshot(repository.resolve("main")).find_column("data/image")
    leaf = repository.nodes.read(column.root).child_digests[1]
    repository.env.update(lambda txn: txn.delete("objects", leaf))
    with StockRoom(stock.path) as fresh:
        _, bulk = tell(BulkWalk, NodeCache(fresh._repository.objects))
        for _ in range(2):
            with pytest.raises(CorruptionError):
                follow(bulk, roots)
        assert bulk.has(roots[0])
        assert not bulk.has(leaf)
